# SPDX-License-Identifier: Apache-2.0
"""Prefix lengths and the masks that older formats write for them, in both families."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from pv_channel.errors import BadDocument
from pv_channel.text import printable


def prefix_length(mask: object, path: str) -> int:
    """What *mask*, which stands at *path*, means: ``255.255.255.0``, ``ffff:ffff::`` or a number; raise `BadDocument`."""
    text = str(mask)
    if text.isascii() and text.isdigit() and len(text) <= 3:
        return int(text)
    try:
        address = ip_address(text)
    except ValueError:
        raise BadDocument(path, f"expected a netmask or a prefix length, got '{printable(text, 40)}'") from None
    bits = int(address)
    ones = bits.bit_count()
    if bits != ((1 << ones) - 1) << (address.max_prefixlen - ones):
        raise BadDocument(path, f"'{text}' is no netmask: its ones are not all in front")
    return ones


def mask_of(version: int, prefix: int) -> str:
    """The mask of *prefix* bits in IPv4's or IPv6's writing."""
    kind = IPv6Network if version == 6 else IPv4Network
    return str(kind((0, prefix)).netmask)
