# SPDX-License-Identifier: Apache-2.0
"""The guest's units and the coldplug helper, as systemd's own tools see them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from guest_agent.__main__ import main
from pv_channel import CHANNEL_NAME

TOP = Path(__file__).parent.parent.parent
INSTANCE = r"pv-guest-agent@sys-devices-console\x2d1.service"
COLDPLUG = "pv-channel-coldplug.service"
USER_DATA = "pv-user-data.service"
#: systemd's own units, for the targets that ours name.
SYSTEM_UNITS = Path("/usr/lib/systemd/system")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system into which the agent was installed."""
    for name in ("usr/bin/python3", "usr/local/bin/pv-guest-agent"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch(0o755)
    shutil.copytree(SYSTEM_UNITS, tmp_path / "usr/lib/systemd/system", symlinks=True)
    assert main(["install", "--root", str(tmp_path)]) == 0
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.fail("systemd-analyze is missing; on Debian: apt-get install systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def verify(root: Path) -> str:
    """What systemd finds wrong with our units."""
    done = analyze("verify", "--man=no", f"--root={root}", COLDPLUG, INSTANCE, USER_DATA)
    return done.stdout + done.stderr + (f"exit status {done.returncode}" if done.returncode else "")


def test_systemd_finds_nothing_wrong_with_our_units(root: Path) -> None:
    assert verify(root) == ""


def test_systemd_finds_nothing_wrong_with_the_drop_in_that_hands_documents_to_cloud_init(root: Path) -> None:
    (root / "usr/bin/cloud-init").touch(0o755)
    assert main(["install", "--root", str(root), "--hand-to", "cloud-init"]) == 0
    assert verify(root) == ""
    shown = analyze("cat-config", f"--root={root}", "systemd/system/pv-guest-agent@.service.d/hand-to-cloud-init.conf").stdout
    assert "ExecStart=/usr/local/bin/pv-guest-agent run --hand-to cloud-init" in shown


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("NoNewPrivileges=yes", "NoNewPrivileges=perhaps"),
        ("WatchdogSec=", "WatchdogSecs="),
        ("/usr/local/bin/pv-guest-agent run", "/usr/local/bin/missing run"),
    ],
)
def test_systemd_would_have_found_a_mistake(root: Path, right: str, wrong: str) -> None:
    """The control of the test above."""
    unit = root / "etc/systemd/system/pv-guest-agent@.service"
    text = unit.read_text()
    assert right in text
    unit.write_text(text.replace(right, wrong))
    assert verify(root) != ""


def test_the_agent_is_exposed_to_less_than_half_of_what_such_agents_are(root: Path) -> None:
    """Other guest agents score 9.2 to 9.6, "UNSAFE"; the threshold is in tenths."""
    done = analyze("security", "--offline=yes", "--threshold=45", f"--root={root}", "pv-guest-agent@.service")
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The coldplug helper, a fake name helper, and, in front of the real programs, two that write down what they are told."""
    folder = tmp_path / "programs"
    folder.mkdir()
    shutil.copy(TOP / "udev/pv-channel-coldplug", folder)
    log = f'echo "${{0##*/}} $*" >>"{tmp_path}/log"\n'
    names = f'case $1 in console-2) echo {CHANNEL_NAME} ;; console-3) exit 1 ;; *) echo org.example.other ;; esac\n'
    for name, script in (("udevadm", log), ("systemctl", log), ("pv-channel-name", names)):
        (folder / name).write_text(f"#!/bin/sh\n{script}")
        (folder / name).chmod(0o755)
    return folder


def coldplug(programs: Path, bus: Path) -> list[str]:
    """Run the helper on *bus*; what it told udev and systemd."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run([programs / "pv-channel-coldplug", bus], env=environment, check=True, timeout=60)
    return (programs.parent / "log").read_text().splitlines()


def test_coldplug_lets_udev_settle_and_then_queues_the_agent_of_our_channel_alone(programs: Path, tmp_path: Path) -> None:
    bus, devices = tmp_path / "bus", tmp_path / "devices"
    bus.mkdir()
    for name in ("console-1", "console-2", "console-3", "vif-0"):
        (devices / name).mkdir(parents=True)
        (bus / name).symlink_to(devices / name)
    command = ["systemd-escape", "--path", str(devices / "console-2")]
    escaped = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert escaped.endswith(r"devices-console\x2d2")
    assert coldplug(programs, bus) == [
        "udevadm trigger --settle --action=add --subsystem-match=xen",
        f"systemctl --no-block start pv-guest-agent@{escaped}.service",
    ]


def test_coldplug_on_a_guest_without_channels_queues_nothing(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir()
    assert coldplug(programs, tmp_path / "bus") == ["udevadm trigger --settle --action=add --subsystem-match=xen"]
