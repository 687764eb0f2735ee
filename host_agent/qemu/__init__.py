# SPDX-License-Identifier: Apache-2.0
"""QEMU's side of a channel's life: plugged into a running guest, moved with it, and the state that travels along."""
