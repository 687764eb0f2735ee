# SPDX-License-Identifier: Apache-2.0
"""Version 2 written as cloud-init's network-config version 1; what version 1 cannot say is an error with its path."""

from __future__ import annotations

from typing import Any, Final

from host_agent.documents.formats.building import KINDS
from host_agent.documents.formats.fields import Fields
from host_agent.documents.formats.parameters import as_bond_parameters, as_bridge_parameters
from pv_channel.errors import BadDocument

_TARGET: Final = "version 1"
_TYPE: Final = {"ethernets": "physical", "bonds": "bond", "bridges": "bridge", "vlans": "vlan"}


def write(values: dict[str, Any]) -> dict[str, Any]:
    """*values*, which are plain, good, and say nothing that is a default; raise `BadDocument` with a path in them."""
    top = Fields(values, "")
    top.ignore("version")
    parts = {kind: top.named(kind) for kind in KINDS}
    names = {key: _name(key, part) if kind == "ethernets" else key for kind in KINDS for key, part in parts[kind].items()}
    config, servers = [], []
    for kind, group in parts.items():
        for key, part in group.items():
            config.append({"type": _TYPE[kind], "name": names[key], **_own(kind, part, names), **_common(part)})
            servers += _nameserver(part, names[key])
            part.finish(_TARGET)
    return {"version": 1, "config": config + servers}


def _name(key: str, part: Fields) -> str:
    """What version 1 calls a card: it has a name for each, and gives it to the one with the address."""
    name = part.take("set-name")
    if name is None and "match" in part:
        raise BadDocument(part.at("match"), f"version 1 gives the card that it matches a name: say 'set-name: {key}' beside it")
    return str(name or key)


def _own(kind: str, part: Fields, names: dict[str, str]) -> dict[str, Any]:
    """What only one kind of interface has."""
    entry: dict[str, Any] = {}
    if kind == "ethernets":
        match = Fields(part.take("match") or {}, part.at("match"))
        entry |= {"mac_address": match.take("macaddress")} if "macaddress" in match else {}
        match.finish(_TARGET)
        return entry | ({"wakeonlan": True} if part.take("wakeonlan") else {})
    if kind == "vlans":
        entry = {"vlan_link": names[part.text("link")], "vlan_id": part.take("id")}
    else:
        field, members = f"{_TYPE[kind]}_interfaces", [names[str(member)] for member, _ in part.entries("interfaces")]
        parameters: Any = part.take("parameters") or {}
        bond = kind == "bonds"
        params = as_bond_parameters(parameters, names, "bond-{}") if bond else as_bridge_parameters(parameters, names)
        entry = {field: members, "params": params}
    return entry | ({"mac_address": part.take("macaddress")} if "macaddress" in part else {})


def _common(part: Fields) -> dict[str, Any]:
    entry: dict[str, Any] = {"mtu": part.take("mtu")} if "mtu" in part else {}
    dhcp6, accept_ra = part.take("dhcp6"), part.take("accept-ra")
    subnets = [_dhcp(part, 4)] if part.take("dhcp4") else []
    subnets += [_dhcp(part, 6)] if dhcp6 else []
    if accept_ra is True and not dhcp6:
        subnets.append({"type": "ipv6_slaac"})
    elif accept_ra is not None:
        entry["accept-ra"] = accept_ra
    subnets += [{"type": "static6" if ":" in str(a) else "static", "address": a} for a, _ in part.entries("addresses")]
    routes = [_route(route) for route in part.parts("routes")]
    for field, kind, everywhere in (("gateway4", "static", "0.0.0.0/0"), ("gateway6", "static6", "::/0")):
        gateway = part.take(field)
        first = next((subnet for subnet in subnets if subnet["type"] == kind), None)
        if gateway is not None and first is not None:
            first["gateway"] = gateway
        elif gateway is not None:
            routes.append({"destination": everywhere, "gateway": gateway})
    for route in routes:
        _place(route, subnets)
    return entry | ({"subnets": subnets} if subnets else {})


def _dhcp(part: Fields, version: int) -> dict[str, Any]:
    field = f"dhcp{version}-overrides"
    overrides = Fields(part.take(field) or {}, part.at(field))
    metric = overrides.take("route-metric")
    overrides.finish(_TARGET)
    return {"type": f"dhcp{version}"} | ({} if metric is None else {"metric": metric})


def _route(route: Fields) -> dict[str, Any]:
    to = route.text("to")
    if "via" not in route:
        raise BadDocument(route.path, "a route of version 1 has a gateway; say 'via', or remove it")
    gateway = route.text("via")
    default = "::/0" if ":" in gateway else "0.0.0.0/0"
    written: dict[str, Any] = {"destination": default if to == "default" else to, "gateway": gateway}
    written |= {"metric": route.take("metric")} if "metric" in route else {}
    route.finish(_TARGET)
    return written


def _place(route: dict[str, Any], subnets: list[dict[str, Any]]) -> None:
    """Version 1 has routes below a subnet: an address's of the same family, else any, else one that is nothing else."""
    kind = "static6" if ":" in route["gateway"] else "static"
    subnet = next((subnet for subnet in subnets if subnet["type"] == kind), subnets[0] if subnets else None)
    if subnet is None:
        subnet = {"type": "manual"}
        subnets.append(subnet)
    subnet.setdefault("routes", []).append(route)


def _nameserver(part: Fields, name: str) -> list[dict[str, Any]]:
    if "nameservers" not in part:
        return []
    servers = Fields(part.take("nameservers"), part.at("nameservers"))
    entry = {"type": "nameserver", "interface": name, "address": [address for address, _ in servers.entries("addresses")]}
    search = [domain for domain, _ in servers.entries("search")]
    return [entry | ({"search": search} if search else {})]
