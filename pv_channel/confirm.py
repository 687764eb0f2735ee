# SPDX-License-Identifier: Apache-2.0
"""How a network change is confirmed: by which check, and until when (a document's ``confirm``)."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec

from pv_channel.addresses import Address
from pv_channel.names import DomainName
from pv_channel.values import share_defaults

#: Longer than any DHCP client tries, shorter than an operator waits.
MAX_SECONDS: Final = 600
MIN_SECONDS: Final = 5
DEFAULT_SECONDS: Final = 60

_ENDPOINT: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9.-]{1,253})):(?P<port>[0-9]{1,5})", re.ASCII
)


class Confirm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A change of a running guest's network is put back unless the host confirms it within *within* seconds.

    *check* is what the host wants to see first: what the guest itself sees (link, addresses, gateway), a TCP connection from
    dom0 to *tcp* (``HOST:PORT``), a *command* in dom0 that ends with status 0; or nothing, and then nothing is waited for.
    *tcp* and *command* are the host's business and do not cross the channel.
    """

    check: Literal["guest", "none", "tcp", "command"] = "guest"
    within: Annotated[int, msgspec.Meta(ge=MIN_SECONDS, le=MAX_SECONDS)] = DEFAULT_SECONDS
    tcp: str | msgspec.UnsetType = msgspec.UNSET
    command: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        share_defaults(self)
        if self.tcp is not msgspec.UNSET:
            self.endpoint()
        for check, value in (("tcp", self.tcp), ("command", self.command)):
            if value is not msgspec.UNSET and self.check != check:
                raise ValueError(f"'{check}' is there, and 'check' is '{self.check}'")

    def endpoint(self) -> tuple[str, int]:
        """Host and port of *tcp*; raise `ValueError`."""
        match = _ENDPOINT.fullmatch("" if self.tcp is msgspec.UNSET else self.tcp)
        port = int(match["port"]) if match else 0
        if match is None or not 1 <= port <= 65535:
            raise ValueError("'tcp' expected HOST:PORT, or [IPv6]:PORT")
        if match["six"]:
            return Address(match["six"]), port
        host = match["host"]
        return (Address(host) if host.rpartition(".")[2].isdigit() else DomainName(host)), port

    def for_guest(self) -> Confirm:
        """Without what is the host's business."""
        if self.tcp is msgspec.UNSET and self.command is msgspec.UNSET:
            return self
        return msgspec.structs.replace(self, tcp=msgspec.UNSET, command=msgspec.UNSET)
