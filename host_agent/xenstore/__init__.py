# SPDX-License-Identifier: Apache-2.0
"""Xenstore as dom0 reaches it: the daemon's unix socket, its wire protocol, and what can go wrong on it."""
