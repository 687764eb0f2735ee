# SPDX-License-Identifier: Apache-2.0
"""Networks in other words: what cloud-init and OpenStack publish is read as they mean it, and nothing is lost without a word."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from host_agent.__main__ import main
from host_agent.documents.convert import convert
from host_agent.documents.formats.formats import converted, recognised
from host_agent.documents.formats.netmask import mask_of, prefix_length
from host_agent.documents.yaml_values import parse
from host_agent.errors import BadFile
from pv_channel.document import from_values
from pv_channel.errors import BadDocument
from tests.host.damage import damaged
from tests.host.etc import parse_text
from tests.host.networks import OPENSTACK, VERSION1, for_openstack, for_version1, meaning, networks

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = Path("net.yaml")
DOCUMENT = "instance-id: i-1\n"


def as_v2(values: object, source: str) -> dict[str, Any]:
    """*values* in version 2, without its version."""
    network: dict[str, Any] = converted(values, source, "v2")["network"]
    return {name: value for name, value in network.items() if name != "version"}


@pytest.mark.parametrize(("text", "meaning"), VERSION1.values(), ids=VERSION1)
def test_what_cloud_init_publishes_of_version_1_means_this(text: str, meaning: dict[str, Any]) -> None:
    values = parse(text).values
    assert recognised(values["network"] if isinstance(values, dict) else None) == "v1"
    assert as_v2(values, "v1") == meaning


@pytest.mark.parametrize(("values", "meaning"), OPENSTACK.values(), ids=OPENSTACK)
def test_what_openstack_publishes_means_this(values: dict[str, Any], meaning: dict[str, Any]) -> None:
    assert recognised(values) == "openstack"
    assert as_v2(values, "openstack") == meaning


def version1(entry: str) -> str:
    """A configuration with one more *entry*."""
    return "version: 1\nconfig:\n- {type: physical, name: eth0}\n- {" + entry + "}\n"


@pytest.mark.parametrize(
    ("subnet", "meaning"),
    [
        ("type: dhcp4", {"dhcp4": True}),
        ("type: dhcp, metric: 100", {"dhcp4": True, "dhcp4-overrides": {"route-metric": 100}}),
        ("type: dhcp6", {"dhcp6": True}),
        ("type: ipv6_dhcpv6-stateful", {"dhcp6": True}),
        ("type: ipv6_dhcpv6-stateless", {"dhcp6": True, "accept-ra": True}),
        ("type: ipv6_slaac", {"accept-ra": True}),
        ("type: manual", {}),
        ("type: manual, control: auto, mtu: '1400'", {"mtu": 1400}),
        ("type: static, address: 10.0.0.5", {"addresses": ["10.0.0.5/24"]}),
        ("type: static, address: 10.0.0.5/255.255.0.0", {"addresses": ["10.0.0.5/16"]}),
        ("type: static, address: 10.0.0.5, netmask: 20", {"addresses": ["10.0.0.5/20"]}),
        ("type: static, address: 10.0.0.5/24, broadcast: 10.0.0.255", {"addresses": ["10.0.0.5/24"]}),
        ("type: static6, address: 'fd00::5'", {"addresses": ["fd00::5/64"]}),
        ("type: static, address: 'fd00::5', netmask: 'ffff:ffff::'", {"addresses": ["fd00::5/32"]}),
        ("type: static6, address: 'fd00::5/64', gateway: 'fd00::1'", {"addresses": ["fd00::5/64"], "gateway6": "fd00::1"}),
        (
            "type: static, address: 10.0.0.5/24, gateway: 10.0.0.1, metric: 5",
            {"addresses": ["10.0.0.5/24"], "routes": [{"to": "default", "via": "10.0.0.1", "metric": 5}]},
        ),
        (
            "type: static, address: 10.0.0.5/24, dns_nameservers: 10.0.0.1 10.0.0.2, dns_search: [a.example]",
            {"addresses": ["10.0.0.5/24"], "nameservers": {"addresses": ["10.0.0.1", "10.0.0.2"], "search": ["a.example"]}},
        ),
    ],
)
def test_a_subnet_of_version_1_means_this(subnet: str, meaning: dict[str, Any]) -> None:
    text = version1("type: bridge, name: br0, bridge_interfaces: [], subnets: [{" + subnet + "}]")
    assert as_v2(parse(text).values, "v1")["bridges"]["br0"] == meaning


@pytest.mark.parametrize(
    ("params", "meaning"),
    [
        ("mode: 1, miimon: '100'", {"mode": "active-backup", "mii-monitor-interval": 100}),
        ("bond-mode: 802.3ad, bond_lacp_rate: 1, bond-xmit_hash_policy: 4", {
            "mode": "802.3ad", "lacp-rate": "fast", "transmit-hash-policy": "encap3+4"}),
        ("arp_interval: 5, arp_ip_target: '10.0.0.1, 10.0.0.2', arp_all_targets: 1, arp_validate: 3", {
            "arp-interval": 5, "arp-ip-targets": ["10.0.0.1", "10.0.0.2"], "arp-all-targets": "all", "arp-validate": "all"}),
        ("num_unsol_na: 3, all_slaves_active: 1, fail_over_mac: follow, primary_reselect: 2", {
            "gratuitous-arp": 3, "all-slaves-active": True, "fail-over-mac-policy": "follow",
            "primary-reselect-policy": "failure"}),
    ],
)  # fmt: skip
def test_the_kernels_bonding_options_have_netplans_names(params: str, meaning: dict[str, Any]) -> None:
    text = version1("type: bond, name: bond0, bond_interfaces: [eth0, eth9], params: {" + params + "}")
    v2 = as_v2(parse(text).values, "v1")
    assert v2["bonds"]["bond0"] == {"interfaces": ["eth0", "eth9"], "parameters": meaning}
    assert v2["ethernets"] == {"eth0": {}, "eth9": {}}


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (version1("type: physical, name: eth0"), ":4:26: config[1].name: ", "another interface called 'eth0'"),
        (version1("type: physical, name: eth 1"), "config[1].name: ", "an interface name"),
        (version1("type: physical"), "config[1].name: ", "expected a string, got nothing"),
        (version1("type: infiniband, name: ib0"), "config[1].type: ", "expected one of physical, bond"),
        (version1("type: loopback, name: lo"), "config[1].type: ", "expected one of"),
        (version1("name: lo"), "config[1].type: ", "got nothing"),
        (version1("type: vlan, name: v, vlan_link: eth0, vlan_id: 5000"), "config[1].vlan_id: ", "<= 4094"),
        (version1("type: vlan, name: v, vlan_link: eth0, vlan_id: five"), "config[1].vlan_id: ", "Expected `int`"),
        (version1("type: physical, name: a, mac_address: 12"), "config[1].mac_address: ", "expected a string"),
        (version1("type: physical, name: a, mtu: 5"), "config[1].mtu: ", ">= 68"),
        (version1("type: physical, name: a, keep_configuration: true"), "config[1].keep_configuration: ", "no counterpart"),
        (version1("type: bond, name: b, bond_interfaces: [eth0], params: {bond-use_carrier: 1}"),
         "config[1].params.bond-use_carrier: ", "no counterpart"),
        (version1("type: bond, name: b, bond_interfaces: [eth0], params: {bond-mode: fast}"),
         "config[1].params.bond-mode: ", "Invalid enum value"),
        (version1("type: bridge, name: b, bridge_interfaces: [eth0], params: {bridge_maxwait: 15}"),
         "config[1].params.bridge_maxwait: ", "no counterpart"),
        (version1("type: bridge, name: b, bridge_interfaces: [eth0], params: {bridge_stp: perhaps}"),
         "config[1].params.bridge_stp: ", "true or false"),
        (version1("type: bridge, name: b, bridge_interfaces: [eth0], params: {bridge_pathcost: [eth0]}"),
         "config[1].params.bridge_pathcost[0]: ", "eth0 50"),
        (version1("type: physical, name: a, subnets: [{type: dhcp5}]"), "config[1].subnets[0].type: ", "expected one of static"),
        (version1("type: physical, name: a, subnets: [{type: dhcp, control: manual}]"), "subnets[0].control: ", "at boot"),
        (version1("type: physical, name: a, subnets: [{type: static, address: 10.0.0.0/24}]"),
         "config[1].subnets[0].address: ", "no host's"),
        (version1("type: physical, name: a, subnets: [{type: static, address: 10.0.0.1, netmask: 255.0.255.0}]"),
         "config[1].subnets[0].netmask: ", "not all in front"),
        (version1("type: physical, name: a, subnets: [{type: static, address: 10.0.0.1/8, netmask: 255.0.0.255}]"),
         "config[1].subnets[0].netmask: ", "not all in front"),
        (version1("type: physical, name: a, subnets: [{type: static, address: 10.0.0.1/8, netmask: 255.255.0.0}]"),
         "config[1].subnets[0].netmask: ", "another prefix length than config[1].subnets[0].address"),
        (version1("type: physical, name: a, subnets: [{type: static, address: 10.0.0.1/8, broadcast: 10.0.0.255}]"),
         "config[1].subnets[0].broadcast: ", "usual"),
        (version1("type: physical, name: a, subnets: [{type: static, address: 10.0.0.1/8, pointopoint: 10.0.0.2}]"),
         "config[1].subnets[0].pointopoint: ", "no counterpart"),
        (version1("type: physical, name: a, subnets: [{type: static, address: 10.0.0.1/8, metric: 5}]"),
         "config[1].subnets[0].metric: ", "no counterpart"),
        (version1("type: physical, name: a, mtu: 1500, subnets: [{type: dhcp, mtu: 1400}]"),
         "config[1].subnets[0].mtu: ", "another 'mtu' than config[1].mtu"),
        (version1("type: physical, name: a, accept-ra: false, subnets: [{type: ipv6_slaac}]"),
         "config[1].subnets[0].type: ", "another 'accept-ra' than config[1].accept-ra"),
        (version1("type: physical, name: a, subnets: [{type: dhcp, routes: [{destination: 10.0.0.0, gateway: 10.0.0.1}]}]"),
         "config[1].subnets[0].routes[0].destination: ", "prefix length"),
        (version1("type: physical, name: a, subnets: [{type: dhcp, routes: [{destination: 10.0.0.1/8, gateway: 10.0.0.1}]}]"),
         "config[1].subnets[0].routes[0]: ", "without host bits"),
        (version1("type: physical, name: a, subnets: [{type: dhcp, routes: [{destination: 10.0.0.0/8, via: 10.0.0.1}]}]"),
         "config[1].subnets[0].routes[0].via: ", "no counterpart"),
        (version1("type: nameserver, address: 10.0.0.1"), "config[1].address: ", "no interface has addresses"),
        (version1("type: nameserver, address: 10.0.0.1, interface: eth5"), "config[1].interface: ", "no interface 'eth5'"),
        (version1("type: route, destination: 10.0.0.0/8, gateway: 10.0.0.1"), "config[1]: ", "which interface"),
        ("version: 1\n", "config: ", "is needed"),
        ("version: 1\nconfig: disabled\n", "config: ", "expected a mapping"),
        ("version: 1\nconfig: []\nrenderer: networkd\n", "renderer: ", "no counterpart"),
        ("links: []\nextra: 1\n", ":2:8: extra: ", "no counterpart"),
        ("links: [{id: a, type: phy}]\n", "links[0].ethernet_mac_address: ", "is needed"),
        ("links: [{id: a, type: vlan, vlan_link: b, vlan_id: 1, vlan_mac_address: 00:16:3e:00:00:01}]\n",
         "links[0].vlan_link: ", "no link with the id 'b'"),
        ("links: []\nnetworks: [{id: n, link: a, type: ipv4_dhcp}]\n", "networks[0].link: ", "no link with the id 'a'"),
        ("links: []\nservices: [{type: ntp, address: 10.0.0.1}]\n", "services[0].type: ", "expected dns"),
        ("links: []\nservices: [{type: dns, address: 10.0.0.1}]\n", "services[0].address: ", "no interface has addresses"),
        ("version: 2\nethernets: {eth0: {mtu: 5}}\n", ":2:25: ethernets.eth0.mtu: ", ">= 68"),
        ("network: {version: 2, ethernets: {eth0: {mtu: 5}}}\n", ":1:47: network.ethernets.eth0.mtu: ", ">= 68"),
        ("network: {version: 2}\nssh: 1\n", "ssh: ", "beside 'network'"),
        ("version: 3\n", "net.yaml: ", "--from"),
        ("- a\n", "net.yaml: ", "--from"),
        ("a: [\n", "net.yaml:", "not YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_line_and_path(text: str, place: str, problem: str) -> None:
    with pytest.raises(BadFile) as caught:
        convert(text, FILE, None, "v2")
    assert place in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


CARD = {"match": {"macaddress": "00:16:3e:00:00:01"}, "set-name": "eth0"}


@pytest.mark.parametrize(
    ("target", "card", "place"),
    [
        ("v1", {"optional": True}, "ethernets.eth0.optional"),
        ("v1", {"dhcp4": True, "dhcp4-overrides": {"use-dns": False}}, "ethernets.eth0.dhcp4-overrides.use-dns"),
        ("v1", {"dhcp4-overrides": {"route-metric": 5}}, "ethernets.eth0.dhcp4-overrides"),
        ("v1", {"routing-policy": [{"table": 5, "from": "10.0.0.0/8"}]}, "ethernets.eth0.routing-policy"),
        ("v1", {"routes": [{"to": "10.0.0.0/8", "via": "10.9.0.1", "table": 5}]}, "ethernets.eth0.routes[0].table"),
        ("v1", {"routes": [{"to": "10.0.0.0/8"}]}, "ethernets.eth0.routes[0]"),
        ("v1", {"macaddress": "00:16:3e:00:00:02"}, "ethernets.eth0.macaddress"),
        ("v1", {"match": {"driver": "xen_netfront", "macaddress": "00:16:3e:00:00:01"}}, "ethernets.eth0.match.driver"),
        ("openstack", {"optional": True}, "ethernets.eth0.optional"),
        ("openstack", {"dhcp4": True, "dhcp4-overrides": {"use-dns": False}}, "ethernets.eth0.dhcp4-overrides"),
        ("openstack", {"wakeonlan": True}, "ethernets.eth0.wakeonlan"),
        ("openstack", {"gateway4": "10.0.0.1"}, "ethernets.eth0.gateway4"),
        ("openstack", {"dhcp4": True, "routes": [{"to": "10.0.0.0/8", "via": "10.9.0.1"}]}, "ethernets.eth0.routes[0]"),
        ("openstack", {"addresses": ["fd00::5/64"]}, "ethernets.eth0.addresses"),
        ("openstack", {"accept-ra": False}, "ethernets.eth0.accept-ra"),
        ("openstack", {"accept-ra": False, "dhcp6": True, "addresses": ["fd00::5/64"]}, "ethernets.eth0.accept-ra"),
        ("openstack", {"nameservers": {"addresses": ["10.0.0.1"]}}, "ethernets.eth0.nameservers"),
    ],
)
def test_what_the_target_cannot_say_is_an_error_and_not_dropped(target: str, card: dict[str, Any], place: str) -> None:
    with pytest.raises(BadDocument) as caught:
        converted({"version": 2, "ethernets": {"eth0": CARD | card}}, "v2", target)
    assert caught.value.path == place


@pytest.mark.parametrize(
    ("target", "network", "place", "cure"),
    [
        ("v1", {"ethernets": {"a": {"match": {"macaddress": "00:16:3e:00:00:01"}}}}, "ethernets.a.match", "set-name: a"),
        ("openstack", {"ethernets": {"eth0": {"dhcp4": True}}}, "ethernets.eth0.match", "macaddress"),
        ("openstack", {"bonds": {"bond0": {}}}, "bonds.bond0", "macaddress"),
        ("openstack", {"bridges": {"br0": {}}}, "bridges", "no counterpart"),
        ("openstack", {"bridges": {"b": {}}, "vlans": {"v": {"id": 1, "link": "b"}}}, "vlans.v.link", "cannot say 'b'"),
    ],
)
def test_what_it_lacks_is_said_with_the_cure(target: str, network: dict[str, Any], place: str, cure: str) -> None:
    with pytest.raises(BadDocument, match=re.escape(cure)) as caught:
        converted({"version": 2, **network}, "v2", target)
    assert caught.value.path == place


def test_an_error_about_the_target_names_the_place_in_the_source() -> None:
    text = version1("type: physical, name: eth1, wakeonlan: true, mac_address: 00:16:3e:00:00:01")
    with pytest.raises(BadFile, match=re.escape("config[0]: network_data.json knows a card by its address")):
        convert(text, FILE, None, "openstack")
    with pytest.raises(BadFile, match=re.escape(":3:43: config[0].wakeonlan: network_data.json has no counterpart")):
        convert("version: 1\nconfig:\n- {type: physical, name: eth1, wakeonlan: true, mac_address: 00:16:3e:00:00:01}\n",
                FILE, None, "openstack")  # fmt: skip


def heeding_routers(values: dict[str, Any]) -> dict[str, Any]:
    """OpenStack has no word for DHCPv6 that does not hear the router first, which is what it means without a word, too."""
    for kind in ("ethernets", "bonds", "bridges", "vlans"):
        for part in values.get(kind, {}).values():
            if part.get("dhcp6"):
                part.setdefault("accept-ra", True)
    return values


ROUND = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def there_and_back(values: dict[str, Any], other: str, alike: Callable[[dict[str, Any]], dict[str, Any]] = lambda v: v) -> None:
    """What *other* can say comes back with its meaning."""
    there = converted(values, "v2", other)
    back = converted(json.loads(json.dumps(there)), other, "v2")["network"]
    assert meaning(back) == meaning(alike(values))


@given(for_version1())
@ROUND
def test_there_and_back_by_version_1_keeps_the_meaning(values: dict[str, Any]) -> None:
    there_and_back(values, "v1")


@given(for_openstack())
@ROUND
def test_there_and_back_by_openstack_keeps_the_meaning(values: dict[str, Any]) -> None:
    there_and_back(values, "openstack", heeding_routers)


@pytest.mark.parametrize("other", ["v1", "openstack"])
@given(values=networks())
@ROUND
def test_whatever_cannot_be_said_is_named_and_the_rest_keeps_its_meaning(values: dict[str, Any], other: str) -> None:
    problem = None
    try:
        there_and_back(values, other, heeding_routers if other == "openstack" else lambda v: v)
    except BadDocument as exc:
        problem = exc
    assert problem is None or problem.path.split(".")[0] in values


@pytest.mark.parametrize("meant", [meant for _, meant in VERSION1.values()], ids=VERSION1)
def test_the_published_examples_go_back_into_version_1(meant: dict[str, Any]) -> None:
    there_and_back({"version": 2, **meant}, "v1")


@pytest.mark.parametrize("meant", [meant for _, meant in OPENSTACK.values()], ids=OPENSTACK)
def test_the_published_examples_go_back_into_openstack(meant: dict[str, Any]) -> None:
    there_and_back({"version": 2, **meant}, "openstack")


EXAMPLES: list[Any] = [parse(text).values for text, _ in VERSION1.values()]
EXAMPLES += [json.loads(json.dumps(values)) for values, _ in OPENSTACK.values()]


@given(damaged(EXAMPLES))
@settings(ROUND, max_examples=500)
def test_no_values_whatsoever_raise_anything_but_a_bad_document(values: Any) -> None:
    inner = values["network"] if isinstance(values, dict) and "network" in values else values
    for target in ("v1", "v2", "openstack"):
        with contextlib.suppress(BadDocument):
            converted(values, recognised(inner) or "v1", target)


def test_one_dns_server_for_all_is_a_service_of_openstack_and_one_for_some_is_not() -> None:
    one, other = ({"match": {"macaddress": f"00:16:3e:00:00:0{n}"}, "dhcp4": True} for n in (1, 2))
    dns = {"nameservers": {"addresses": ["192.0.2.53"]}}
    shared = converted({"version": 2, "ethernets": {"a": one | dns, "b": other | dns}}, "v2", "openstack")
    assert shared["services"] == [{"type": "dns", "address": "192.0.2.53"}]
    apart = converted({"version": 2, "ethernets": {"a": one | dns, "b": other}}, "v2", "openstack")
    assert apart["services"] == []
    assert apart["networks"][0]["dns_nameservers"] == ["192.0.2.53"]


@pytest.mark.parametrize("prefix", range(33))
def test_a_mask_of_ipv4_is_its_prefix_again(prefix: int) -> None:
    assert prefix_length(mask_of(4, prefix), "p") == prefix


@pytest.mark.parametrize("prefix", range(129))
def test_a_mask_of_ipv6_is_its_prefix_again(prefix: int) -> None:
    assert prefix_length(mask_of(6, prefix), "p") == prefix


@pytest.mark.parametrize(("text", "said"), VERSION1.values(), ids=VERSION1)
def test_a_document_may_hold_version_1_and_becomes_version_2(text: str, said: dict[str, Any]) -> None:
    document = parse_text(DOCUMENT + text, FILE)
    assert document.network == from_values({"instance-id": "i", "network": {"version": 2, **said}}).network
    assert b'"version":2' in document.encode()


@pytest.mark.parametrize(("values", "said"), OPENSTACK.values(), ids=OPENSTACK)
def test_a_document_may_hold_openstacks_network_data(values: dict[str, Any], said: dict[str, Any]) -> None:
    document = parse_text(DOCUMENT + yaml.safe_dump({"network-data": values}), FILE)
    assert document.network == from_values({"instance-id": "i", "network": {"version": 2, **said}}).network


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("network:\n  version: 1\n  config:\n  - {type: physical, name: eth0, mtu: 5}\n", ":5:39: network.config[0].mtu: "),
        ("network:\n  version: 1\n  config:\n  - {type: bond, name: eth0}\n  - {type: x}\n", "network.config[1].type: "),
        ("network-data:\n  links: [{id: a, type: phy, ethernet_mac_address: 12}]\n", "data.links[0].ethernet_mac_address: "),
        ("network-data: {links: []}\nnetwork: {version: 2}\n", "network-data: says what 'network' says too"),
        ("network-data: []\n", "network-data: expected a mapping"),
        ("network: {version: 2, ethernets: {a: {mtu: 5}}}\n", "network.ethernets.a.mtu: "),
        ("network: {version: 3}\n", "network.version: "),
    ],
)
def test_an_error_in_a_document_names_the_operators_own_words(text: str, place: str) -> None:
    with pytest.raises(BadFile, match=re.escape(place)):
        parse_text(DOCUMENT + text, FILE)


def test_the_command_reads_a_file_or_standard_input_and_prints_yaml_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net"
    card = "{type: physical, name: eth0, mac_address: 00:16:3e:00:00:01, subnets: [{type: dhcp}]}"
    file.write_text(f"version: 1\nconfig: [{card}]\n")
    expected = {"version": 2, "ethernets": {"eth0": {
        "match": {"macaddress": "00:16:3e:00:00:01"}, "set-name": "eth0", "dhcp4": True}}}  # fmt: skip
    assert main(["convert", "--to", "v2", str(file)]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"network": expected}
    assert main(["convert", "--from", "v1", "--to", "openstack", "--json", str(file)]) == 0
    there = capsys.readouterr().out
    assert [link["name"] for link in json.loads(there)["links"]] == ["eth0"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(there.encode())))
    assert main(["convert", "--to", "v2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"network": expected}
    assert main(["convert", "--from", "openstack", "--to", "v2", str(file)]) == 1
    assert f"{file}:1:10: version: version 2 has no counterpart" in capsys.readouterr().err
