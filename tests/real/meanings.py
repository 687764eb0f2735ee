# SPDX-License-Identifier: Apache-2.0
"""What files for network managers mean, whoever wrote them: facts about interfaces, by the names these have on the machine.

A reader knows each key that either side writes; one that it does not know is a fact of its own, so that nothing is passed over.
"""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatchcase
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

import yaml

from guest_agent.renderers import sections, shell_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: A machine's cards: their names, with their addresses and drivers.
Cards = dict[str, tuple[str, str]]
#: What an interface is, or is to do.
Fact = tuple[str, ...]
Facts = set[tuple[str, Fact]]

_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
#: The kernel's name of each of netplan's names for a bond's options.
BOND = {
    "mode": "mode", "mii-monitor-interval": "miimon", "transmit-hash-policy": "xmit_hash_policy", "lacp-rate": "lacp_rate",
    "gratuitous-arp": "num_grat_arp", "down-delay": "downdelay", "up-delay": "updelay", "primary": "primary",
    "fail-over-mac-policy": "fail_over_mac", "primary-reselect-policy": "primary_reselect",
}  # fmt: skip


def route(to: str, via: str = "", metric: object = "") -> Fact:
    """One, to a network by its canonical name."""
    network = _DEFAULT[6 if ":" in via else 4] if to in ("default", "") else str(ip_network(to, strict=False))
    return ("route", network, via, str(metric))


def hardware(cards: Cards, *, mac: str = "", name: str = "", driver: str = "") -> list[str]:
    """The cards that are meant; a name that no card has is a device's that is yet to be made."""
    found = [
        card
        for card, (own, drives) in cards.items()
        if (not mac or own == mac.lower()) and (not name or fnmatchcase(card, name)) and (not driver or drives == driver)
    ]
    return found or ([name] if name else [])


def netplan(root: Path, cards: Cards) -> Facts:
    """Every ``*.yaml`` of netplan's."""
    facts: Facts = set()
    for path in sorted(root.glob("etc/netplan/*.yaml")):
        network = yaml.safe_load(path.read_text())["network"]
        names: dict[str, list[str]] = {}
        for kind in ("ethernets", "bonds", "bridges", "vlans"):
            for key, interface in network.get(kind, {}).items():
                match = interface.get("match", {})
                mac, name, driver = (str(match.get(word, "")) for word in ("macaddress", "name", "driver"))
                names[key] = hardware(cards, mac=mac, name=name, driver=driver) if match else [key]
        for kind in ("ethernets", "bonds", "bridges", "vlans"):
            for key, interface in network.get(kind, {}).items():
                facts |= {(name, fact) for name in names[key] for fact in _of_netplan(interface, names)}
                members = [name for member in interface.get("interfaces", []) for name in names[member]]
                facts |= {(member, ("member", name)) for member in members for name in names[key]}
                facts |= {(member, fact) for member, fact in _ports_of_netplan(interface, names)}
    return facts


def _of_netplan(interface: dict[str, Any], names: dict[str, list[str]]) -> Iterator[Fact]:
    for word, value in interface.items():
        match word:
            case "dhcp4" | "dhcp6":
                yield from [(word,)] if value else []
            case "addresses":
                yield from (("address", address) for address in value)
            case "gateway4" | "gateway6":
                yield route("", value)
            case "routes":
                yield from (route(each["to"], each["via"], each.get("metric", "")) for each in value)
            case "nameservers":
                yield from (("dns", server) for server in value.get("addresses", []))
                yield from (("search", domain) for domain in value.get("search", []))
            case "macaddress":
                yield ("mac", value)
            case "dhcp4-overrides":
                yield from (("dhcp4", option, str(setting).lower()) for option, setting in value.items())
            case "link":
                yield ("vlan", str(interface["id"]), *names[value])
            case "parameters" if "mode" in value:
                yield from (("bond", BOND[option], str(setting)) for option, setting in value.items())
            case "parameters":
                ports = ("path-cost", "port-priority")
                yield from (("bridge", option, str(setting).lower()) for option, setting in value.items() if option not in ports)
            case "match" | "set-name" | "interfaces" | "id":
                pass
            case _:
                yield (word, str(value).lower())


def _ports_of_netplan(interface: dict[str, Any], names: dict[str, list[str]]) -> Iterator[tuple[str, Fact]]:
    parameters = interface.get("parameters", {})
    for option in ("path-cost", "port-priority"):
        for member, value in parameters.get(option, {}).items():
            yield from ((name, ("port", option, str(value))) for name in names[member])


def links(root: Path, cards: Cards) -> Facts:
    """udev's files: who is woken. What a card is called is what the other facts call it."""
    facts: Facts = set()
    for path in sorted(root.glob("etc/systemd/network/*.link")):
        keys = {name: dict(pairs) for name, pairs in sections.read(path.read_text())}
        if keys["Link"].get("WakeOnLan") == "magic":
            facts |= {(name, ("wakeonlan", "true")) for name in _matched(keys["Match"], cards)}
    return facts


def networkd(root: Path, cards: Cards) -> Facts:
    """Every ``*.network`` and ``*.netdev`` of networkd's, and udev's."""
    facts = links(root, cards)
    for path in sorted(root.glob("etc/systemd/network/*.netdev")):
        facts |= _of_netdev({name: dict(pairs) for name, pairs in sections.read(path.read_text())})
    taken: set[str] = set()
    for path in sorted(root.glob("etc/systemd/network/*.network")):
        parts = sections.read(path.read_text())
        # The first file that matches counts.
        names = set(_matched(dict(dict(parts)["Match"]), cards)) - taken
        taken |= names
        for section, pairs in parts:
            if section != "Match":
                facts |= {(name, fact) for name in names for fact in _of_networkd(section, pairs)}
    return facts


def _matched(match: dict[str, str], cards: Cards) -> list[str]:
    mac = match.get("PermanentMACAddress") or match.get("MACAddress", "")
    return hardware(cards, mac=mac, name=match.get("Name") or match.get("OriginalName", ""), driver=match.get("Driver", ""))


def _of_netdev(keys: dict[str, dict[str, str]]) -> Facts:
    device = keys.pop("NetDev")
    return {
        (device["Name"], ("netdev", device["Kind"], section, key, value))
        for section, pairs in {**keys, "NetDev": device}.items()
        for key, value in pairs.items()
    }


def _of_networkd(section: str, pairs: list[tuple[str, str]]) -> Iterator[Fact]:
    if section == "Route":
        keys = dict(pairs)
        yield route(keys.pop("Destination", ""), keys.pop("Gateway", ""), keys.pop("Metric", ""))
        pairs = list(keys.items())
    for key, value in pairs:
        match key:
            case "DHCP":
                yield from (("dhcp4",),) if value in ("ipv4", "yes") else ()
                yield from (("dhcp6",),) if value in ("ipv6", "yes") else ()
            case "Address":
                yield ("address", value)
            case "Gateway":
                yield route("", value)
            case "DNS" | "Domains":
                yield from (({"DNS": "dns", "Domains": "search"}[key], word) for word in value.split())
            case "MTUBytes":
                yield ("mtu", value)
            case "IPv6AcceptRA":
                yield ("accept-ra", {"yes": "true", "no": "false"}.get(value.lower(), value.lower()))
            case "Bond" | "Bridge":
                yield ("member", value)
            case "MACAddress":
                yield ("mac", value)
            case _:
                plain = {"yes": "true", "no": "false"}.get(value.lower(), value)
                yield (section, key, plain.lower() if plain in ("True", "False") else plain)


def network_manager(root: Path, cards: Cards) -> Facts:
    """Every profile of NetworkManager's."""
    paths = sorted(root.glob("etc/NetworkManager/system-connections/*"))
    profiles = [{name: dict(pairs) for name, pairs in sections.read(path.read_text())} for path in paths]
    profiles.sort(key=lambda profile: int(profile["connection"].get("autoconnect-priority", "0")), reverse=True)
    names: dict[str, list[str]] = {}
    for profile in profiles:
        match, connection = profile.get("match", {}), profile["connection"]
        name = connection.get("interface-name", "") or match.get("interface-name", "").rstrip(";")
        virtual = connection["type"] != "ethernet"
        mac = "" if virtual else profile.get("ethernet", {}).get("mac-address", "")
        driver = match.get("driver", "").rstrip(";")
        taken = {card for found in names.values() for card in found}
        found = [name] if virtual else hardware(cards, mac=mac, name=name, driver=driver)
        names[connection["uuid"]] = [card for card in found if card not in taken]
    facts: Facts = set()
    for profile in profiles:
        mine = names[profile["connection"]["uuid"]]
        facts |= {(name, fact) for name in mine for fact in _of_profile(profile, names)}
    return facts


def _of_profile(profile: dict[str, dict[str, str]], names: dict[str, list[str]]) -> Iterator[Fact]:
    connection = profile["connection"]
    if "master" in connection:
        yield ("member", *names[connection["master"]])
    if "vlan" in profile:
        yield ("vlan", profile["vlan"]["id"], *names[profile["vlan"]["parent"]])
    for section, keys in profile.items():
        for key, value in keys.items():
            match section, re.sub(r"\d+$", "", key):
                case "ipv4" | "ipv6", "method":
                    yield (section, "method", value)
                case _, "address":
                    yield ("address", value)
                case _, "route":
                    yield route(*value.split(","))
                case _, "gateway":
                    yield route("", value)
                case _, "dns":
                    yield from (("dns", word) for word in value.rstrip(";").split(";"))
                case _, "dns-search":
                    yield from (("search", word) for word in value.rstrip(";").split(";"))
                case _, "mtu":
                    yield ("mtu", value)
                case "ethernet", "wake-on-lan":
                    yield ("wakeonlan", "true" if value == "64" else value)
                case "ethernet", "cloned-mac-address":
                    yield ("mac", value.lower())
                case "bridge", "mac-address":
                    yield ("mac", value.lower())
                case "bond" | "bridge", _:
                    yield (section, key, value)
                case "bridge-port", _:
                    yield ("port", {"priority": "port-priority"}.get(key, key), value)
                case ("ethernet", "mac-address") | ("match", _) | ("vlan", _):
                    pass
                case "connection", "id" | "uuid" | "type" | "interface-name" | "master" | "slave-type":
                    pass
                case _:
                    yield (section, key, value)


_ADDED = re.compile(
    r"(?:post-up|up) (?:route add (?:-net |-A inet6 )?(?P<to>\S+) gw (?P<gw>\S+)(?: metric (?P<metric>\d+))? \|\| true"
    r"|ip -[46] route replace (?P<to2>\S+) via (?P<via>\S+) dev \S+(?: metric (?P<metric2>\d+))?)"
)
#: What ifup runs before an interface is up, and what of it is a fact; the rest only makes way for that.
_SET = re.compile(r"pre-up ip link set dev (\S+) (mtu|address|master|type bond primary) (\S+)")
_PORT = re.compile(r"pre-up ip link set dev (\S+) type bridge_slave(?: cost (?P<cost>\d+))?(?: priority (?P<priority>\d+))?")
_ADD = re.compile(
    r"pre-up ip link add (?:dev|link (?P<link>\S+) name) \S+(?: address (?P<mac>\S+))? type (?P<kind>\w+) ?(?P<rest>.*)"
)
_WAY = re.compile(r"pre-up ip link (?:del dev \S+ 2>/dev/null \|\| true|set dev \S+ (?:up|down))")
#: bridge-utils' words for what the kernel's are, in its units.
_BRIDGE_UTILS = {
    "bridgeprio": "priority", "ageing": "ageing_time", "fd": "forward_delay", "hello": "hello_time", "maxage": "max_age",
}  # fmt: skip


def ifupdown(root: Path, cards: Cards) -> Facts:
    """Every file in interfaces.d, and udev's."""
    facts = links(root, cards)
    for path in sorted(root.glob("etc/network/interfaces.d/*")):
        name = family = ""
        options: dict[str, dict[str, str]] = {}
        for line in map(str.strip, path.read_text().splitlines()):
            words = line.split()
            if words[:1] == ["iface"]:
                _, name, family, method = words
                if method == "dhcp":
                    facts.add((name, (f"dhcp{4 if family == 'inet' else 6}",)))
            elif words and words[0] != "auto" and not line.startswith("#"):
                facts |= set(_of_option(name, line, words))
                options.setdefault(name, {})[words[0]] = " ".join(words[1:])
        for vlan, said in options.items():
            numbered = re.fullmatch(r".*?0*(\d+)", vlan)  # where nothing else says it, ifup takes the number from the name
            number = said.get("vlan_id") or (numbered[1] if numbered else "")
            if "vlan-raw-device" in said and number:
                facts.add((vlan, ("vlan", number, said["vlan-raw-device"])))
    return facts


def _of_option(name: str, line: str, words: list[str]) -> Iterator[tuple[str, Fact]]:
    word, _, value = line.partition(" ")
    option = word.replace("_", "-")
    if word in ("post-up", "up", "pre-up"):
        yield from _of_command(name, line)
    elif option == "address":
        yield (name, ("address", value))
    elif option == "gateway":
        yield (name, route("", value))
    elif option in ("dns-nameservers", "dns-search"):
        yield from ((name, ({"dns-nameservers": "dns", "dns-search": "search"}[option], each)) for each in words[1:])
    elif option == "accept-ra":
        yield (name, ("accept-ra", "false" if value == "0" else "true"))
    elif option in ("mtu", "hwaddress"):
        yield (name, ({"mtu": "mtu", "hwaddress": "mac"}[option], value))
    elif option == "ethernet-wol":
        yield (name, ("wakeonlan", "true"))
    elif option == "bond-master":
        yield (name, ("member", value))
    elif option == "bridge-ports":
        yield from ((port, ("member", name)) for port in words[1:])
    elif option.startswith("bond-") and (option, value) != ("bond-slaves", "none"):
        yield (name, ("bond", option.removeprefix("bond-").replace("-", "_"), value))
    elif option == "bridge-stp":
        yield (name, ("bridge", "stp_state", "0" if value == "off" else "1"))
    elif option.removeprefix("bridge-") in _BRIDGE_UTILS:
        unit = 1 if option == "bridge-bridgeprio" else 100
        yield (name, ("bridge", _BRIDGE_UTILS[option.removeprefix("bridge-")], str(int(value) * unit)))
    elif word not in ("down", "pre-down", "post-down", "vlan_id", "vlan-raw-device", "bond-slaves"):
        yield (name, ("line", line))


def _of_command(name: str, line: str) -> Iterator[tuple[str, Fact]]:
    added, done, port, made = _ADDED.fullmatch(line), _SET.fullmatch(line), _PORT.fullmatch(line), _ADD.fullmatch(line)
    if added:
        metric = added["metric"] or added["metric2"] or ""
        yield (name, route(added["to"] or added["to2"], added["gw"] or added["via"], metric))
    elif done:
        facts = {"mtu": ("mtu",), "address": ("mac",), "master": ("member",), "type bond primary": ("bond", "primary")}
        yield (done[1], (*facts[done[2]], done[3]))
    elif port:
        yield from ((port[1], ("port", word, port[word])) for word in ("cost", "priority") if port[word])
    elif made:
        words = made["rest"].split()
        if made["kind"] == "vlan":
            yield (name, ("vlan", words[1], made["link"]))
        else:
            yield from ((name, (made["kind"], *pair)) for pair in zip(words[::2], words[1::2], strict=True))
        yield from [(name, ("mac", made["mac"]))] if made["mac"] else []
    elif not _WAY.fullmatch(line):
        yield (name, ("line", line))


def network_scripts(root: Path, cards: Cards) -> Facts:
    """RHEL's files."""
    return _of_shell_files(root / "etc/sysconfig/network-scripts", _of_rhel)


def wicked(root: Path, cards: Cards) -> Facts:
    """SUSE's files, and the list of nameservers."""
    directory = root / "etc/sysconfig/network"
    facts = _of_shell_files(directory, _of_suse)
    if (directory / "config").exists():
        config = shell_file.read((directory / "config").read_text())
        for word, key in (("dns", "NETCONFIG_DNS_STATIC_SERVERS"), ("search", "NETCONFIG_DNS_STATIC_SEARCHLIST")):
            facts |= {("*", (word, value)) for value in config.get(key, "").split()}
    return facts | _of_resolv_conf(root)


def _of_resolv_conf(root: Path) -> Facts:
    facts: Facts = set()
    path = root / "etc/resolv.conf"
    for words in map(str.split, path.read_text().splitlines() if path.exists() else []):
        if words[:1] in (["nameserver"], ["search"]):
            facts |= {("*", ({"nameserver": "dns", "search": "search"}[words[0]], word)) for word in words[1:]}
    return facts


def _of_shell_files(directory: Path, reader: Callable[[dict[str, str], str], Iterator[tuple[str, Fact]]]) -> Facts:
    facts: Facts = set()
    for path in sorted(directory.glob("*")):
        prefix, _, name = path.name.partition("-")
        if prefix == "ifcfg" and name != "lo":
            keys = shell_file.read(path.read_text())
            facts |= set(reader(keys, name))
        elif prefix in ("route", "route6", "ifroute"):
            facts |= {(name, fact) for fact in _of_routes(path.read_text(), columns=prefix == "ifroute")}
        elif prefix == "ifsysctl":
            facts |= {(name, ("accept-ra", "false" if path.read_text().split()[-1] == "0" else "true"))}
    return facts


def _of_routes(text: str, *, columns: bool) -> Iterator[Fact]:
    """Lines of ip's words, of SUSE's columns, or numbered assignments."""
    assigned = shell_file.read(text)
    for key, value in assigned.items():
        if key.startswith("ADDRESS"):
            number = key.removeprefix("ADDRESS")
            network = f"{value}/{assigned[f'NETMASK{number}']}"
            yield route(network, assigned[f"GATEWAY{number}"], assigned.get(f"METRIC{number}", ""))
    for words in map(str.split, [] if assigned else text.splitlines()):
        if words and not words[0].startswith("#"):
            via = words[1] if columns else words[words.index("via") + 1]
            yield route(words[0], via, words[words.index("metric") + 1] if "metric" in words else "")


def _addresses(keys: dict[str, str]) -> Iterator[str]:
    """IPADDR with PREFIX or NETMASK of the same suffix, or with its length."""
    for key in [key for key in keys if re.fullmatch(r"IPADDR(_?\d+)?", key)]:
        suffix = key.removeprefix("IPADDR")
        length = keys.pop(f"PREFIX{suffix}", "") or keys.pop(f"NETMASK{suffix}", "")
        value = keys.pop(key)
        yield str(ip_interface(f"{value}/{length}" if length else value))


def _of_rhel(keys: dict[str, str], name: str) -> Iterator[tuple[str, Fact]]:
    def say(*fact: str) -> tuple[str, Fact]:
        return (name, fact)

    yield from (say("address", address) for address in _addresses(keys))
    if keys.get("BOOTPROTO") == "dhcp":
        yield say("dhcp4")
    for key, value in keys.items():
        match key:
            case "DHCPV6C":
                yield from [say("dhcp6")] if value == "yes" else []
            case "IPV6ADDR" | "IPV6ADDR_SECONDARIES":
                yield from (say("address", address) for address in value.split())
            case "GATEWAY" | "IPV6_DEFAULTGW":
                yield (name, route("", value, keys.get("METRIC", "") if key == "GATEWAY" else ""))
            case "DNS1" | "DNS2" | "DNS3":
                yield say("dns", value)
            case "DOMAIN":
                yield from (say("search", domain) for domain in value.split())
            case "MTU":
                yield say("mtu", value)
            case "HWADDR":
                yield say("match", value.lower())
            case "MACADDR":
                yield say("mac", value.lower())
            case "MASTER" | "BRIDGE":
                yield say("member", value)
            case "BONDING_OPTS":
                yield from (say("bond", *option.split("=")) for option in value.split())
            case "BRIDGING_OPTS":
                yield from (say("bridging", *option.split("=")) for option in shlex.split(value))
            case "PHYSDEV":
                yield say("vlan-link", value)
            case "VID":
                yield say("vlan-id", value)
            case "IPV6_AUTOCONF":
                yield say("autoconf", value)
            case "ETHTOOL_OPTS":
                yield say("wakeonlan", "true" if value == "wol g" else value)
            case "DEVICE" | "ONBOOT" | "USERCTL" | "NM_CONTROLLED" | "SLAVE" | "BONDING_MASTER" | "VLAN" | "TYPE" | "BOOTPROTO":
                pass
            case _:
                yield say(key, value)


def _of_suse(keys: dict[str, str], name: str) -> Iterator[tuple[str, Fact]]:
    def say(*fact: str) -> tuple[str, Fact]:
        return (name, fact)

    six = [keys.pop(key) for key in [key for key in keys if re.fullmatch(r"IPADDR6(_\d+)?", key)]]
    yield from (say("address", address) for address in [*six, *_addresses(keys)])
    for key, value in keys.items():
        match key:
            case "BOOTPROTO":
                yield from [say("dhcp4")] if value in ("dhcp", "dhcp4") else []
                yield from [say("dhcp6")] if value in ("dhcp", "dhcp6") else []
            case "MTU":
                yield say("mtu", value)
            case "LLADDR" | "LLADDRESS":
                yield say("mac" if key == "LLADDR" else "mac?", value.lower())
            case "ETHTOOL_OPTS" | "ETHTOOL_OPTIONS":
                yield say("wakeonlan" if key == "ETHTOOL_OPTIONS" else key, "true" if value == "wol g" else value)
            case "BONDING_MODULE_OPTS":
                yield from (say("bond", *option.split("=")) for option in value.split())
            case "BRIDGE_PORTS":
                yield from ((port, ("member", name)) for port in value.split())
            case "VLAN_ID":
                yield say("vlan", value, keys.get("ETHERDEVICE", ""))
            case _ if key.startswith("BONDING_SLAVE"):
                yield (value, ("member", name))
            case "BONDING_MASTER" | "BRIDGE" | "ETHERDEVICE":
                pass
            case _:
                yield say(key, value)
