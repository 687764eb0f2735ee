# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud-init, all four stages of it, makes of our seed what the document says; and what it made comes back.

It runs in namespaces of its own, in an overlay over a tree that is built once. Needs root and debootstrap.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.__main__ import main
from guest_agent.provision import Provisioner
from guest_agent.system import System
from pv_channel.messages import ItemResult, Outcome, Result
from tests.guest.machine import MAC, document, key, network, no_progress

if TYPE_CHECKING:
    from pathlib import Path

HASH = "$6$saltsalt$" + "a" * 86
SCRIPT = "#!/bin/sh\necho \"$(hostname)\" >/root/ran\n"
#: A boot without systemd: what its generator would decide, then the four units' commands, as far as they come.
BOOT = f"""set -u
mount -t proc proc /proc
mount -t sysfs -o ro sysfs /sys
rm -rf /run/cloud-init
ip link set lo up
ip link add peer0 type veth peer name eth0 address {MAC}
hostname template
if ! /usr/lib/cloud-init/ds-identify; then mkdir -p /run/cloud-init; touch /run/cloud-init/disabled; exit 0; fi
touch /run/cloud-init/enabled
cloud-init init --local || true
cloud-init init || true
cloud-init modules --mode config || true
cloud-init modules --mode final || true
hostname >/root/hostname-now
cloud-init schema --config-file /var/lib/cloud/seed/nocloud/vendor-data >/root/schema 2>&1
"""
DECIDE = "mount -t proc proc /proc; /usr/lib/cloud-init/ds-identify"


@pytest.fixture
def root(debian: Path) -> Path:
    """A machine with cloud-init and the agent."""
    (debian / "usr/local/bin/pv-guest-agent").touch(0o755)
    return debian


def boot(root: Path) -> str:
    """What cloud-init says of its boot."""
    command = ["unshare", "--mount", "--uts", "--net", "--pid", "--ipc", "--fork", "chroot", str(root), "sh", "-c", BOOT]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout + done.stderr


def give(root: Path, raw: bytes, *, hand_off: bool = True) -> Result:
    """What the agent answers."""
    return Provisioner(System(root), "0", hand_off=hand_off).provision(raw, None, no_progress)


def late(root: Path, *, hand_off: bool = True) -> list[ItemResult]:
    """What it says later."""
    provisioner = Provisioner(System(root), "0", hand_off=hand_off)
    provisioner.hello()
    report = provisioner.late()
    return [] if report is None else list(report.items)


def install(root: Path) -> None:
    """Install the agent so that it hands over."""
    assert main(["install", "--root", str(root), "--hand-to", "cloud-init"]) == 0


def everything(**more: Any) -> bytes:
    """A document with all that cloud-init can be told."""
    fields: dict[str, Any] = {
        "local_hostname": "web1",
        "fqdn": "web1.example.org",
        "timezone": "Europe/Vienna",
        "locale": "C.UTF-8",
        "groups": ["deploy"],
        "ssh_authorized_keys": [key(1)],
        "users": [
            {"name": "eve", "groups": ["deploy"], "shell": "/bin/sh", "hashed_passwd": HASH, "sudo": "ALL=(ALL) NOPASSWD:ALL",
             "ssh_authorized_keys": [key(2)]}
        ],
        "ssh_genkeytypes": ["ed25519"],
        "ssh_pwauth": False,
        "write_files": [{"path": "/etc/app/one.conf", "content": "a: 'b'\n", "permissions": "0640", "owner": "eve:deploy"}],
        "network": network(
            lan={"match": {"macaddress": MAC}, "set-name": "eth0", "addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1"}
        ),
        "user_data": SCRIPT,
    }  # fmt: skip
    return document(**(fields | more))


def test_cloud_init_makes_of_the_seed_what_the_document_says_and_its_result_comes_back(root: Path) -> None:
    install(root)
    before = sorted(path.name for path in (root / "etc/ssh").glob("ssh_host_*"))
    result = give(root, everything())
    (item,) = result.items
    assert (item.item, item.outcome) == ("cloud-init", Outcome.PENDING)
    assert result.host_keys == [], "those of the template, which cloud-init replaces"
    for path in (root / "var/lib/cloud/seed/nocloud").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert late(root) == []
    said = boot(root)
    (item,) = late(root)
    assert (item.outcome, item.log) == (Outcome.APPLIED, []), said
    assert "NoCloud" in item.detail
    assert (root / "etc/hostname").read_text() == "web1\n"
    assert (root / "root/hostname-now").read_text() == "web1\n"
    assert ["127.0.1.1", "web1.example.org", "web1"] in [line.split() for line in (root / "etc/hosts").read_text().splitlines()]
    assert (root / "etc/timezone").read_text() == "Europe/Vienna\n"
    passwd = (root / "etc/passwd").read_text()
    assert "eve:x:" in passwd
    assert "debian:x:" not in passwd, "no default user beside the document's"
    assert f"eve:{HASH}:" in (root / "etc/shadow").read_text()
    assert key(2) in (root / "home/eve/.ssh/authorized_keys").read_text()
    assert (root / "root/.ssh/authorized_keys").read_text().splitlines()[-1].startswith(key(1)), "no forced command before it"
    one = root / "etc/app/one.conf"
    assert one.read_text() == "a: 'b'\n"
    assert one.stat().st_mode & 0o777 == 0o640
    assert one.stat().st_uid == next(int(line.split(":")[2]) for line in passwd.splitlines() if line.startswith("eve:"))
    assert "10.0.0.5/24" in (root / "etc/network/interfaces.d/50-cloud-init").read_text()
    assert (root / "root/ran").read_text() == "web1\n"
    keys = ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    assert before != sorted(path.name for path in (root / "etc/ssh").glob("ssh_host_*")) == keys
    assert "Valid cloud-config" in (root / "root/schema").read_text(), (root / "root/schema").read_text()
    again = give(root, everything())
    assert [item.outcome for item in again.items] == [Outcome.UNCHANGED]
    assert len(again.host_keys) == 1


def test_what_goes_wrong_inside_cloud_init_comes_back_with_its_words(root: Path) -> None:
    install(root)
    give(root, document(user_data="#!/bin/sh\nexit 3\n"))
    boot(root)
    (item,) = late(root)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "command-failed")
    assert any("scripts_user" in line or "scripts-user" in line for line in item.log)


def test_a_later_generation_of_an_instance_that_it_has_configured_is_refused_and_another_instance_is_not(root: Path) -> None:
    install(root)
    give(root, document(local_hostname="web1"))
    boot(root)
    assert [item.outcome for item in late(root)] == [Outcome.APPLIED]
    (item,) = give(root, document(2, local_hostname="web2")).items
    assert (item.outcome, item.reason) == (Outcome.FAILED, "not-supported")
    (item,) = give(root, document(1, "i-2", local_hostname="clone")).items
    assert (item.outcome, "from the next boot on" in item.detail) == (Outcome.PENDING, True)
    assert late(root) == [], "the result that is there is of the boot before"
    boot(root)
    assert [item.outcome for item in late(root)] == [Outcome.APPLIED]
    assert (root / "etc/hostname").read_text() == "clone\n"


def test_a_document_without_a_network_leaves_it_alone(root: Path) -> None:
    install(root)
    before = sorted(path.name for path in (root / "etc/network/interfaces.d").iterdir())
    give(root, document(local_hostname="web1"))
    boot(root)
    assert [item.outcome for item in late(root)] == [Outcome.APPLIED]
    assert sorted(path.name for path in (root / "etc/network/interfaces.d").iterdir()) == before


def test_user_data_alone_is_run_by_cloud_init_which_touches_nothing_else(root: Path) -> None:
    """The agent does the rest itself, before it in the same boot."""
    (root / "etc/cloud/cloud.cfg.d/95-test.cfg").write_text("datasource_list: [NoCloud, None]\n")
    result = give(root, document(local_hostname="web1", user_data=SCRIPT), hand_off=False)
    assert {item.item: item.outcome for item in result.items}["user-data"] is Outcome.PENDING
    kept = {}
    for name in ("etc/passwd", "etc/hostname", "etc/hosts", "etc/timezone", "etc/ssh/sshd_config"):
        kept[name] = (root / name).read_bytes()
    keys = {path.name: path.read_bytes() for path in (root / "etc/ssh").glob("ssh_host_*")}
    said = boot(root)
    (item,) = late(root, hand_off=False)
    assert (item.item, item.outcome, item.log) == ("user-data", Outcome.APPLIED, []), said
    assert (root / "root/ran").exists()
    # Its documentation has "users: []" for no user; the schema of this version lags behind that, and is only a warning.
    assert "schema errors: users: [] is too short\n" in (root / "root/schema").read_text(), (root / "root/schema").read_text()
    assert {name: (root / name).read_bytes() for name in kept} == kept
    assert {path.name: path.read_bytes() for path in (root / "etc/ssh").glob("ssh_host_*")} == keys
    assert not list((root / "etc/network/interfaces.d").iterdir())
    (item,) = (item for item in give(root, document(2, user_data="#!/bin/sh\nother\n"), hand_off=False).items)
    assert (item.outcome, "does not do again" in item.detail) == (Outcome.APPLIED, True)


def test_a_cloud_config_comes_through_too(root: Path) -> None:
    user_data = "#cloud-config\nwrite_files: [{path: /etc/by-cloud-init, content: x}]\n"
    result = give(root, document(user_data=user_data), hand_off=False)
    assert {item.item: item.outcome for item in result.items}["user-data"] is Outcome.PENDING
    boot(root)
    assert (root / "etc/by-cloud-init").read_text() == "x"


def test_a_boot_that_decides_against_cloud_init_is_told(root: Path) -> None:
    install(root)
    (item,) = give(root, document(local_hostname="web1")).items
    assert item.outcome is Outcome.PENDING
    (root / "etc/cloud/ds-identify.cfg").write_text("policy: disabled\n")
    boot(root)
    (item,) = late(root)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "needs-cloud-init")


def test_with_its_one_data_source_a_boot_decides_for_cloud_init_before_there_is_a_seed(root: Path) -> None:
    """On a machine's first boot the agent writes the seed after systemd's generator has decided."""
    command = ["unshare", "--mount", "--fork", "chroot", str(root), "sh", "-c", DECIDE]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0, "the control"
    install(root)
    (root / "run/cloud-init").mkdir(exist_ok=True)
    for path in (root / "run/cloud-init").iterdir():
        path.unlink()
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
