# SPDX-License-Identifier: Apache-2.0
"""cloud-init's network-config, version 2, as typed values whose parts fit each other.

Names and meaning are cloud-init's ("Networking config Version 2"), which are netplan's. What is not here is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pv_channel.interfaces import MAX_INTERFACES, Bond, Bridge, Ethernet, Interface, Vlan
from pv_channel.names import InterfaceName


class NetworkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole of ``network``. Interfaces that it does not name are left alone.

    A key names an interface; that of an ethernet with ``match`` only names it within the document.
    """

    version: Literal[2]
    ethernets: Annotated[dict[str, Ethernet], msgspec.Meta(max_length=MAX_INTERFACES)] = {}
    bonds: Annotated[dict[str, Bond], msgspec.Meta(max_length=MAX_INTERFACES)] = {}
    bridges: Annotated[dict[str, Bridge], msgspec.Meta(max_length=MAX_INTERFACES)] = {}
    vlans: Annotated[dict[str, Vlan], msgspec.Meta(max_length=MAX_INTERFACES)] = {}

    def __post_init__(self) -> None:
        self._check_names()
        self._check_matches()
        self._check_members()
        self._check_links()

    def all(self) -> dict[str, Interface]:
        """Every interface by its key: ethernets, bonds, bridges, VLANs."""
        return {**self.ethernets, **self.bonds, **self.bridges, **self.vlans}

    def master(self, key: str) -> str | None:
        """The bond or bridge that *key* is a member of."""
        return next((name for name, group in (self.bonds | self.bridges).items() if key in group.interfaces), None)

    def vlans_on(self, key: str) -> list[str]:
        """The VLANs whose link is *key*."""
        return [name for name, vlan in self.vlans.items() if vlan.link == key]

    def _check_names(self) -> None:
        kinds: dict[str, str] = {}
        for kind in ("ethernets", "bonds", "bridges", "vlans"):
            for name in getattr(self, kind):
                InterfaceName(name)
                if name in kinds:
                    raise ValueError(f"'{name}' is in '{kinds[name]}' and in '{kind}'")
                kinds[name] = kind

    def _check_matches(self) -> None:
        seen: dict[str, str] = {}
        called: dict[str, str] = {name: name for name in self.all() if not self._is_matched(name)}
        for name, ethernet in self.ethernets.items():
            if ethernet.match is not msgspec.UNSET and ethernet.match.macaddress is not msgspec.UNSET:
                mac = ethernet.match.macaddress
                if mac in seen:
                    raise ValueError(f"'{seen[mac]}' and '{name}' both match {mac}")
                seen[mac] = name
            if ethernet.set_name is not msgspec.UNSET and called.setdefault(ethernet.set_name, name) != name:
                raise ValueError(f"'{called[ethernet.set_name]}' and '{name}' are both to be called {ethernet.set_name}")

    def _is_matched(self, name: str) -> bool:
        return name in self.ethernets and self.ethernets[name].match is not msgspec.UNSET

    def _check_members(self) -> None:
        every = self.all()
        masters: dict[str, str] = {}
        for master, group in (self.bonds | self.bridges).items():
            for member in group.interfaces:
                if member not in every:
                    raise ValueError(f"'{master}' has '{member}' among its 'interfaces', which is defined nowhere in 'network'")
                if member in masters:
                    raise ValueError(f"'{member}' is a member of '{masters[member]}' and of '{master}'")
                if master in self.bridges and member in self.bridges:
                    raise ValueError(f"'{member}' is a member of '{master}': the kernel takes no bridge into a bridge")
                if every[member].has_addresses:
                    raise ValueError(f"'{member}' is a member of '{master}': addresses and routes belong to '{master}'")
                masters[member] = master
        self._check_loops()

    def _check_links(self) -> None:
        every, tags = self.all(), dict[tuple[str, int], str]()
        for name, vlan in self.vlans.items():
            if vlan.link not in every:
                raise ValueError(f"'{name}' has the 'link' '{vlan.link}', which is defined nowhere in 'network'")
            other = tags.setdefault((vlan.link, vlan.id), name)
            if other != name:
                raise ValueError(f"'{other}' and '{name}' both have the 'id' {vlan.id} on '{vlan.link}'")

    def _check_loops(self) -> None:
        """No interface may stand, over members and links, on itself."""
        for start in self.all():
            seen, below = {start}, [start]
            while below:
                name = below.pop()
                group = self.bonds.get(name) or self.bridges.get(name)
                steps = list(group.interfaces) if group is not None else [self.vlans[name].link] if name in self.vlans else []
                if start in steps:
                    raise ValueError(f"'{start}' stands on itself")
                below += [step for step in steps if step not in seen]
                seen.update(steps)
