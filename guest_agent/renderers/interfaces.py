# SPDX-License-Identifier: Apache-2.0
"""Which of the machine's network interfaces a part of the document means."""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.failure import ItemError
from pv_channel.names import InterfaceName

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.interfaces import Ethernet, Match
    from pv_channel.network import NetworkConfig

NET: Final = "/sys/class/net"
#: How long a network card that udev is still bringing up may take.
NIC_SECONDS: Final = 5.0
#: The kernel's module and its driver have two names; ethtool, udev and sysfs know the driver's (``xenbus_driver``, ``ids``).
_DRIVERS: Final = {"xen_netfront": "vif"}


def driver_name(name: str) -> str:
    """What a document's driver is called by everything that asks the kernel."""
    return _DRIVERS.get(name, str(name))


def present(system: System, key: str, ethernet: Ethernet) -> str | None:
    """The name of the interface that is meant, the first where several are, or None where the machine has none such."""
    return next(iter(matching(system, key, ethernet)), None)


def matching(system: System, key: str, ethernet: Ethernet) -> list[str]:
    """The names of all the machine's interfaces that are meant; by MAC address at most one.

    By MAC address, hardware is preferred: a bridge or a VLAN has the address of the interface beneath it.
    """
    if ethernet.match is msgspec.UNSET:
        return [key] if system.exists(f"{NET}/{key}") else []
    # A name that was matched is gone once the interface has the one of set-name.
    names = [name for name in system.names(NET) if _is_name(name) and _fits(system, name, ethernet.match, ethernet.set_name)]
    if ethernet.match.macaddress is msgspec.UNSET:
        return names
    permanent = _permanent(system)
    same = [name for name in names if _address(system, name, permanent) == ethernet.match.macaddress]
    hardware = [name for name in same if system.exists(f"{NET}/{name}/device")]
    return (hardware or same)[:1]


def called(system: System, network: NetworkConfig, key: str) -> str:
    """What the interface *key* is called, or will be; raise `ItemError` where it is known by other signs and no card has them."""
    ethernet = network.ethernets.get(key)
    if ethernet is None or ethernet.match is msgspec.UNSET:
        return key
    if ethernet.set_name is not msgspec.UNSET:
        return str(ethernet.set_name)
    system.wait_for(lambda: present(system, key, ethernet) is not None, NIC_SECONDS)
    name = present(system, key, ethernet)
    if name is None:
        raise ItemError("no-interface", f"no interface of this machine is what '{key}' describes: {_signs(ethernet)}")
    return name


def names_after(system: System, network: NetworkConfig, key: str) -> list[str]:
    """What the interfaces of *key* that the machine has are called when the document is in force; a device to be made counts."""
    ethernet = network.ethernets.get(key)
    if ethernet is None:
        return [key]
    names = matching(system, key, ethernet)
    return [str(ethernet.set_name)] if names and ethernet.set_name is not msgspec.UNSET else names


def is_up(system: System, name: str) -> bool:
    """Whether it is administratively up: IFF_UP (netdevice(7))."""
    with suppress(ValueError):
        return bool(int(system.text(f"{NET}/{name}/flags", 16), 16) & 1)
    return False


def _signs(ethernet: Ethernet) -> str:
    match = ethernet.match
    if match is msgspec.UNSET:
        return ""
    signs = (("macaddress", match.macaddress), ("name", match.name), ("driver", match.driver))
    return ", ".join(f"{what} {value}" for what, value in signs if value is not msgspec.UNSET)


def _fits(system: System, name: str, match: Match, set_name: str | msgspec.UnsetType) -> bool:
    if match.name is not msgspec.UNSET and name != set_name and not fnmatchcase(name, match.name):
        return False
    if match.driver is not msgspec.UNSET:
        return system.link(f"{NET}/{name}/device/driver").rpartition("/")[2] == driver_name(match.driver)
    # A VLAN, a bridge, a bond say what they are; a card of the address that is matched may be anything.
    return match.macaddress is not msgspec.UNSET or "DEVTYPE=" not in system.text(f"{NET}/{name}/uevent", 4096)


def _permanent(system: System) -> dict[int, bytes]:
    """What the cards' own addresses are: a bond's member, or one that was given another, does not show it."""
    if system.live:
        with suppress(OSError):  # then the present addresses have to do
            return system.kernel.permanent_addresses()
    return {}


def _address(system: System, name: str, permanent: dict[int, bytes]) -> str:
    index = system.text(f"{NET}/{name}/ifindex", 16).strip()
    own = permanent.get(int(index)) if index.isdigit() else None
    return own.hex(":") if own else system.text(f"{NET}/{name}/address", 64).strip()


def _is_name(name: str) -> bool:
    """Whether a name may stand in a configuration file: the kernel takes almost any bytes (dev_valid_name)."""
    try:
        InterfaceName(name)
    except ValueError:
        return False
    return True
