# SPDX-License-Identifier: Apache-2.0
"""Who gets through to a helper, as the users they are: the VM's QEMU does, and another user of this machine does not."""

from __future__ import annotations

import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.errors import HostError
from host_agent.qemu.vmstate import Allowed
from tests.qemu.bus_helpers import NAME, Beside

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Users that every Debian has, nobody and daemon: a bus takes nobody whom the machine does not know.
QEMU, STRANGER = 65534, 1
SAVE = (NAME, "/org/qemu/VMState1", NAME, "Save")
OWN = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", NAME, "0")


class Kept:
    """Some state."""

    def save(self) -> bytes:
        return b"abc"

    async def load(self, state: bytes) -> None:
        raise HostError("none is taken here")


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that every user may pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def call(uid: int, address: str, *words: str) -> tuple[int, str]:
    """What the user *uid* gets for a call: the exit status, and what is printed."""
    argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "busctl", f"--address={address}", "call", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_the_vms_qemu_asks_and_another_user_does_not_even_connect(passable: Path) -> None:
    with Beside(passable / "bus", Allowed(uid=QEMU)) as beside:
        beside.add_ours("idA", Kept())
        assert call(QEMU, beside.address, *SAVE) == (0, "ay 3 97 98 99\n")
        assert call(0, beside.address, *SAVE) == (0, "ay 3 97 98 99\n")
        status, said = call(STRANGER, beside.address, *SAVE)
        assert (status, "97" in said) == (1, False)
        assert beside.told == []


def test_the_vms_qemu_cannot_stand_in_the_helpers_line(passable: Path) -> None:
    with Beside(passable / "bus", Allowed(uid=QEMU)) as beside:
        beside.add_ours("idA", Kept())
        status, said = call(QEMU, beside.address, *OWN)
        assert (status, "ccess denied" in said) == (1, True)
        assert call(0, beside.address, *OWN)[0] == 0


def test_another_process_of_the_same_user_is_refused_where_qemus_pid_is_known(passable: Path) -> None:
    with Beside(passable / "bus", Allowed(uid=QEMU, pid=1)) as beside:
        beside.add_ours("idA", Kept())
        status, said = call(QEMU, beside.address, *SAVE)
        assert (status, "ccess denied" in said) == (1, True)
        assert beside.told[0].startswith(f"refused to answer uid {QEMU}, pid ")


def test_the_directory_is_private_and_passable_only_where_another_user_has_to_pass(passable: Path) -> None:
    for allowed, mode in ((Allowed(), 0o700), (Allowed(uid=0), 0o700), (Allowed(uid=QEMU), 0o711)):
        with Beside(passable / "bus", allowed):
            assert stat.S_IMODE((passable / "bus").stat().st_mode) == mode
            assert stat.S_IMODE((passable / "bus" / "bus.conf").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["open", "linked", "long", "file"])
def test_a_directory_that_is_not_ours_alone_is_refused(passable: Path, kind: str) -> None:
    directory = passable / ("d" * 100 if kind == "long" else "bus")
    if kind == "open":
        directory.mkdir()
        directory.chmod(0o777)
    elif kind == "linked":
        (passable / "elsewhere").mkdir()
        directory.symlink_to(passable / "elsewhere")
    elif kind == "file":
        directory.write_bytes(b"")
    with pytest.raises(HostError), Beside(directory):
        pass


def test_a_user_whom_the_machine_does_not_know_is_told_beforehand_for_no_bus_takes_one(passable: Path) -> None:
    with pytest.raises(HostError, match="this machine knows no user 64999"), Beside(passable / "bus", Allowed(uid=64999)):
        pass
