# SPDX-License-Identifier: Apache-2.0
"""A network of its own to try things in: namespaces with two cards, where the agent and the real programs can do no harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.provision import Provisioner
from guest_agent.system import System

if TYPE_CHECKING:
    from collections.abc import Mapping

TOP = Path(__file__).parents[2]
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DEADLINE = 120
MACS = ("00:16:3e:01:02:03", "00:16:3e:01:02:04")

#: Nothing of the machine's own is changed: /etc is a copy, /run and /var/lib are empty, all the rest can only be read. The cards'
#: other ends are in here too. With /sys read-only networkd takes this for a container without udev.
_BEGINNING = f"""set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount --bind "$out" "$out"
mount -o remount,bind,ro /
mkdir -p /etc/systemd/network /etc/network /run/network /run/systemd /run/dbus /var/lib/dhcp
for place in /etc/systemd/network /etc/systemd/system /etc/network; do mount -t tmpfs -o mode=755 tmpfs $place; done
mkdir /etc/systemd/system/multi-user.target.wants
ip link set lo up
ip link add peer0 type veth peer name eth0 address {MACS[0]}
ip link add peer1 type veth peer name eth1 address {MACS[1]}
ip link set peer0 up
ip link set peer1 up
mount -t sysfs -o ro sysfs /sys
become() {{ (cd "{TOP}" && "{sys.executable}" -m tests.real.stage "$@"); }}
show() {{
    ip -json -details addr show >"$out/addresses.$1"
    ip -json -4 route show table all >"$out/routes4.$1"
    ip -json -6 route show table all >"$out/routes6.$1"
    ip -json -4 rule show >"$out/rules4.$1"
    ip -json -6 rule show >"$out/rules6.$1"
}}
until_true() {{
    for _ in $(seq 300); do if "$@"; then return; fi; sleep 0.1; done
    echo "never: $*"
    networkctl --no-pager 2>/dev/null || true
    ip addr
    return 1
}}
"""

#: The real networkd, and the bus that networkctl speaks to it by.
NETWORKD = """
ln -s /lib/systemd/system/systemd-networkd.service /etc/systemd/system/multi-user.target.wants/
dbus-daemon --system --nofork --nopidfile >"$out/dbus.log" 2>&1 &
bus=$!
until_true test -e /run/dbus/system_bus_socket
SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd >"$out/networkd.log" 2>&1 &
networkd=$!
until_true test -e /run/systemd/netif/state
until_true networkctl list --no-pager >/dev/null
trap 'kill $networkd $bus; wait $networkd $bus || true' EXIT
"""

#: The real ifup, after networking.service.
IFUPDOWN = """
ln -s /lib/systemd/system/networking.service /etc/systemd/system/multi-user.target.wants/
mkdir /etc/network/interfaces.d
for hook in if-pre-up.d if-up.d if-down.d if-post-down.d; do mkdir /etc/network/$hook; done
printf 'source /etc/network/interfaces.d/*\\nauto lo\\niface lo inet loopback\\n' >/etc/network/interfaces
touch /run/network/ifstate
"""


def program(name: str, package: str) -> str:
    """Where a program is; a failure that names its package where it is not."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        pytest.fail(f"{name} is missing; on Debian: apt-get install --no-install-recommends {package}")
    return found


def perform(script: str, work: Path, documents: Mapping[str, object] | None = None) -> str:
    """Run a script as root on the stage; what it printed. Each network of *documents* is one in ``$out/NAME``."""
    if os.geteuid() != 0:
        pytest.fail("a network namespace needs root")
    program("ip", "iproute2")
    for generation, (name, network) in enumerate((documents or {}).items(), 1):
        values = {"instance-id": "i-1", "generation": generation, "network": network}
        (work / name).write_text(json.dumps(values))
    command = [program("unshare", "util-linux"), "--net", "--mount", "sh", "-c", _BEGINNING + script]
    environment = {"PATH": SYSTEM_PATH, "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1", "out": str(work)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE)
    logs = "".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(work.glob("*.log")))
    assert done.returncode == 0, f"{done.stdout}\n{logs}"
    return done.stdout


class Shown:
    """What ``show NAME`` on the stage has seen."""

    def __init__(self, work: Path, name: str) -> None:
        self._links = {link["ifname"]: link for link in _load(work / f"addresses.{name}")}
        self._routes = [route for version in (4, 6) for route in _load(work / f"routes{version}.{name}")]
        self.rules = [rule for version in (4, 6) for rule in _load(work / f"rules{version}.{name}")]

    @property
    def names(self) -> set[str]:
        """Of the interfaces, without lo and the cards' other ends."""
        return set(self._links) - {"lo", "peer0", "peer1"}

    def link(self, name: str) -> dict[str, Any]:
        """What ip says of one."""
        found: dict[str, Any] = self._links[name]
        return found

    def options(self, name: str) -> dict[str, Any]:
        """What its kind has of its own."""
        found: dict[str, Any] = self._links[name]["linkinfo"]["info_data"]
        return found

    def addresses(self, name: str) -> set[str]:
        """Its global ones."""
        return {f"{a['local']}/{a['prefixlen']}" for a in self._links[name]["addr_info"] if a["scope"] == "global"}

    def routes(self, name: str) -> set[tuple[str, str | None, int | None, str]]:
        """What is routed out of it where, with which metric, by which table, without what the kernel routes by itself; IPv6's
        metric 1024 is no metric of ours."""
        return {
            (r["dst"], r.get("gateway"), None if r.get("metric") == 1024 else r.get("metric"), r.get("table", "main"))
            for r in self._routes
            if r.get("dev") == name and r.get("protocol") != "kernel"
        }


def _load(path: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(path.read_text())
    return loaded


def _main() -> None:
    """Have a real agent make this machine be what each document says. Only ever run on the stage."""
    for path in sys.argv[1:]:
        result = Provisioner(System(), "0.1.0").provision(Path(path).read_bytes(), None, lambda _generation, _item: None)
        print(path.rpartition("/")[2], *(f"{i.outcome.value} {i.reason} {i.detail} {i.log}" for i in result.items))
        if result.outcome.value != "applied":
            sys.exit(f"{path}: {result}")


if __name__ == "__main__":
    _main()
