# SPDX-License-Identifier: Apache-2.0
"""Host, port and options of an internet address in a uri of QEMU's (its `inet_parse`), read and written."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypedDict

from host_agent.qemu.migration_address import UINT16_MAX, BadAddress, BadChannel
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.qemu.migration_address import InetSocketAddress, RdmaAddress


class InetMembers(TypedDict, total=False):
    """What a uri can say of an internet address."""

    host: str
    port: str
    to: int
    ipv4: bool
    ipv6: bool
    keep_alive: bool
    mptcp: bool


#: QEMU copies them into buffers of so many bytes, and takes what is too long for something else.
_HOST_BYTES: Final = 64
_PORT_BYTES: Final = 32
_HOST: Final = r"\[(?P<bracketed>[^],]+)\]|(?P<plain>[^[:,][^:,]*)"
_ADDRESS: Final = re.compile(rf"(?:{_HOST})?:(?P<port>[^:,]+)(?P<options>,.*)?", re.DOTALL)
_FLAGS: Final = ("ipv4", "ipv6", "keep_alive", "mptcp")
#: After "tcp:" QEMU 7.2 takes these for another form of uri; not so in brackets.
_FORMS: Final = ("tcp", "unix", "vsock", "fd")


def read_inet(text: str, *, reserved: bool = False) -> InetMembers:
    """The members that *text* says; raise `BadAddress`. Where *reserved*, no host has the name of a form of uris."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise BadAddress(_unparsed(text))
    host, port = match["bracketed"] or match["plain"] or "", match["port"]
    if reserved and match["plain"] in _FORMS:
        raise BadAddress(f"QEMU 7.2 would read another address from this; cure: the host in brackets, [{host}]")
    if len(host.encode(errors="replace")) > _HOST_BYTES or len(port.encode(errors="replace")) > _PORT_BYTES:
        raise BadAddress(f"error parsing address '{printable(text)}': the host or the port is too long")
    return {"host": host, "port": port, **_options((match["options"] or "").split(",")[1:])}


def written_inet(address: InetSocketAddress | RdmaAddress) -> str:
    """*address* without the form before it; raise `BadChannel` where it cannot be said."""
    if address.numeric:
        raise BadChannel("no uri can say of an address that it is numeric")
    brackets = ":" in address.host or address.host in _FORMS
    said = [f"[{address.host}]:{address.port}" if brackets else f"{address.host}:{address.port}"]
    if address.to is not None:
        said.append(f"to={address.to}")
    flags = ((name.replace("_", "-"), getattr(address, name)) for name in _FLAGS)
    said += [f"{name}={'on' if value else 'off'}" for name, value in flags if value is not None]
    text = ",".join(said)
    if not _means(text, replace(address, numeric=None)):
        raise BadChannel(f"no uri can say the host '{printable(address.host)}' and the port '{printable(address.port)}'")
    return text


def _means(text: str, address: InetSocketAddress | RdmaAddress) -> bool:
    try:
        return type(address)(**read_inet(text)) == address
    except BadChannel:
        return False


def _unparsed(text: str) -> str:
    shown = printable(text)
    if text.startswith("["):
        return f"error parsing IPv6 address '{shown}'; cure: [ADDRESS]:PORT"
    what = "port in address" if text.startswith(":") else "address"
    return f"error parsing {what} '{shown}'; cure: HOST:PORT, an IPv6 address in brackets"


def _options(options: Sequence[str]) -> InetMembers:
    """The options, each of them once: QEMU overlooks one that it does not know, and of two it takes the first or the last."""
    said: InetMembers = {}
    for option in options:
        name, equals, value = option.partition("=")
        field = name.replace("-", "_")
        if field in said:
            raise BadAddress(f"the option '{printable(name)}' is there twice")
        if name == "to":
            said["to"] = _to(value)
        elif field in _FLAGS and "_" not in name:
            said[field] = _flag(name, equals + value)  # type: ignore[literal-required]  # one of _FLAGS
        else:
            raise BadAddress(f"there is no option '{printable(name)}', and QEMU would not say so")
    return said


def _to(value: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", value) or int(value) > UINT16_MAX:
        raise BadAddress("error parsing to= argument")
    return int(value)


def _flag(name: str, value: str) -> bool:
    if value not in ("", "=on", "=off"):
        raise BadAddress(f"error parsing '{name}' flag '{printable(value)}'")
    return value != "=off"
