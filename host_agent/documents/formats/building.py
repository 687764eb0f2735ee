# SPDX-License-Identifier: Apache-2.0
"""A network-config of version 2 in the making, from values of another format, each with where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from host_agent.documents.formats.origins import Origins
from pv_channel.errors import BadDocument
from pv_channel.names import InterfaceName

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("ethernets", "bonds", "bridges", "vlans")


class Part:
    """One interface. A field that is said twice, and differently, is an error."""

    def __init__(self, path: str, origins: Origins) -> None:
        self.values: dict[str, Any] = {}
        self._path, self._origins = path, origins

    def put(self, field: str, value: object, origin: str) -> None:
        """*field* (``a.b`` for one inside another) is *value*, which stood at *origin*; None leaves all as it is."""
        if value is None:
            return
        path = f"{self._path}.{field}"
        *outer, last = field.split(".")
        inside = self.values
        for name in outer:
            inside = inside.setdefault(name, {})
        if inside.setdefault(last, value) != value:
            raise BadDocument(origin, f"says another '{last}' than {self._origins.of(path)}")
        self._origins.record(path, origin)

    def add(self, field: str, value: object, origin: str) -> None:
        """One more *value* of the list *field*; one that is there already is not repeated."""
        *outer, last = field.split(".")
        inside = self.values
        for name in outer:
            inside = inside.setdefault(name, {})
        values = inside.setdefault(last, [])
        if value not in values:
            self._origins.record(f"{self._path}.{field}[{len(values)}]", origin)
            values.append(value)

    def serve(self, servers: Iterable[tuple[object, str]], search: Iterable[tuple[object, str]]) -> None:
        """These nameservers and search domains too, each with its origin."""
        for value, origin in servers:
            self.add("nameservers.addresses", value, origin)
        for value, origin in search:
            self.add("nameservers.search", value, origin)


class Building:
    """The whole. *values* is what it says, *origins* where each of it came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"version": 2}
        self.origins = Origins()
        self.parts: dict[str, Part] = {}

    def interface(self, kind: str, name: str, origin: str, name_origin: str) -> Part:
        """A new interface *name* that is one of *kind*; raise `BadDocument` where it cannot be called so."""
        try:
            InterfaceName(name)
        except ValueError as exc:
            raise BadDocument(name_origin, str(exc)) from None
        if name in self.parts:
            raise BadDocument(name_origin, f"there is another interface called '{name}'")
        part = Part(f"{kind}.{name}", self.origins)
        self.origins.record(f"{kind}.{name}", origin)
        self.values.setdefault(kind, {})[name] = part.values
        self.parts[name] = part
        return part

    def serve(self, servers: list[tuple[object, str]], search: list[tuple[object, str]]) -> None:
        """DNS that is said for the machine as a whole goes to those interfaces that `without_dns` names."""
        takers = without_dns({name: part.values for name, part in self.parts.items()})
        for _, origin in servers + search:
            if not takers:
                raise BadDocument(origin, "no interface has addresses to go with this; say which one it is for")
        for name in takers:
            self.parts[name].serve(servers, search)


def without_dns(interfaces: dict[str, dict[str, Any]]) -> list[str]:
    """Whom the machine's DNS servers are for, in a format that has only such: cloud-init's rule, and one where that finds none.

    Those with static addresses and no servers of their own; else those with dynamic addresses and no servers of their own.
    """
    own = {name: values for name, values in interfaces.items() if "nameservers" not in values}
    static = [name for name, values in own.items() if values.get("addresses")]
    dynamic = [name for name, values in own.items() if any(values.get(way) for way in ("dhcp4", "dhcp6", "accept-ra"))]
    return static or dynamic
