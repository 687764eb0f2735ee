# SPDX-License-Identifier: Apache-2.0
"""The real systemd-networkd and the real ifup make of our files what the document says, in a network namespace of their own.

Needs root, and Debian's systemd, ifupdown and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.renderers import networkd, stanzas
from pv_channel.document import from_values

if TYPE_CHECKING:
    from pv_channel.interfaces import Ethernet

MAC = "00:16:3e:01:02:03"
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NETWORKD = "/lib/systemd/systemd-networkd"
DEADLINE = 60

ETHERNET = {
    "match": {"macaddress": MAC},
    "addresses": ["10.0.0.5/24", "10.0.1.5/24", "fd00::5/64"],
    "gateway4": "10.0.0.1",
    "gateway6": "fd00::1",
    "accept-ra": False,
    "mtu": 1400,
    "routes": [
        {"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "on-link": True},
        {"to": "10.8.0.0/16"},
        {"to": "fd09::/48", "via": "fd00::9"},
    ],
    "nameservers": {"addresses": ["10.0.0.2"], "search": ["a.example", "b.example"]},
}
ADDRESSES = {"10.0.0.5/24", "10.0.1.5/24", "fd00::5/64"}
ROUTES = {
    ("default", "10.0.0.1", None), ("default", "fd00::1", None), ("10.9.0.0/16", "192.168.9.9", 50), ("10.8.0.0/16", None, None),
    ("fd09::/48", "fd00::9", None),
}  # fmt: skip

#: A namespace with an interface of our address. That ``Type=ether`` excludes a bridge of the same one cannot be shown here:
#: networkd asks udev for the type, and a namespace has no udev.
STAGE = f"""set -eu
mount --make-rprivate /
ip link set lo up
ip link add peer0 type veth peer name eth9 address {MAC}
ip link set peer0 up
"""
SHOW = """
ip -json addr show dev eth9 >"$out/addresses"
ip -json -4 route show dev eth9 >"$out/routes4"
ip -json -6 route show dev eth9 >"$out/routes6"
"""


def program(name: str, package: str) -> str:
    """Where a program is; a failure that names its package where it is not."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        pytest.fail(f"{name} is missing; on Debian: apt-get install --no-install-recommends {package}")
    return found


def ethernet() -> Ethernet:
    parsed = from_values({"instance-id": "i", "network": {"version": 2, "ethernets": {"lan": ETHERNET}}}).network
    return parsed.ethernets["lan"]  # type: ignore[union-attr]  # it was given


def perform(script: str, work: Path) -> str:
    """Run a script as root in namespaces of its own; what it printed."""
    if os.geteuid() != 0:
        pytest.fail("a network namespace needs root")
    program("ip", "iproute2")
    environment = {"PATH": SYSTEM_PATH, "LC_ALL": "C", "out": str(work)}
    command = [program("unshare", "util-linux"), "--net", "--mount", "sh", "-c", STAGE + script]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stdout
    return done.stdout


def shown(work: Path, name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((work / name).read_text())
    return loaded


def addresses(interface: dict[str, Any]) -> set[str]:
    return {f"{a['local']}/{a['prefixlen']}" for a in interface["addr_info"] if a["scope"] == "global"}


def routes(work: Path) -> set[tuple[str, str | None, int | None]]:
    """What is routed where, without what the kernel routes by itself; IPv6's 1024 is no metric of ours."""
    found = [route for name in ("routes4", "routes6") for route in shown(work, name) if route.get("protocol") != "kernel"]
    return {(r["dst"], r.get("gateway"), None if r.get("metric") == 1024 else r.get("metric")) for r in found}


def check_interface(work: Path) -> None:
    (eth9,) = shown(work, "addresses")
    assert addresses(eth9) == ADDRESSES
    assert eth9["mtu"] == 1400
    assert routes(work) == ROUTES


def test_networkd_does_what_our_file_says(tmp_path: Path) -> None:
    if not Path(NETWORKD).exists():
        pytest.fail(f"{NETWORKD} is missing; on Debian: apt-get install systemd")
    files = tmp_path / "files"
    files.mkdir()
    files.chmod(0o755)
    path = files / f"{networkd.PREFIX}lan{networkd.SUFFIX}"
    path.write_text(networkd.render("lan", ethernet()))
    path.chmod(networkd.MODE)
    # networkd gives its privileges up and has to reach the files. With /sys read-only it takes this for a container without udev.
    script = f"""
mkdir -p /run/systemd /etc/systemd/network
mount -t tmpfs tmpfs /run/systemd
mkdir /run/systemd/network
mount -t tmpfs tmpfs /etc/systemd/network
cp -p "{path}" /etc/systemd/network/
chmod 755 /run/systemd /etc/systemd/network
mount -t sysfs -o ro sysfs /sys
SYSTEMD_LOG_TARGET=console {NETWORKD} &
networkd=$!
state=/run/systemd/netif/links/$(cat /sys/class/net/eth9/ifindex)
for _ in $(seq 200); do
    if grep -q ADMIN_STATE=configured "$state" 2>/dev/null; then break; fi
    sleep 0.1
done
cp "$state" "$out/state"
{SHOW}
kill $networkd
wait $networkd || true
"""
    said = perform(script, tmp_path)
    assert not [line for line in said.splitlines() if "Unknown" in line or "ignoring" in line or "Failed to parse" in line], said
    check_interface(tmp_path)
    state = (tmp_path / "state").read_text()
    assert "ADMIN_STATE=configured" in state
    assert "DNS=10.0.0.2\n" in state
    assert "DOMAINS=a.example b.example\n" in state


def interfaces_stage(tmp_path: Path) -> str:
    """A script's beginning that gives ifup our file and a state of its own."""
    program("ifup", "ifupdown")
    path = tmp_path / "60-pv-guest-agent"
    path.write_text(stanzas.render("eth9", ethernet()))
    return f"""
mkdir -p /run/network
mount -t tmpfs tmpfs /run/network
mount -t tmpfs tmpfs /etc/network
mkdir /etc/network/interfaces.d
for hook in if-pre-up.d if-up.d if-down.d if-post-down.d; do mkdir /etc/network/$hook; done
printf 'source /etc/network/interfaces.d/*\\nauto lo\\niface lo inet loopback\\n' >/etc/network/interfaces
cp "{path}" /etc/network/interfaces.d/
"""


def test_ifup_does_what_our_file_says_and_ifdown_undoes_it(tmp_path: Path) -> None:
    script = f"""
{interfaces_stage(tmp_path)}
ifup eth9
grep -q '^eth9=eth9' /run/network/ifstate
{SHOW}
ifdown eth9
ip -json addr show dev eth9 >"$out/after"
"""
    perform(script, tmp_path)
    check_interface(tmp_path)
    (after,) = shown(tmp_path, "after")
    assert addresses(after) == set()


def test_a_half_made_interface_is_taken_down_by_force_and_can_be_brought_up_again(tmp_path: Path) -> None:
    script = f"""
{interfaces_stage(tmp_path)}
cp /etc/network/interfaces.d/60-pv-guest-agent /tmp/whole.$$
echo '    up false' >>/etc/network/interfaces.d/60-pv-guest-agent
if ifup eth9; then exit 3; fi
ifdown --force eth9 || true
ip -json addr show dev eth9 >"$out/after"
cp /tmp/whole.$$ /etc/network/interfaces.d/60-pv-guest-agent
rm /tmp/whole.$$
ifup eth9
{SHOW}
"""
    perform(script, tmp_path)
    (after,) = shown(tmp_path, "after")
    assert addresses(after) == set()
    check_interface(tmp_path)
