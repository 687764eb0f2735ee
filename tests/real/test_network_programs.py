# SPDX-License-Identifier: Apache-2.0
"""The real systemd-networkd, the real ifup and the real netplan make of our files what the document says.

Needs root, and Debian's systemd, udev, dbus, ifupdown, netplan.io and iproute2. Not every kernel has bonds and VLANs: their
files are read by the real programs here, and only bridges are brought up.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent import netlink
from guest_agent.failure import ItemError
from guest_agent.renderers import layers, link, netplan, networkd, networkd_netdev, networkd_network, stanzas, stanzas_devices
from guest_agent.renderers.interfaces import NET
from guest_agent.renderers.sections import read
from guest_agent.system import System
from tests.networks import NETWORKS, parsed
from tests.real.stage import IFUPDOWN, MACS, NETWORKD, Shown, perform, program

if TYPE_CHECKING:
    from pv_channel.network import NetworkConfig

#: What networkd, udev and netplan say of a line that they do not understand, or do not follow.
COMPLAINT = re.compile(r"Unknown|gnoring|Failed to parse|Invalid|not supported|is not allowed|conflict", re.IGNORECASE)

STATIC: dict[str, Any] = {
    "addresses": ["10.0.0.5/24", "10.0.1.5/24", "fd00::5/64"],
    "gateway4": "10.0.0.1",
    "gateway6": "fd00::1",
    "accept-ra": False,
    "mtu": 1400,
    "routes": [
        {"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "on-link": True},
        {"to": "10.8.0.0/16"},
        {"to": "fd09::/48", "via": "fd00::9"},
        {"to": "default", "via": "10.0.0.2", "table": 101},
    ],
    "routing-policy": [
        {"from": "10.0.0.5", "table": 101, "priority": 1000},
        {"from": "10.0.0.0/24", "to": "10.2.0.0/16", "table": 101, "mark": 7, "type-of-service": 16, "priority": 1001},
        {"to": "fd02::/48", "table": 101, "priority": 1002},
    ],
    "nameservers": {"addresses": ["10.0.0.2"], "search": ["a.example", "b.example"]},
}
ADDRESSES = {"10.0.0.5/24", "10.0.1.5/24", "fd00::5/64"}
ROUTES = {
    ("default", "10.0.0.1", None, "main"), ("default", "fd00::1", None, "main"), ("10.9.0.0/16", "192.168.9.9", 50, "main"),
    ("10.8.0.0/16", None, None, "main"), ("fd09::/48", "fd00::9", None, "main"), ("default", "10.0.0.2", None, "101"),
}  # fmt: skip
#: As ip(8) shows them, without who made them.
RULES: dict[int, dict[str, Any]] = {
    1000: {"src": "10.0.0.5", "table": "101"},
    1001: {
        "src": "10.0.0.0", "srclen": 24, "dst": "10.2.0.0", "dstlen": 16, "tos": "0x10", "fwmark": "0x7", "table": "101",
    },
    1002: {"src": "all", "dst": "fd02::", "dstlen": 48, "table": "101"},
}  # fmt: skip
CARD = {"version": 2, "ethernets": {"eth0": STATIC}}
BRIDGE: dict[str, Any] = {
    "version": 2,
    "ethernets": {"eth0": {}, "eth1": {}},
    "bridges": {
        "br0": {
            "interfaces": ["eth0", "eth1"],
            "addresses": ["10.0.0.5/24"],
            "gateway4": "10.0.0.1",
            "macaddress": "00:16:3e:01:02:05",
            "parameters": {"stp": False, "forward-delay": 4, "path-cost": {"eth0": 70}, "port-priority": {"eth1": 14}},
        }
    },
}
OTHER = {"interfaces": ["eth0", "eth1"], "addresses": ["10.0.0.6/24"], "parameters": {"stp": False, "priority": 4096}}
OTHER_BRIDGE = {**BRIDGE, "bridges": {"br0": OTHER}}
NOTHING = {"version": 2}


def check_card(shown: Shown, name: str) -> None:
    assert shown.addresses(name) == ADDRESSES
    assert shown.routes(name) == ROUTES
    assert shown.link(name)["mtu"] == 1400
    rules = {rule.pop("priority"): rule for rule in shown.rules}
    for rule in rules.values():
        rule.pop("protocol", None)
    assert {priority: rule for priority, rule in rules.items() if priority in RULES} == RULES


def check_bridge(shown: Shown, mac: str = "00:16:3e:01:02:05") -> None:
    assert shown.addresses("br0") == {"10.0.0.5/24"}
    assert shown.link("br0")["address"] == mac
    assert (shown.options("br0")["forward_delay"], shown.options("br0")["stp_state"]) == (400, 0)
    ports = {name: shown.link(name) for name in ("eth0", "eth1")}
    assert [port["master"] for port in ports.values()] == ["br0", "br0"]
    assert ports["eth0"]["linkinfo"]["info_slave_data"]["cost"] == 70
    assert ports["eth1"]["linkinfo"]["info_slave_data"]["priority"] == 14


def check_other_bridge(shown: Shown) -> None:
    assert shown.addresses("br0") == {"10.0.0.6/24"}
    assert shown.options("br0")["priority"] == 4096
    assert [shown.link(name)["master"] for name in ("eth0", "eth1")] == ["br0", "br0"]


def script(manager: str, steps: str) -> str:
    """*steps*, each a document's name, the interface that has to be up then, and its state by networkd's word."""
    lines = [manager]
    for step in steps.split(";"):
        name, *wanted = step.split()
        lines.append(f'become "$out/{name}"')
        lines += [f"until_true sh -c 'ip -4 addr show dev {wanted[0]} | grep -q {wanted[1]}'"] if wanted else []
        if "eth0" in wanted and manager is NETWORKD:
            lines.append("until_true sh -c 'networkctl status eth0 | grep -q configured'")
        lines += ["sleep 1", f"show {name}"]
    return "\n".join(lines)


def test_networkd_makes_a_card_what_the_document_says_and_forgets_it_again(tmp_path: Path) -> None:
    program("dbus-daemon", "dbus")
    perform(script(NETWORKD, "card eth0 10.0.1.5;nothing"), tmp_path, {"card": CARD, "nothing": NOTHING})
    check_card(Shown(tmp_path, "card"), "eth0")
    assert not [line for line in (tmp_path / "networkd.log").read_text().splitlines() if COMPLAINT.search(line)]
    after = Shown(tmp_path, "nothing")
    assert after.addresses("eth0") == set()
    assert not [rule for rule in after.rules if rule["priority"] in RULES]


def test_networkd_makes_a_bridge_makes_it_anew_and_deletes_it(tmp_path: Path) -> None:
    program("dbus-daemon", "dbus")
    documents = {"one": BRIDGE, "two": OTHER_BRIDGE, "nothing": NOTHING}
    perform(script(NETWORKD, "one br0 10.0.0.5;two br0 10.0.0.6;nothing"), tmp_path, documents)
    check_bridge(Shown(tmp_path, "one"))
    check_other_bridge(Shown(tmp_path, "two"))
    assert Shown(tmp_path, "nothing").names == {"eth0", "eth1"}
    assert "Failed" not in (tmp_path / "networkd.log").read_text().rpartition("netdev ready")[2]


def networkd_files(config: NetworkConfig) -> dict[str, str]:
    files = {f"{key}{networkd.NETWORK}": networkd_network.render(key, config) for key in config.all()}
    files |= {f"{key}{networkd.NETDEV}": text for key in config.all() if (text := networkd_netdev.render(key, config))}
    return files | {f"{key}{link.SUFFIX}": link.render(key, e) for key, e in config.ethernets.items() if link.needs_file(e)}


def test_networkd_and_udev_understand_every_line_of_every_file(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number, network in enumerate(NETWORKS.values()):
        for name, text in networkd_files(parsed(network)).items():
            (files / f"{number:02}-{name}").write_text(text)
    said = perform(
        f"""
cp "{files}"/* /etc/systemd/network/
chmod 644 /etc/systemd/network/*
SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd >"$out/networkd.log" 2>&1 &
networkd=$!
until_true test -e /run/systemd/netif/state
kill $networkd
wait $networkd || true
SYSTEMD_LOG_LEVEL=debug udevadm test-builtin net_setup_link /sys/class/net/eth0 2>&1
""",
        tmp_path,
    )
    read = [line for line in (tmp_path / "networkd.log").read_text().splitlines() if "/etc/systemd/network/" in line]
    read += [line for line in said.splitlines() if "/etc/systemd/network/" in line]
    # The corpus has many devices of one name.
    complaints = [line for line in read if COMPLAINT.search(line) and "already configured by" not in line]
    assert complaints == []
    assert read


def test_udev_names_a_card_by_its_own_address_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    cards = {index: address.hex(":") for index, address in netlink.permanent_addresses().items()}
    names = {int((path / "ifindex").read_text()): path.name for path in Path(NET).iterdir() if (path / "ifindex").exists()}
    card = next(((names[index], mac) for index, mac in cards.items() if index in names), None)
    if card is None:
        pytest.skip("no network card here has an address of its own; a virtual one never has")
    config = parsed({"ethernets": {"front": {"match": {"macaddress": card[1]}, "set-name": "wan0"}}})
    (tmp_path / "file.link").write_text(link.render("front", config.ethernets["front"]))
    stage = """set -e
mount -t tmpfs -o mode=755 tmpfs /etc/systemd/network
cp "$1" /etc/systemd/network/10-pv-guest-agent-front.link
udevadm test-builtin net_setup_link "/sys/class/net/$2"
"""
    command = ["unshare", "--mount", "sh", "-c", stage, "sh", str(tmp_path / "file.link"), card[0]]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    assert "ID_NET_LINK_FILE=/etc/systemd/network/10-pv-guest-agent-front.link\n" in done.stdout
    assert "ID_NET_NAME=wan0\n" in done.stdout


def test_ifup_makes_a_card_what_the_document_says_under_its_new_name_and_ifdown_undoes_it(tmp_path: Path) -> None:
    program("ifup", "ifupdown")
    named = {"version": 2, "ethernets": {"lan": {"match": {"macaddress": MACS[0]}, "set-name": "wan0", **STATIC}}}
    before = {"version": 2, "ethernets": {"eth0": {"addresses": ["10.3.0.5/24"]}}}
    documents = {"before": before, "card": named, "nothing": NOTHING}
    perform(script(IFUPDOWN, "before;card;nothing"), tmp_path, documents)
    assert Shown(tmp_path, "before").addresses("eth0") == {"10.3.0.5/24"}
    check_card(Shown(tmp_path, "card"), "wan0")
    after = Shown(tmp_path, "nothing")
    assert after.addresses("wan0") == set()
    assert not [rule for rule in after.rules if rule["priority"] in RULES]


def test_ifup_makes_a_bridge_makes_it_anew_and_deletes_it(tmp_path: Path) -> None:
    program("ifup", "ifupdown")
    perform(script(IFUPDOWN, "one;two;nothing"), tmp_path, {"one": BRIDGE, "two": OTHER_BRIDGE, "nothing": NOTHING})
    check_bridge(Shown(tmp_path, "one"))
    check_other_bridge(Shown(tmp_path, "two"))
    assert Shown(tmp_path, "nothing").names == {"eth0", "eth1"}


def test_a_half_made_interface_is_taken_down_by_force_and_the_old_one_comes_up_again(tmp_path: Path) -> None:
    program("ifup", "ifupdown")
    wrong = {"version": 2, "ethernets": {"eth0": {**STATIC, "routes": [{"to": "10.9.0.0/16", "via": "192.168.9.9"}]}}}
    perform(
        f"""{IFUPDOWN}
become "$out/card"
if become "$out/wrong"; then exit 3; fi
show after
""",
        tmp_path,
        {"card": CARD, "wrong": wrong},
    )
    check_card(Shown(tmp_path, "after"), "eth0")


def stanzas_of(config: NetworkConfig) -> str:
    """The file, with every card called as the document's key for it."""
    called = {key: key for key in config.all()}
    system = System(Path("/nonexistent"))
    return "".join(
        stanzas.render(key, key, config.all()[key], stanzas_devices.device(key, config, called, system))
        for key in layers.bottom_up(config)
    )


def test_ifup_and_the_shell_understand_every_line_of_every_file(tmp_path: Path) -> None:
    program("ifup", "ifupdown")
    for name, network in NETWORKS.items():
        config = parsed(network)
        if name in ("dhcp-overrides", "dhcp-without-routes"):
            with pytest.raises(ItemError, match="not-supported"):
                stanzas_of(config)
            continue
        text, path = stanzas_of(config), tmp_path / name
        path.write_text(text)
        command = ["ifup", "--no-act", "--verbose", "--all", "--force", "-i", str(path), "--state-dir", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        shell = [line for line in done.stderr.splitlines() if line.startswith("ip ")]
        assert subprocess.run(["sh", "-n"], input="\n".join(shell), text=True, check=False).returncode == 0
        commands = re.findall(r"^    (?:pre-up|up) (.*)$", text, re.MULTILINE)
        assert set(commands) <= set(done.stderr.splitlines())


def generate(root: Path, text: str) -> subprocess.CompletedProcess[str]:
    program("netplan", "netplan.io")
    path = root / netplan.FILE.lstrip("/")
    path.parent.mkdir(parents=True)
    path.touch(mode=netplan.MODE)
    path.write_text(text)
    command = ["netplan", "generate", "--root-dir", str(root)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_netplan_takes_every_file_without_a_word(tmp_path: Path, name: str) -> None:
    done = generate(tmp_path, netplan.render(parsed(NETWORKS[name])))
    assert (done.returncode, done.stdout) == (0, "")


def test_netplan_rejects_what_its_manager_cannot_do_and_says_why(tmp_path: Path) -> None:
    config = parsed({"ethernets": {"eth0": {"dhcp4": True, "dhcp6": True, "dhcp4-overrides": {"use-dns": False}}}})
    done = generate(tmp_path, netplan.render(config))
    assert done.returncode != 0
    assert "dhcp" in done.stdout


Line = tuple[str, str, str]
#: How our files for networkd differ from those that netplan makes of the same: ours and netplan's, and why.
DIFFERENCES: dict[tuple[Line | None, Line | None], str] = {
    (("Network", "DHCP", "no"), None): "networkd's own default, said for whoever reads it",
    (None, ("DHCP", "RouteMetric", "100")): "netplan's taste; a document that wants a metric says one",
    (None, ("DHCP", "UseMTU", "yes")): "with IPv6's DHCP alone there is none; with a size in the document networkd ignores it",
    (("DHCP", "UseRoutes", "yes"), None): "the default, which the document says",
    (("DHCP", "SendHostname", "yes"), None): "the default, which the document says",
    (("Bond", "Mode", "balance-rr"), None): "the default, which the document says",
    (("Match", "Type", "ether"), None): "a VLAN of the card has a name that fits, too",
    (None, ("Match", "Name", "wan0")): "the address is enough, and the file is right before the card has its name",
    (None, ("Link", "WakeOnLan", "off")): "the document says nothing of it",
    (None, ("Link", "MTUBytes", "1500")): "networkd sets it",
    (("Link", "NamePolicy", "keep kernel database onboard slot path"), None): "a .link file of ours shall change no name",
    (("Link", "AlternativeNamesPolicy", "database onboard slot path"), None): "nor take the other names away",
    (("Link", "MACAddressPolicy", "persistent"), None): "as in systemd's own file, which ours takes the place of",
}


def meaning(text: str) -> set[Line]:
    """The lines of a file without what is one thing said in two ways."""
    words = {"true": "yes", "1": "yes", "false": "no", "0": "no"}
    sections_of = {"DHCPv4": "DHCP", "DHCPv6": "DHCP"}
    lines = {(sections_of.get(name, name), key, words.get(value, value)) for name, keys in read(text) for key, value in keys}
    return {line for line in lines if line not in {("Route", "Destination", "0.0.0.0/0"), ("Route", "Destination", "::/0")}}


def test_our_files_for_networkd_mean_what_netplans_mean(tmp_path: Path) -> None:
    met = set()
    for name, network in NETWORKS.items():
        config = parsed(network)
        generate(tmp_path / name, netplan.render(config))
        for file, text in networkd_files(config).items():
            path = tmp_path / name / "run/systemd/network" / f"10-netplan-{file}"
            ours, theirs = meaning(text), meaning(path.read_text())
            differences = {(line, None) for line in ours - theirs} | {(None, line) for line in theirs - ours}
            unknown = differences - set(DIFFERENCES)
            assert not unknown, f"{name}: {file}"
            met |= differences
    assert met == set(DIFFERENCES), "a difference that is no more is taken from the list"
