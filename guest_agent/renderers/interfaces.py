# SPDX-License-Identifier: Apache-2.0
"""Which of the machine's network interfaces a part of the document means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pv_channel.names import InterfaceName

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.interfaces import Ethernet

_NET: Final = "/sys/class/net"


def present(system: System, key: str, ethernet: Ethernet) -> str | None:
    """The name of the interface that is meant, or None where the machine has none such.

    By MAC address, hardware is preferred: a bridge or a VLAN has the address of the interface beneath it.
    """
    if ethernet.match is msgspec.UNSET:
        return key if system.exists(f"{_NET}/{key}") else None
    same = [name for name in system.names(_NET) if system.text(f"{_NET}/{name}/address", 64).strip() == ethernet.match.macaddress]
    hardware = [name for name in same if system.exists(f"{_NET}/{name}/device")]
    return next(filter(_is_name, hardware or same), None)


def _is_name(name: str) -> bool:
    """Whether a name may stand in a configuration file: the kernel takes almost any bytes (dev_valid_name)."""
    try:
        InterfaceName(name)
    except ValueError:
        return False
    return True
