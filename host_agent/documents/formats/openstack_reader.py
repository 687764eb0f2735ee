# SPDX-License-Identifier: Apache-2.0
"""OpenStack's network_data.json, read into version 2; what version 2 cannot say is an error with its path."""

from __future__ import annotations

from typing import Final

from host_agent.documents.formats.building import Building, Part
from host_agent.documents.formats.fields import Fields
from host_agent.documents.formats.netmask import prefix_length
from host_agent.documents.formats.parameters import bond_parameters
from pv_channel.errors import BadDocument
from pv_channel.names import InterfaceName
from pv_channel.text import printable

_TARGET: Final = "version 2"
#: What each type of network asks for; a machine that asks a DHCPv6 server listens to its router first.
_DYNAMIC: Final = {
    "ipv4_dhcp": ("dhcp4",),
    "ipv6_dhcp": ("dhcp6", "accept-ra"),
    "ipv6_dhcpv6-stateful": ("dhcp6", "accept-ra"),
    "ipv6_dhcpv6-stateless": ("dhcp6", "accept-ra"),
    "ipv6_slaac": ("accept-ra",),
}
_STATIC: Final = ("ipv4", "ipv6", "static", "static6")


def read(values: object, path: str = "") -> Building:
    """What the mapping *values*, which stands at *path* of the file, means in version 2; raise `BadDocument`.

    The cloud's own numbers of ports and networks (``vif_id``, ``network_id``) mean nothing to a guest.
    """
    top = Fields(values, path)
    reader = _Reader(top.parts("links"))
    for network in top.parts("networks"):
        reader.network(network)
    services = top.parts("services")
    top.finish(_TARGET)
    return reader.finish(services)


class _Reader:
    def __init__(self, links: list[Fields]) -> None:
        self._v2 = Building()
        self._links: dict[str, Part] = {}
        self._keys: dict[str, str] = {}
        self._macs: dict[str, object] = {}
        self._static6: dict[str, str] = {}
        kinds = [(link, link.text("type")) for link in links]
        parts = [(link, kind, self._define(link, kind, n)) for n, (link, kind) in enumerate(kinds) if kind != "vlan"]
        self._vlans([(link, str(link.take("vlan_link"))) for link, kind in kinds if kind == "vlan"])
        for link, kind, part in parts:
            if kind == "bond":
                self._fill_bond(link, part)
        for link in links:
            link.finish(_TARGET)

    def network(self, network: Fields) -> None:
        """One of ``networks``: addresses for a link."""
        network.ignore("id", "network_id")
        key, part = self._of_link(network, "link")
        kind = network.text("type")
        for field in _DYNAMIC.get(kind, ()):
            part.put(field, True, network.at("type"))
        if kind in _STATIC:
            self._static(network, key, part)
        elif kind not in _DYNAMIC:
            known = ", ".join((*_STATIC[:2], *_DYNAMIC))
            raise BadDocument(network.at("type"), f"expected one of {known}; got '{printable(kind, 40)}'")
        for service in network.parts("services"):
            part.add("nameservers.addresses", *_dns(service))
        part.serve(network.words("dns_nameservers"), network.words("dns_search"))
        for route in network.parts("routes"):
            origin = route.path
            part.add("routes", _route(route), origin)
        network.finish(_TARGET)

    def finish(self, services: list[Fields]) -> Building:
        """The whole, once every network is in."""
        for key, origin in self._static6.items():
            if not self._links[key].values.get("accept-ra"):  # as cloud-init: what has its IPv6 address told asks no router
                self._links[key].put("accept-ra", False, origin)
        self._v2.serve([_dns(service) for service in services], [])
        return self._v2

    def _define(self, link: Fields, kind: str, number: int) -> Part:
        """A card or a bond, under a name that version 2 can have: the link's ``name``, else its id where that is one."""
        link_id, name = link.text("id"), link.take("name")
        link.ignore("vif_id")
        if kind == "bond":
            key = str(name) if name is not None else self._free(f"bond{sum(k.startswith('bond') for k in self._v2.parts)}")
            part = self._v2.interface("bonds", key, link.path, link.at("name"))
        else:
            key = self._free(str(name) if name is not None else link_id if _is_name(link_id) else f"link{number}")
            part = self._v2.interface("ethernets", key, link.path, link.at("id"))
            if "ethernet_mac_address" not in link:
                raise BadDocument(link.at("ethernet_mac_address"), "is needed: by what else would the guest know the card")
            part.put("set-name", name, link.at("name"))
        mac = _mac(link, "ethernet_mac_address")
        part.put("macaddress" if kind == "bond" else "match.macaddress", mac, link.at("ethernet_mac_address"))
        self._register(link, link_id, key, part, mac)
        return part

    def _vlans(self, links: list[tuple[Fields, str]]) -> None:
        """A VLAN is called after its link, which may be a VLAN that stands behind it."""
        while links:
            ready = [link for link in links if link[1] in self._keys] or links
            self._vlan(*ready[0])
            links.remove(ready[0])

    def _vlan(self, link: Fields, parent: str) -> None:
        link_id, name, number = link.text("id"), link.take("name"), link.number("vlan_id")
        link.ignore("vif_id")
        parent_key, _ = self._look_up(parent, link.at("vlan_link"))
        called = f"{parent_key}.{number}"
        key = str(name) if name is not None else self._free(called if _is_name(called) else f"vlan{number}")
        part = self._v2.interface("vlans", key, link.path, link.at("name"))
        part.put("id", number, link.at("vlan_id"))
        part.put("link", parent_key, link.at("vlan_link"))
        mac = _mac(link, "vlan_mac_address")
        if mac != self._macs[parent]:  # which it has anyway
            part.put("macaddress", mac, link.at("vlan_mac_address"))
        self._register(link, link_id, key, part, mac)

    def _register(self, link: Fields, link_id: str, key: str, part: Part, mac: object) -> None:
        if link_id in self._keys:
            raise BadDocument(link.at("id"), f"there is another link with the id '{printable(link_id, 40)}'")
        part.put("mtu", link.number("mtu"), link.at("mtu"))
        self._keys[link_id], self._links[key], self._macs[link_id] = key, part, mac

    def _fill_bond(self, link: Fields, part: Part) -> None:
        for member, origin in link.entries("bond_links"):
            part.add("interfaces", self._look_up(str(member), origin)[0], origin)
        options = {name: link.take(name) for name in link.names() if name.startswith("bond_")}
        for name, value, origin in bond_parameters(options, link.path):
            value = self._look_up(str(value), origin)[0] if name == "primary" else value
            part.put(f"parameters.{name}", value, origin)

    def _of_link(self, fields: Fields, name: str) -> tuple[str, Part]:
        return self._look_up(fields.text(name), fields.at(name))

    def _look_up(self, link_id: str, origin: str) -> tuple[str, Part]:
        if link_id not in self._keys:
            raise BadDocument(origin, f"there is no link with the id '{printable(link_id, 40)}'")
        key = self._keys[link_id]
        return key, self._links[key]

    def _free(self, name: str) -> str:
        """*name*, or with a number behind it where there is such an interface already."""
        number = 0
        found = name
        while found in self._v2.parts:
            number += 1
            found = f"{name[:12]}-{number}"
        return found

    def _static(self, network: Fields, key: str, part: Part) -> None:
        address, slash, prefix = network.text("ip_address").partition("/")
        mask = network.take("netmask")
        if not slash and mask is None:
            raise BadDocument(network.at("netmask"), "is needed, or a prefix length behind 'ip_address'")
        lengths = {prefix_length(prefix, network.at("ip_address"))} if slash else set()
        lengths |= {prefix_length(mask, network.at("netmask"))} if mask is not None else set()
        if len(lengths) > 1:
            raise BadDocument(network.at("netmask"), f"says another prefix length than {network.at('ip_address')}")
        part.add("addresses", f"{address}/{lengths.pop()}", network.at("ip_address"))
        gateway = network.take("gateway")
        if gateway is not None:
            part.add("routes", {"to": "default", "via": gateway}, network.at("gateway"))
        if ":" in address:
            self._static6.setdefault(key, network.at("ip_address"))


def _route(route: Fields) -> dict[str, object]:
    network = route.text("network")
    if "netmask" not in route:
        raise BadDocument(route.at("netmask"), "is needed")
    to = f"{network}/{prefix_length(route.take('netmask'), route.at('netmask'))}"
    found: dict[str, object] = {"to": "default" if to in ("0.0.0.0/0", "::/0") else to}
    found |= {"via": route.take("gateway")} if "gateway" in route else {}
    found |= {"metric": route.number("metric")} if "metric" in route else {}
    route.finish(_TARGET)
    return found


def _dns(service: Fields) -> tuple[object, str]:
    kind = service.text("type")
    if kind != "dns":
        raise BadDocument(service.at("type"), f"expected dns, got '{printable(kind, 40)}'")
    address = service.take("address")
    service.finish(_TARGET)
    return address, service.at("address")


def _mac(link: Fields, name: str) -> object:
    value = link.take(name)
    return value.lower().replace("-", ":") if isinstance(value, str) else value


def _is_name(text: str) -> bool:
    try:
        InterfaceName(text)
    except ValueError:
        return False
    return True
