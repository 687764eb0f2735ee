# SPDX-License-Identifier: Apache-2.0
"""What the guest itself can see of the network that it has just made: links, addresses, gateways."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from pv_channel.messages import MAX_CHECKS, Check

if TYPE_CHECKING:
    from guest_agent.netlink import HeldAddress
    from guest_agent.system import System

#: A switch lets a new link talk after 30 s of spanning tree (IEEE 802.1D). Nobody hears of the agent while it looks.
LONGEST_LOOK: Final = 30.0
#: Between two questions to a gateway; the kernel itself asks three times, a second apart.
_ASK_SECONDS: Final = 1.0
#: linux/neighbour.h: it has just answered; or the link has nobody to ask; or somebody says where it is.
_REACHABLE, _NO_ARP, _PERMANENT = 0x02, 0x40, 0x80
#: What `Reach.addresses` has where the address is not known beforehand, and how long such an address is.
_LEASED: Final = {"dhcp4": 4, "dhcp6": 16}


class Reach(NamedTuple):
    """What there should be: interfaces that are up, and addresses and gateways that answer, the interface's name before each.

    An address may have its prefix length behind it. "dhcp4" and "dhcp6" stand for any global address of that family.
    """

    links: list[str]
    addresses: list[tuple[str, str]]
    gateways: list[tuple[str, str]]


def look(system: System, reach: Reach, seconds: float) -> list[Check]:
    """What of *reach* is there, looked at again and again for at most *seconds* until all of it is; at most `MAX_CHECKS`,
    and those that are not good first."""
    checks: list[Check] = []
    next_question = system.now()
    _forget(system, reach)

    def all_good() -> bool:
        nonlocal next_question
        if system.now() >= next_question:
            next_question = system.now() + _ASK_SECONDS
            for name, address in reach.gateways:
                if index := _index(system, name):
                    system.kernel.ask_neighbour(index, _packed(address))
        checks[:] = _checks(system, reach)
        return all(check.good for check in checks)

    system.wait_for(all_good, min(seconds, LONGEST_LOOK))
    return sorted(checks, key=lambda check: check.good)[:MAX_CHECKS]


def _forget(system: System, reach: Reach) -> None:
    """That a gateway answered before the change proves nothing. What an administrator said of one stays."""
    with suppress(OSError):
        states = system.kernel.neighbours()
        for name, text in reach.gateways:
            index, address = _index(system, name), _packed(text)
            if states.get((index, address), _NO_ARP) not in (_NO_ARP, _PERMANENT):
                system.kernel.forget_neighbour(index, address)


def _checks(system: System, reach: Reach) -> list[Check]:
    try:
        held, states = system.kernel.addresses(), system.kernel.neighbours()
    except OSError as exc:
        return [Check("address", False, f"the kernel does not say what there is: {exc.strerror}")]
    indices = {name: _index(system, name) for name, _ in reach.addresses + reach.gateways}
    links = [_link(system, name) for name in reach.links]
    addresses = [_address(name, text, [h for h in held if h.interface == indices[name]]) for name, text in reach.addresses]
    gateways = [_gateway(name, text, states.get((indices[name], _packed(text)), 0)) for name, text in reach.gateways]
    return links + addresses + gateways


def _link(system: System, name: str) -> Check:
    state = system.text(f"/sys/class/net/{name}/operstate", 64).strip()
    return Check("link", state in ("up", "unknown"), f"{name} is {state or 'not there'}")


def _address(name: str, address: str, held: list[HeldAddress]) -> Check:
    size = _LEASED.get(address)
    if size is not None:
        good = any(h.is_of_use and len(h.address) == size for h in held)
        return Check("address", good, f"{name} has {'an' if good else 'no'} address by {address}")
    shown, packed = address.partition("/")[0], _packed(address)
    found = next((h for h in held if h.address == packed), None)
    if found is None:
        return Check("address", False, f"{name} does not have {shown}")
    if found.is_anothers_too:
        return Check("address", False, f"{shown} on {name} is another machine's too")
    if found.is_tentative:
        return Check("address", False, f"it is not known yet whether {shown} on {name} is another machine's too")
    return Check("address", True, f"{name} has {shown}")


def _gateway(name: str, address: str, state: int) -> Check:
    good = bool(state & (_REACHABLE | _NO_ARP | _PERMANENT))
    return Check("gateway", good, f"gateway {address} {'answers' if good else 'does not answer'} on {name}")


def _index(system: System, name: str) -> int:
    """The interface's index, 0 where there is none."""
    text = system.text(f"/sys/class/net/{name}/ifindex", 16).strip()
    return int(text) if text.isdigit() else 0


def _packed(address: str) -> bytes:
    """The address's bytes; a document's addresses are ones."""
    import socket

    bare = address.partition("/")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)
