# SPDX-License-Identifier: Apache-2.0
"""Backend programs after QEMU's conventions: one of ours for a channel, other applications', and what shows that one conforms."""
