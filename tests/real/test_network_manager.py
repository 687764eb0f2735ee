# SPDX-License-Identifier: Apache-2.0
"""The real NetworkManager, unpacked and not installed, takes every profile of ours and makes of it what the document says.

Needs root, and apt for Debian's network-manager. The daemon runs with a bus of its own in namespaces of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from guest_agent.failure import ItemError
from guest_agent.renderers import network_manager, network_manager_profile, sections
from guest_agent.system import System
from lab.packages import unpack
from tests.any_network import bond_parameters, networks
from tests.guest.machine import document
from tests.networks import MAC0, NETWORKS, parsed

if TYPE_CHECKING:
    from pv_channel.network import NetworkConfig

TOP = Path(__file__).parent.parent.parent
PACKAGES = [
    "network-manager", "libnm0", "libndp0", "libteamdctl0", "libbluetooth3", "libmm-glib0", "libnewt0.52", "libpopt0", "libpsl5",
    "libjansson4", "libcurl3-gnutls", "libglib2.0-0", "libreadline8", "dbus-bin", "dbus-daemon", "libdbus-1-3", "libapparmor1",
    "libexpat1", "iproute2", "libmnl0", "libbpf1", "libelf1", "libcap2-bin", "libtirpc3", "libxtables12",
]  # fmt: skip
#: What the corpus says that NetworkManager cannot do.
REFUSED = {"dhcp-without-routes"}
LIBRARIES = f"usr/lib/{os.uname().machine}-linux-gnu"

#: A machine with two cards, on which NetworkManager is in charge. It has an /etc and a /var of its own, and nothing else can be
#: written: the agent takes it for a new instance, and makes anew whatever makes a machine itself.
STAGE = """set -eu
mount --make-rprivate /
mount -t overlay overlay -o lowerdir="$tree/usr:/usr" /usr
mount --bind "$out" "$out"
mount -o remount,bind,ro /
mkdir "$out/etc"
cp -r /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.* "$out/etc/"
for directory in /etc /var /run; do mount -t tmpfs -o mode=755 tmpfs $directory; done
cp -r "$out/etc/." /etc/
if touch /root/written 2>/dev/null || touch /usr/written 2>/dev/null; then exit 9; fi
ln -s /run /var/run
mkdir -p /run/dbus /run/lock /etc/NetworkManager/system-connections /etc/systemd/system/multi-user.target.wants
mkdir -p /etc/systemd/network /var/lib/NetworkManager
ln -s /lib/systemd/system/NetworkManager.service /etc/systemd/system/multi-user.target.wants/
mount -t sysfs -o ro sysfs /sys
ip link set lo up
ip link add peer0 type veth peer name eth0 address 00:16:3e:01:02:03
ip link add peer1 type veth peer name eth1 address 00:16:3e:01:02:04
ip link set peer0 up
ip link set peer1 up
cat >/run/bus.conf <<'XML'
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
XML
cat >/etc/NetworkManager/NetworkManager.conf <<'INI'
[main]
dns=none
rc-manager=unmanaged
no-auto-default=*
dhcp=internal
[device-cards]
match-device=interface-name:eth*,interface-name:wan*,interface-name:br*
managed=1
[device-peers]
match-device=interface-name:peer*
managed=0
INI
dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile 2>/dev/null &
bus=$!
for _ in $(seq 1200); do if [ -S /run/dbus/system_bus_socket ]; then break; fi; sleep 0.05; done
NetworkManager --no-daemon >"$out/daemon" 2>&1 &
daemon=$!
trap 'kill $daemon || true; wait $daemon || true; kill $bus' EXIT
for _ in $(seq 1200); do if nmcli general status >/dev/null 2>&1; then break; fi; sleep 0.05; done
"$python" -m tests.real.provision_here "$@"
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NetworkManager and what it needs."""
    into = tmp_path_factory.mktemp("network-manager") / "tree"
    unpack(PACKAGES, into)
    into.chmod(0o755)
    return into


def read_back(tree: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What libnm makes of a profile: it writes it again, or says what is wrong."""
    command = [str(tree / "usr/bin/nmcli"), "--offline", "connection", "modify", "connection.zone", ""]
    environment = {"LD_LIBRARY_PATH": str(tree / LIBRARIES), "LC_ALL": "C"}
    return subprocess.run(command, input=text, env=environment, capture_output=True, text=True, timeout=60)


def meaning(text: str) -> set[tuple[str, str, str]]:
    """Sections, keys and values; libnm leaves out what is so anyway and writes some values in another way."""
    anyway = {("bridge", "stp", "true"), ("ipv4", "dhcp-send-hostname", "true"), ("ipv6", "dhcp-send-hostname", "true")}
    found = {(section, key, value.lower()) for section, pairs in sections.read(text) for key, value in pairs}
    rules = {(section, key, value) for section, key, value in found if key.startswith("routing-rule")}
    return found - rules - anyway | {(section, key, " ".join(sorted(map(number, rule.split())))) for section, key, rule in rules}


def number(word: str) -> str:
    """A number in the way that everybody writes it, and a host's address without its length."""
    return str(int(word, 0)) if word.startswith("0x") else word.removesuffix("/32").removesuffix("/128")


def profiles(network: NetworkConfig) -> dict[str, str]:
    """Those of a document, on a machine without any card; what NetworkManager cannot do is left out."""
    found = {}
    for key in network.all():
        with suppress(ItemError):
            found[key] = network_manager_profile.render(key, network, System("/nonexistent"))
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_libnm_reads_of_every_profile_what_we_wrote(tree: Path, name: str) -> None:
    network = parsed(NETWORKS[name])
    found = profiles(network)
    assert (set(found) != set(network.all())) == (name in REFUSED)
    for text in found.values():
        done = read_back(tree, text)
        assert (done.returncode, done.stderr) == (0, "")
        assert meaning(text) - meaning(done.stdout) == set()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=networks())
def test_libnm_takes_whatever_we_write(tree: Path, config: dict[str, Any]) -> None:
    for text in profiles(parsed(config)).values():
        done = read_back(tree, text)
        assert (done.returncode, done.stderr) == (0, ""), text


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(parameters=bond_parameters)
def test_libnm_takes_every_bond_that_we_write(tree: Path, parameters: dict[str, Any]) -> None:
    config = {"ethernets": {"first": {}}, "bonds": {"bond0": {"interfaces": ["first"], "parameters": parameters}}}
    for text in profiles(parsed(config)).values():
        done = read_back(tree, text)
        assert (done.returncode, done.stderr) == (0, ""), text


def test_libnm_would_have_found_a_mistake(tree: Path) -> None:
    (text,) = profiles(parsed(NETWORKS["static"])).values()
    assert read_back(tree, text.replace("method=manual", "method=perhaps")).returncode != 0
    # This it drops without a word, so that only what it writes again shows it.
    damaged = text.replace("10.0.0.5/24", "10.0.0.5/240")
    assert meaning(damaged) - meaning(read_back(tree, damaged).stdout) == {("ipv4", "address1", "10.0.0.5/240")}


def on_stage(tree: Path, work: Path, *steps: bytes | str) -> list[Any]:
    """What comes of documents and commands in a row where the daemon runs."""
    if os.geteuid() != 0:
        pytest.fail("namespaces need root")
    arguments = []
    for number, step in enumerate(steps):
        path = work / f"document{number}"
        if isinstance(step, bytes):
            path.write_bytes(step)
        arguments.append(step if isinstance(step, str) else str(path))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "PYTHONPATH": str(TOP), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"tree": str(tree), "out": str(work), "python": sys.executable}
    command = ["unshare", "--net", "--mount", "sh", "-c", STAGE, "stage", *arguments]
    done = subprocess.run(command, env=environment, cwd=TOP, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + (work / "daemon").read_text()
    return [json.loads(line) for line in done.stdout.splitlines()]


def with_network(generation: int, config: dict[str, Any], **fields: Any) -> bytes:
    return document(generation, network={"version": 2, **config}, **fields)


def addresses(shown: str, name: str) -> set[str]:
    """What ``ip -json addr`` says of an interface."""
    found = next(link for link in json.loads(shown) if link["ifname"] == name)
    return {f"{address['local']}/{address['prefixlen']}" for address in found["addr_info"] if address["scope"] == "global"}


def outcome(result: Any) -> tuple[str, str]:
    (item,) = result["items"]
    assert item["item"] == "network"
    return item["outcome"], item.get("detail", "")


ADDRESSES = "ip -json addr"
PROFILES = "nmcli --terse --fields NAME,DEVICE connection show"


def test_the_daemon_does_what_the_documents_say_and_undoes_what_they_leave_out(tree: Path, tmp_path: Path) -> None:
    front = {"match": {"macaddress": MAC0}, "addresses": ["10.0.0.5/24", "fd00::5/64"], "gateway4": "10.0.0.1", "mtu": 1400}
    on_link = {"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "on-link": True}
    front |= {"routes": [on_link, {"to": "fd09::/48", "via": "fd00::9"}]}
    second = {"addresses": ["10.1.0.5/24"], "routes": [{"to": "default", "via": "10.1.0.1", "table": 101}]}
    second |= {"routing-policy": [{"from": "10.1.0.0/24", "table": 101, "priority": 1000, "type-of-service": 16}]}
    first, shown, rules, table, routes, again, changed, changed_shown, known, emptied, left = on_stage(
        tree, tmp_path,
        with_network(1, {"ethernets": {"front": front, "eth1": second}}),
        ADDRESSES, "ip rule", "ip route show table 101", "ip -json route; ip -json -6 route",
        with_network(1, {"ethernets": {"front": front, "eth1": second}}),
        with_network(2, {"ethernets": {"front": {**front, "addresses": ["10.0.0.6/24"]}}}),
        ADDRESSES, PROFILES,
        with_network(3, {}),
        PROFILES,
    )  # fmt: skip
    assert outcome(first) == ("applied", "by NetworkManager")
    assert addresses(shown, "eth0") == {"10.0.0.5/24", "fd00::5/64"}
    assert addresses(shown, "eth1") == {"10.1.0.5/24"}
    assert "1000:\tfrom 10.1.0.0/24 tos 0x10 lookup 101" in rules
    assert "default via 10.1.0.1 dev eth1" in table
    assert '"dst":"10.9.0.0/16","gateway":"192.168.9.9"' in routes
    assert '"dst":"fd09::/48","gateway":"fd00::9"' in routes
    assert again["outcome"] == "unchanged"
    assert outcome(changed) == ("applied", "by NetworkManager")
    assert addresses(changed_shown, "eth0") == {"10.0.0.6/24"}
    assert addresses(changed_shown, "eth1") == set()
    assert "pv-guest-agent front:eth0" in known
    assert "eth1" not in known
    assert outcome(emptied)[0] == "applied"
    assert "pv-guest-agent" not in left


def test_a_bridge_comes_up_with_its_ports_and_a_card_gets_its_name(tree: Path, tmp_path: Path) -> None:
    config = {
        "ethernets": {"lan": {"match": {"macaddress": MAC0}, "set-name": "wan0"}, "eth1": {}},
        "bridges": {"br0": {"interfaces": ["lan", "eth1"], "addresses": ["10.0.0.5/24"], "parameters": {"stp": False}}},
    }
    # With its address up a bridge is up; nobody waits for the last of its ports.
    wait = "for _ in $(seq 100); do if [ $(ip -br link show master br0 | wc -l) = 2 ]; then break; fi; sleep 0.1; done"
    result, _, shown, members = on_stage(
        tree, tmp_path, with_network(1, config), wait, ADDRESSES, "ip -json link show master br0"
    )  # fmt: skip
    assert outcome(result) == ("applied", "by NetworkManager")
    assert addresses(shown, "br0") == {"10.0.0.5/24"}
    assert {link["ifname"] for link in json.loads(members)} == {"wan0", "eth1"}


def test_what_the_daemon_does_not_take_fails_and_the_old_network_stays(tree: Path, tmp_path: Path) -> None:
    profile = f"{network_manager.DIRECTORY}/{network_manager.PREFIX}eth0{network_manager.SUFFIX}"
    good = {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}}}
    absent = {"ethernets": {"eth0": {"addresses": ["10.0.0.6/24"]}, "eth1": {"dhcp4": True}}}
    first, before, failed, after, shown = on_stage(
        tree, tmp_path, with_network(1, good), f"cat {profile}",
        # Nobody answers on the other end of eth1.
        with_network(2, absent), f"cat {profile}", ADDRESSES,
    )  # fmt: skip
    assert outcome(first)[0] == "applied"
    assert outcome(failed)[0] == "failed"
    assert failed["items"][0]["reason"] == "command-failed"
    assert after == before
    assert addresses(shown, "eth0") == {"10.0.0.5/24"}


def test_somebodys_profile_for_the_same_card_is_a_conflict_unless_it_is_to_be_overruled(tree: Path, tmp_path: Path) -> None:
    other = "/etc/NetworkManager/system-connections/office.nmconnection"
    text = f"[connection]\\nid=office\\ntype=ethernet\\n[ethernet]\\nmac-address={MAC0.upper()}\\n"
    text += "[ipv4]\\nmethod=manual\\naddress1=10.7.7.7/24\\n"
    config = {"ethernets": {"eth0": {"match": {"macaddress": MAC0}, "addresses": ["10.0.0.5/24"]}}}
    _, refused, overruled, shown, _, later = on_stage(
        tree, tmp_path, f"printf '{text}' >{other}; chmod 600 {other}; nmcli connection reload",
        with_network(1, config), with_network(2, config, overwrite=["network"]), ADDRESSES,
        "nmcli networking off; nmcli networking on; sleep 1", ADDRESSES,
    )  # fmt: skip
    assert refused["items"][0]["reason"] == "conflict"
    assert other in outcome(refused)[1]
    assert outcome(overruled)[0] == "applied"
    assert addresses(shown, "eth0") == {"10.0.0.5/24"}
    assert addresses(later, "eth0") == {"10.0.0.5/24"}
