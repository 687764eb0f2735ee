# SPDX-License-Identifier: Apache-2.0
"""Which of the machine's network interfaces a part of the document means."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.failure import ItemError
from pv_channel.names import InterfaceName

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.interfaces import Ethernet
    from pv_channel.network import NetworkConfig

_NET: Final = "/sys/class/net"
#: How long a network card that udev is still bringing up may take.
NIC_SECONDS: Final = 5.0


def present(system: System, key: str, ethernet: Ethernet) -> str | None:
    """The name of the interface that is meant, the first where several are, or None where the machine has none such."""
    return next(iter(matching(system, key, ethernet)), None)


def matching(system: System, key: str, ethernet: Ethernet) -> list[str]:
    """The names of all the machine's interfaces that are meant.

    By MAC address, hardware is preferred: a bridge or a VLAN has the address of the interface beneath it.
    """
    match = ethernet.match
    if match is msgspec.UNSET:
        return [key] if system.exists(f"{_NET}/{key}") else []
    names = [name for name in system.names(_NET) if _is_name(name)]
    if match.macaddress is not msgspec.UNSET:
        names = [name for name in names if system.text(f"{_NET}/{name}/address", 64).strip() == match.macaddress]
        names = [name for name in names if system.exists(f"{_NET}/{name}/device")] or names
    if match.name is not msgspec.UNSET:
        names = [name for name in names if fnmatchcase(name, match.name)]
    if match.driver is not msgspec.UNSET:
        names = [name for name in names if _driver(system, name) == match.driver]
    return names


def called(system: System, network: NetworkConfig, key: str) -> str:
    """What the interface *key* is called, or will be; raise `ItemError` where it is known by other signs and no card has them."""
    ethernet = network.ethernets.get(key)
    if ethernet is None or ethernet.match is msgspec.UNSET:
        return key
    if ethernet.set_name is not msgspec.UNSET:
        return ethernet.set_name
    system.wait_for(lambda: present(system, key, ethernet) is not None, NIC_SECONDS)
    name = present(system, key, ethernet)
    if name is None:
        raise ItemError("no-interface", f"no interface of this machine is what '{key}' describes: {_signs(ethernet)}")
    return name


def _signs(ethernet: Ethernet) -> str:
    match = ethernet.match
    if match is msgspec.UNSET:
        return ""
    signs = (("macaddress", match.macaddress), ("name", match.name), ("driver", match.driver))
    return ", ".join(f"{what} {value}" for what, value in signs if value is not msgspec.UNSET)


def _driver(system: System, name: str) -> str:
    return system.link(f"{_NET}/{name}/device/driver").rpartition("/")[2]


def _is_name(name: str) -> bool:
    """Whether a name may stand in a configuration file: the kernel takes almost any bytes (dev_valid_name)."""
    try:
        InterfaceName(name)
    except ValueError:
        return False
    return True
