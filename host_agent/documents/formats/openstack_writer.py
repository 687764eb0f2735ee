# SPDX-License-Identifier: Apache-2.0
"""Version 2 written as OpenStack's network_data.json; what that cannot say is an error with its path."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from typing import Any, Final

from host_agent.documents.formats.building import without_dns
from host_agent.documents.formats.fields import Fields
from host_agent.documents.formats.netmask import mask_of
from host_agent.documents.formats.parameters import as_bond_parameters
from pv_channel.errors import BadDocument

_TARGET: Final = "network_data.json"
_EVERYWHERE: Final = {4: "0.0.0.0/0", 6: "::/0"}


def write(values: dict[str, Any]) -> dict[str, Any]:
    """*values*, which are plain, good, and say nothing that is a default; raise `BadDocument` with a path in them."""
    top = Fields(values, "")
    top.ignore("version")
    servers = _shared_servers(values)
    writer = _Writer(shared=bool(servers))
    for key, part in top.named("ethernets").items():
        writer.ethernet(key, part)
    for key, part in top.named("bonds").items():
        writer.bond(key, part)
    vlans = top.named("vlans")
    while vlans:  # one may stand on another
        ready = [key for key in vlans if str(values["vlans"][key]["link"]) not in vlans]
        for key in ready:
            writer.vlan(key, vlans.pop(key))
    top.finish(_TARGET)
    return {"links": writer.links, "networks": writer.networks, "services": [{"type": "dns", "address": a} for a in servers]}


def _shared_servers(values: dict[str, Any]) -> list[str]:
    """The DNS servers, where they are the same for all interfaces that the machine's would go to, and for no other."""
    every = {key: part for kind in ("ethernets", "bonds", "vlans") for key, part in values.get(kind, {}).items()}
    having = {key: part["nameservers"] for key, part in every.items() if "nameservers" in part}
    bare = {key: {name: value for name, value in part.items() if name != "nameservers"} for key, part in every.items()}
    first: dict[str, Any] = next(iter(having.values()), {})
    same = all(servers == first for servers in having.values()) and not first.get("search")
    return list(first.get("addresses", [])) if same and sorted(having) == sorted(without_dns(bare)) else []


class _Writer:
    def __init__(self, *, shared: bool) -> None:
        self.links: list[dict[str, Any]] = []
        self.networks: list[dict[str, Any]] = []
        self._shared = shared
        self._macs: dict[str, object] = {}

    def ethernet(self, key: str, part: Fields) -> None:
        """A card, which OpenStack knows by its address."""
        match = Fields(part.take("match") or {}, part.at("match"))
        if "macaddress" not in match:
            raise BadDocument(match.path, "network_data.json knows a card by its address: say 'match: {macaddress: …}'")
        mac = match.take("macaddress")
        match.finish(_TARGET)
        link = {"id": key, "type": "phy", "ethernet_mac_address": mac}
        self._finish(key, part, link | ({"name": part.take("set-name")} if "set-name" in part else {}), mac)

    def bond(self, key: str, part: Fields) -> None:
        """A bond, by the kernel's names of its options."""
        mac = self._address_of_its_own(part)
        parameters: Any = part.take("parameters") or {}
        members = {str(member): str(member) for member, _ in part.entries("interfaces")}
        options = as_bond_parameters({"mode": "balance-rr"} | parameters, members, "bond_{}")
        link = {"id": key, "name": key, "type": "bond", "ethernet_mac_address": mac, "bond_links": list(members)}
        self._finish(key, part, link | {name.replace("-", "_"): value for name, value in options.items()}, mac)

    def vlan(self, key: str, part: Fields) -> None:
        """A VLAN; without an address of its own it has its link's."""
        parent = part.text("link")
        if parent not in self._macs:
            raise BadDocument(part.at("link"), f"network_data.json cannot say '{parent}', and so nothing that stands on it")
        mac = part.take("macaddress") or self._macs[parent]
        link = {"id": key, "name": key, "type": "vlan", "vlan_link": parent, "vlan_id": part.take("id"), "vlan_mac_address": mac}
        self._finish(key, part, link, mac)

    def _address_of_its_own(self, part: Fields) -> object:
        if "macaddress" not in part:
            raise BadDocument(part.path, "network_data.json gives a bond its address: say 'macaddress'")
        return part.take("macaddress")

    def _finish(self, key: str, part: Fields, link: dict[str, Any], mac: object) -> None:
        self._macs[key] = mac
        self.links.append(link | ({"mtu": part.take("mtu")} if "mtu" in part else {}))
        networks = [*_dynamic(part), *_static(part)]
        _add_dns(part, networks, shared=self._shared)
        for network in networks:
            name = f"network{len(self.networks)}"
            self.networks.append({"id": name, "link": key, "network_id": name, **network})
        part.finish(_TARGET)


def _dynamic(part: Fields) -> list[dict[str, Any]]:
    networks = [{"type": "ipv4_dhcp"}] if part.take("dhcp4") else []
    dhcp6, accept_ra = part.take("dhcp6"), part.take("accept-ra")
    static6 = "addresses" in part and any(":" in str(address) for address in part.peek("addresses"))
    if dhcp6 and accept_ra is not False:
        networks.append({"type": "ipv6_dhcp"})
    elif accept_ra is True:
        networks.append({"type": "ipv6_slaac"})
    elif static6 and accept_ra is None:
        cure = "a machine with a static IPv6 address of network_data.json asks no router: say 'accept-ra: false' or 'true'"
        raise BadDocument(part.at("addresses"), cure)
    elif accept_ra is False and (dhcp6 or not static6):
        only = "network_data.json says this only of an interface with static IPv6 addresses alone"
        raise BadDocument(part.at("accept-ra"), only)
    return networks


def _static(part: Fields) -> list[dict[str, Any]]:
    """One network for each address, and the routes of a family with the first of its addresses."""
    networks: list[dict[str, Any]] = []
    for text, _ in part.entries("addresses"):
        address = ip_interface(str(text))
        mask = mask_of(address.version, address.network.prefixlen)
        networks.append({"type": f"ipv{address.version}", "ip_address": str(address.ip), "netmask": mask, "routes": []})
    routes: list[tuple[str, object, object, str]] = []
    for version, everywhere in _EVERYWHERE.items():
        if f"gateway{version}" in part:
            routes.append((everywhere, part.take(f"gateway{version}"), None, part.at(f"gateway{version}")))
    for route in part.parts("routes"):
        if "via" not in route:
            raise BadDocument(route.path, "a route of network_data.json has a gateway; say 'via', or remove it")
        gateway, where = route.text("via"), route.text("to")
        where = _EVERYWHERE[6 if ":" in gateway else 4] if where == "default" else where
        routes.append((where, gateway, route.take("metric"), route.path))
        route.finish(_TARGET)
    for to, via, metric, origin in routes:
        kind = "ipv6" if ":" in str(via) else "ipv4"
        network = next((network for network in networks if network["type"] == kind), None)
        if network is None:
            raise BadDocument(origin, "network_data.json has routes only with a static address of the same family")
        target = ip_network(to)
        written = {"network": str(target.network_address), "netmask": str(target.netmask), "gateway": via}
        network["routes"].append(written | ({} if metric is None else {"metric": metric}))
    return networks


def _add_dns(part: Fields, networks: list[dict[str, Any]], *, shared: bool) -> None:
    if "nameservers" not in part:
        return
    servers = Fields(part.take("nameservers"), part.at("nameservers"))
    found = {
        "dns_nameservers": [address for address, _ in servers.entries("addresses")],
        "dns_search": [domain for domain, _ in servers.entries("search")],
    }
    if shared:
        return
    if not networks:
        raise BadDocument(servers.path, "network_data.json has DNS servers only where there are addresses")
    networks[-1].update({name: values for name, values in found.items() if values})
