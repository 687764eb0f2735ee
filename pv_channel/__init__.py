# SPDX-License-Identifier: Apache-2.0
"""The protocol that pv-host-agent and pv-guest-agent speak over a Xen PV channel: bytes in, events out, no I/O.

PROTOCOL.md is the specification. Nothing here opens a file, reads a clock, or logs; secrets and key makers are arguments.
"""

#: The channel this product serves; its entry stands in channel-registry.txt.
CHANNEL_NAME = "org.pvchannel.config.1"
