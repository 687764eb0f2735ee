# SPDX-License-Identifier: Apache-2.0
"""cloud-init's network-config version 1, read into version 2; what version 2 cannot say is an error with its path."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Final

from host_agent.documents.formats.building import Building, Part
from host_agent.documents.formats.fields import Fields
from host_agent.documents.formats.netmask import prefix_length
from host_agent.documents.formats.parameters import bond_parameters, bridge_parameters
from pv_channel.errors import BadDocument
from pv_channel.text import printable

_TARGET: Final = "version 2"
#: What each type of subnet without an address of its own asks for.
_DYNAMIC: Final = {
    "dhcp": ("dhcp4",),
    "dhcp4": ("dhcp4",),
    "dhcp6": ("dhcp6",),
    "ipv6_dhcpv6-stateful": ("dhcp6",),
    "ipv6_dhcpv6-stateless": ("dhcp6", "accept-ra"),
    "ipv6_slaac": ("accept-ra",),
    "manual": (),
}
#: cloud-init takes these where an address has neither prefix nor mask.
_DEFAULT_PREFIX: Final = {4: 24, 6: 64}


def read(values: object, path: str = "") -> Building:
    """What the mapping *values*, which stands at *path* of the file, means in version 2; raise `BadDocument`."""
    top = Fields(values, path)
    top.ignore("version")
    if "config" not in top:
        raise BadDocument(top.at("config"), "is needed: the list of interfaces")
    entries = top.parts("config")
    top.finish(_TARGET)
    return _Reader().read(entries)


class _Reader:
    def __init__(self) -> None:
        self._v2 = Building()
        self._members: list[tuple[str, str]] = []
        self._servers: list[tuple[object, str]] = []
        self._search: list[tuple[object, str]] = []

    def read(self, entries: list[Fields]) -> Building:
        later = []
        for entry in entries:
            kind = entry.text("type")
            if kind in ("nameserver", "route"):
                later.append((kind, entry))
            elif kind in ("physical", "bond", "bridge", "vlan"):
                getattr(self, f"_{kind}")(entry)
            else:
                known = "physical, bond, bridge, vlan, nameserver, route"
                raise BadDocument(entry.at("type"), f"expected one of {known}, got '{printable(kind, 40)}'")
        for name, origin in self._members:
            if name not in self._v2.parts:  # version 1 need not define a card that only serves another interface
                self._v2.interface("ethernets", name, origin, origin)
        for kind, entry in later:
            getattr(self, f"_{kind}")(entry)
        self._v2.serve(self._servers, self._search)
        return self._v2

    def _interface(self, kind: str, entry: Fields) -> tuple[str, Part]:
        name = entry.text("name")
        return name, self._v2.interface(kind, name, entry.path, entry.at("name"))

    def _physical(self, entry: Fields) -> None:
        name, part = self._interface("ethernets", entry)
        if "mac_address" in entry:
            part.put("match.macaddress", entry.take("mac_address"), entry.at("mac_address"))
            part.put("set-name", name, entry.at("name"))
        part.put("wakeonlan", entry.flag("wakeonlan"), entry.at("wakeonlan"))
        self._common(entry, part)

    def _bond(self, entry: Fields) -> None:
        _, part = self._interface("bonds", entry)
        self._take_members(entry, "bond_interfaces", part)
        part.put("macaddress", entry.take("mac_address"), entry.at("mac_address"))
        for name, value, origin in bond_parameters(entry.take("params") or {}, entry.at("params")):
            part.put(f"parameters.{name}", value, origin)
        self._common(entry, part)

    def _bridge(self, entry: Fields) -> None:
        _, part = self._interface("bridges", entry)
        self._take_members(entry, "bridge_interfaces", part)
        part.put("macaddress", entry.take("mac_address"), entry.at("mac_address"))
        params = Fields(entry.take("params") or {}, entry.at("params"))
        part.put("macaddress", params.take("bridge_hw"), params.at("bridge_hw"))
        for port, origin in params.words("bridge_ports"):
            if port not in part.values.get("interfaces", []):
                raise BadDocument(origin, "is none of 'bridge_interfaces'")
        for name, value, origin in bridge_parameters(params):
            part.put(f"parameters.{name}", value, origin)
        params.finish(_TARGET)
        self._common(entry, part)

    def _vlan(self, entry: Fields) -> None:
        _, part = self._interface("vlans", entry)
        part.put("id", entry.number("vlan_id"), entry.at("vlan_id"))
        link = entry.text("vlan_link")
        part.put("link", link, entry.at("vlan_link"))
        self._members.append((link, entry.at("vlan_link")))
        part.put("macaddress", entry.take("mac_address"), entry.at("mac_address"))
        self._common(entry, part)

    def _take_members(self, entry: Fields, field: str, part: Part) -> None:
        for name, origin in entry.entries(field):
            part.add("interfaces", name, origin)
            self._members.append((str(name), origin))

    def _common(self, entry: Fields, part: Part) -> None:
        """What every interface can have."""
        part.put("mtu", entry.number("mtu"), entry.at("mtu"))
        part.put("accept-ra", entry.flag("accept-ra"), entry.at("accept-ra"))
        for subnet in entry.parts("subnets"):
            self._subnet(subnet, part)
        entry.finish(_TARGET)

    def _subnet(self, subnet: Fields, part: Part) -> None:
        kind = subnet.text("type")
        if subnet.take("control") not in (None, "auto"):
            raise BadDocument(subnet.at("control"), "version 2 brings every interface up at boot; remove it, or the interface")
        if kind in _DYNAMIC:
            for field in _DYNAMIC[kind]:
                part.put(field, True, subnet.at("type"))
            overrides = next((field for field in _DYNAMIC[kind] if field.startswith("dhcp")), None)
            if overrides is not None:
                part.put(f"{overrides}-overrides.route-metric", subnet.number("metric"), subnet.at("metric"))
        elif kind in ("static", "static6"):
            self._static(subnet, part)
        else:
            known = ", ".join(("static", "static6", *_DYNAMIC))
            raise BadDocument(subnet.at("type"), f"expected one of {known}; got '{printable(kind, 40)}'")
        part.put("mtu", subnet.number("mtu"), subnet.at("mtu"))
        part.serve(subnet.words("dns_nameservers"), subnet.words("dns_search"))
        for route in subnet.parts("routes"):
            origin = route.path
            part.add("routes", _route(route), origin)
        subnet.finish(_TARGET)

    def _static(self, subnet: Fields, part: Part) -> None:
        address = _with_prefix(subnet, subnet.text("address"), "address")
        part.add("addresses", address, subnet.at("address"))
        if "broadcast" in subnet and str(subnet.take("broadcast")) != _broadcast(address):
            raise BadDocument(subnet.at("broadcast"), "version 2 has only the usual broadcast address; remove it")
        gateway = subnet.take("gateway")
        metric = subnet.number("metric") if gateway is not None else None
        if metric is not None:
            part.add("routes", {"to": "default", "via": gateway, "metric": metric}, subnet.at("gateway"))
        elif gateway is not None:
            part.put("gateway6" if ":" in str(gateway) else "gateway4", gateway, subnet.at("gateway"))

    def _nameserver(self, entry: Fields) -> None:
        servers, search = entry.words("address"), entry.words("search")
        if "interface" not in entry:
            self._servers += servers
            self._search += search
        else:
            part = self._named(entry.text("interface"), entry.at("interface"))
            for value, origin in servers:
                part.add("nameservers.addresses", value, origin)
            for value, origin in search:
                part.add("nameservers.search", value, origin)
        entry.finish(_TARGET)

    def _route(self, entry: Fields) -> None:
        """A route of the machine's: it goes to the interface in whose network its gateway is, or to the only one there is."""
        route = _route(entry)
        gateway = str(route.get("via", ""))
        static = {n: p.values["addresses"] for n, p in self._v2.parts.items() if p.values.get("addresses")}
        near = [name for name, addresses in static.items() if any(_contains(address, gateway) for address in addresses)]
        if len(near or static) != 1:
            raise BadDocument(entry.path, "which interface is this route for? Put it among the 'routes' of one of its 'subnets'")
        self._v2.parts[next(iter(near or static))].add("routes", route, entry.path)

    def _named(self, name: str, origin: str) -> Part:
        if name not in self._v2.parts:
            raise BadDocument(origin, f"there is no interface '{printable(name, 40)}' in 'config'")
        return self._v2.parts[name]


def _route(route: Fields) -> dict[str, object]:
    field = "destination" if "destination" in route else "network"
    destination = route.text(field)
    if destination != "default":
        if "/" not in destination and "netmask" not in route and "prefix" not in route:
            raise BadDocument(route.at(field), "expected a network with its prefix length, or a 'netmask' beside it")
        destination = _with_prefix(route, destination, field)
    found: dict[str, object] = {"to": "default" if destination in ("0.0.0.0/0", "::/0") else destination}
    found |= {"via": route.take("gateway")} if "gateway" in route else {}
    found |= {"metric": route.number("metric")} if "metric" in route else {}
    route.finish(_TARGET)
    return found


def _with_prefix(fields: Fields, text: str, name: str) -> str:
    """*text*, the field *name*, with its own prefix length, else that of ``prefix`` or ``netmask``, else cloud-init's guess."""
    address, slash, mask = text.partition("/")
    said: list[tuple[object, str]] = [(mask, fields.at(name))] if slash else []
    said += [(fields.take(other), fields.at(other)) for other in ("prefix", "netmask") if other in fields]
    lengths = [(prefix_length(mask, path), path) for mask, path in said]
    for length, path in lengths[1:]:
        if length != lengths[0][0]:
            raise BadDocument(path, f"says another prefix length than {lengths[0][1]}")
    length = lengths[0][0] if lengths else _DEFAULT_PREFIX[6 if ":" in address else 4]
    return f"{address}/{length}"


def _broadcast(address: str) -> str | None:
    try:
        return str(ip_interface(address).network.broadcast_address)
    except ValueError:  # whoever checks the address says so
        return None


def _contains(address: str, gateway: str) -> bool:
    try:
        return ip_address(gateway) in ip_interface(address).network
    except ValueError:
        return False
