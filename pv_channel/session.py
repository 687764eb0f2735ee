# SPDX-License-Identifier: Apache-2.0
"""The two ends of one channel's byte stream: bytes in, events out, bytes to send. No bytes whatsoever make one raise.

The loop that drives an end is always the same (the clock and the stream are the driver's):

    for event in end.receive(bytes_that_came):
        ...                                      # may call end.send(message)
    write(end.data_to_send())
"""

from __future__ import annotations

from pv_channel.events import (
    Counters,
    FromGuest,
    FromHost,
    GuestEvent,
    Heard,
    HostEvent,
    Lost,
    Opened,
    Refused,
    Sealed,
    WrongChannel,
)
from pv_channel.guest import Guest
from pv_channel.host import MAX_REPEATS, Host

__all__ = [
    "MAX_REPEATS",
    "Counters",
    "FromGuest",
    "FromHost",
    "Guest",
    "GuestEvent",
    "Heard",
    "Host",
    "HostEvent",
    "Lost",
    "Opened",
    "Refused",
    "Sealed",
    "WrongChannel",
]
