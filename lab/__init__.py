# SPDX-License-Identifier: Apache-2.0
"""Real Xen on a laptop: hypervisor, dom0 and guests inside QEMU's emulation, built from Debian's packages and this checkout."""
