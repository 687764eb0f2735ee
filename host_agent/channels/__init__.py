# SPDX-License-Identifier: Apache-2.0
"""Where the VMs' channels are in dom0, who is at their other ends, and how a stream to one is had."""
