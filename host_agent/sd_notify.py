# SPDX-License-Identifier: Apache-2.0
"""Tell systemd how we are (sd_notify(3)); where no systemd asked, do nothing."""

from __future__ import annotations

import os
import socket


def sd_notify(message: str) -> None:
    """Send *message*, such as ``READY=1``; a notify socket that is gone is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
        try:
            end.setblocking(False)
            end.sendto(message.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError:  # systemd restarts; it asks again by itself
            return
