# SPDX-License-Identifier: Apache-2.0
"""The [ipv4] and [ipv6] of a NetworkManager profile (nm-settings-keyfile(5)), with the methods that netplan would choose.

Without a word about router advertisements, an interface with static IPv6 addresses refuses them, as NetworkManager's users
expect, and one without any is left to the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.renderers.unsupported import check_domains, unsupported

if TYPE_CHECKING:
    from pv_channel.interfaces import DhcpOverrides, Interface
    from pv_channel.routes import Route, RoutingPolicy

MANAGER: Final = "NetworkManager"
_EVERYWHERE: Final = {4: "0.0.0.0/0", 6: "::/0"}
_NOWHERE: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104  a route without a gateway, no socket


def sections(key: str, interface: Interface) -> dict[str, dict[str, str]]:
    """[ipv4], [ipv6] and what of the DHCP server's answer they share; raise `ItemError` where NetworkManager cannot say it."""
    families = {f"ipv{version}": _family(key, interface, version) for version in (4, 6)}
    _add_search(key, interface, families)
    return families | {"hostname": _hostname(key, interface)}


def _family(key: str, interface: Interface, version: int) -> dict[str, str]:
    addresses = [address for address in interface.addresses if address.version == version]
    routes = [route for route in interface.all_routes() if route.version == version]
    rules = [rule for rule in interface.routing_policy if rule.version == version]
    servers = _servers(interface, version)
    method = _method4(interface) if version == 4 else _method6(interface, needed=bool(routes or rules or servers))
    _check(key, method, version, routes=bool(routes or rules), servers=bool(servers))
    keys = {"method": method}
    if version == 6 and method != "ignore":
        keys["addr-gen-mode"] = "eui64"  # what the host can foretell from the MAC address, as networkd and the kernel do it
    keys |= {f"address{number}": address for number, address in enumerate(addresses, 1)}
    if servers:
        keys["dns"] = "".join(f"{server};" for server in servers)
    keys |= _overrides(key, interface, version)
    for number, route in enumerate(routes, 1):
        keys |= _route(number, route)
    return keys | {f"routing-rule{number}": _rule(key, rule) for number, rule in enumerate(rules, 1)}


def _servers(interface: Interface, version: int) -> list[str]:
    if interface.nameservers is msgspec.UNSET:
        return []
    return [server for server in interface.nameservers.addresses if server.version == version]


def _method4(interface: Interface) -> str:
    if interface.dhcp4:
        return "auto"
    return "manual" if any(address.version == 4 for address in interface.addresses) else "disabled"


def _method6(interface: Interface, *, needed: bool) -> str:
    """*needed*: something depends on IPv6, though no address is given."""
    if interface.dhcp6 and interface.accept_ra is False:
        return "dhcp"
    if interface.dhcp6 or interface.accept_ra is True:
        return "auto"
    if any(address.version == 6 for address in interface.addresses):
        return "manual"
    if interface.accept_ra is False:
        return "link-local"
    return "auto" if needed else "ignore"


def _check(key: str, method: str, version: int, *, routes: bool, servers: bool) -> None:
    if method == "disabled" and routes:
        raise unsupported(MANAGER, key, "routes", "routes and rules of IPv4 need an IPv4 address, or 'dhcp4'")
    if method in ("disabled", "link-local") and servers:
        need = "an IPv4 address, or 'dhcp4'" if version == 4 else "an IPv6 address, 'dhcp6' or 'accept-ra: true'"
        raise unsupported(MANAGER, key, "nameservers", f"a nameserver of IPv{version} needs {need}")


def _add_search(key: str, interface: Interface, families: dict[str, dict[str, str]]) -> None:
    """Search domains are of no family: they go where NetworkManager takes them, IPv4 first."""
    if interface.nameservers is msgspec.UNSET or not interface.nameservers.search:
        return
    able = [name for name, keys in families.items() if keys["method"] not in ("disabled", "ignore", "link-local")]
    if not able:
        raise unsupported(MANAGER, key, "nameservers", "'search' needs an address, 'dhcp4', 'dhcp6' or 'accept-ra: true'")
    families[able[0]]["dns-search"] = "".join(f"{domain};" for domain in interface.nameservers.search)


def dhcp(interface: Interface, version: int) -> DhcpOverrides | None:
    """What is to be different about this family's DHCP; None where it is not used, or nothing is."""
    used, found = (
        (interface.dhcp4, interface.dhcp4_overrides) if version == 4 else (interface.dhcp6, interface.dhcp6_overrides)
    )
    return found if used and found is not msgspec.UNSET else None


def _overrides(key: str, interface: Interface, version: int) -> dict[str, str]:
    found = dhcp(interface, version)
    if found is None:
        return {}
    field = f"dhcp{version}-overrides"
    _check_overrides(key, field, found, mtu=interface.mtu is not msgspec.UNSET)
    keys = {}
    if found.use_dns is False:
        keys["ignore-auto-dns"] = "true"
    if found.use_routes is False:
        keys["ignore-auto-routes"] = "true"
        if not any(route.is_default and route.version == version for route in interface.all_routes()):
            keys["never-default"] = "true"
    if found.send_hostname is not msgspec.UNSET:
        keys["dhcp-send-hostname"] = "true" if found.send_hostname else "false"
    if found.hostname is not msgspec.UNSET:
        keys["dhcp-hostname"] = found.hostname
    if found.route_metric is not msgspec.UNSET:
        keys["route-metric"] = str(found.route_metric)
    return keys


def _check_overrides(key: str, field: str, found: DhcpOverrides, *, mtu: bool) -> None:
    """Raise `ItemError` for what NetworkManager has no setting for."""
    check_domains(MANAGER, key, field, found)
    if found.use_ntp is True:
        raise unsupported(MANAGER, key, f"{field}.use-ntp", "it leaves the clock to others; name the servers in 'ntp'")
    if found.use_mtu is False and not mtu:
        raise unsupported(MANAGER, key, f"{field}.use-mtu", "only an 'mtu' of the document's own goes before DHCP's")


def _hostname(key: str, interface: Interface) -> dict[str, str]:
    """Whether DHCP's answer names the machine: one setting for both families."""
    said = {
        found.use_hostname
        for version in (4, 6)
        if (found := dhcp(interface, version)) is not None and found.use_hostname is not msgspec.UNSET
    }
    if len(said) > 1:
        raise unsupported(MANAGER, key, "use-hostname", "it is one setting for DHCPv4 and DHCPv6 together")
    return {"from-dhcp": str(int(said.pop()))} if said else {}  # a number (NMTernary): its words would be passed over


def _route(number: int, route: Route) -> dict[str, str]:
    words = [_EVERYWHERE[route.version] if route.is_default else str(route.to)]
    if route.via is not msgspec.UNSET or route.metric is not msgspec.UNSET:
        words.append(_NOWHERE[route.version] if route.via is msgspec.UNSET else route.via)
    if route.metric is not msgspec.UNSET:
        words.append(str(route.metric))
    options = [f"table={route.table}"] if route.table is not msgspec.UNSET else []
    options += [f"src={route.source}"] if route.source is not msgspec.UNSET else []
    options += ["onlink=true"] if route.on_link else []
    keys = {f"route{number}": ",".join(words)}
    return keys | {f"route{number}_options": ",".join(options)} if options else keys


def _rule(key: str, rule: RoutingPolicy) -> str:
    if rule.priority is msgspec.UNSET:
        raise unsupported(MANAGER, key, "routing-policy", "it takes no rule without a 'priority'; give it one")
    words = [f"priority {rule.priority}"]
    words += [f"from {rule.source}"] if rule.source is not msgspec.UNSET else []
    words += [f"to {rule.to}"] if rule.to is not msgspec.UNSET else []
    words += [f"tos 0x{rule.type_of_service:02x}"] if rule.type_of_service is not msgspec.UNSET else []
    words += [f"fwmark {rule.mark}"] if rule.mark is not msgspec.UNSET else []
    return " ".join([*words, f"table {rule.table}"])
