# SPDX-License-Identifier: Apache-2.0
"""Files of a document as root writes them: in users' homes and through links, on a machine whose root is the real one."""

from __future__ import annotations

import os
import pwd
import signal
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from guest_agent import files
from guest_agent.changes.files import WriteFile
from guest_agent.system import System
from pv_channel.messages import Outcome
from tests.guest.machine import Machine, document, provision

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with the user eve, who is nobody here."""
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    made = Machine(tmp_path)
    made.write("etc/passwd", f"root:x:0:0::/root:/bin/sh\neve:x:{NOBODY.pw_uid}:{NOBODY.pw_gid}::/home/eve:/bin/sh\n".encode())
    made.write("etc/group", f"root:x:0:\neve:x:{NOBODY.pw_gid}:\ndaemon:x:1:\n".encode())
    os.chown(made.directory("home/eve"), NOBODY.pw_uid, NOBODY.pw_gid)
    return made


def owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


def test_files_and_new_directories_in_a_home_are_its_users_and_elsewhere_roots(machine: Machine) -> None:
    entries = [
        {"path": "/home/eve/.config/app/one", "content": "x", "owner": "eve"},
        {"path": "/srv/app/one", "content": "x", "owner": "eve:daemon", "permissions": "0640"},
    ]
    assert provision(machine, document(write_files=entries)).outcome is Outcome.APPLIED
    eve = (NOBODY.pw_uid, NOBODY.pw_gid)
    for name in ("home/eve/.config", "home/eve/.config/app", "home/eve/.config/app/one"):
        assert owner(machine.root / name) == eve
    assert owner(machine.root / "srv/app") == (0, 0)
    assert owner(machine.root / "srv/app/one") == (NOBODY.pw_uid, 1)


def test_an_original_comes_back_with_its_owner(machine: Machine) -> None:
    os.chown(machine.write("etc/app.key", b"old", 0o640), NOBODY.pw_uid, 1)
    before = machine.snapshot()
    provision(machine, document(write_files=[{"path": "/etc/app.key", "content": "new"}]))
    assert owner(machine.root / "etc/app.key") == (0, 0)
    provision(machine, document(2, write_files=[]))
    assert machine.snapshot() == before
    assert owner(machine.root / "etc/app.key") == (NOBODY.pw_uid, 1)


def test_a_link_that_only_root_can_have_made_is_followed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "link")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("link", "absolute"):
        with files.directory(str(tmp_path / name)) as opened:
            assert os.path.samestat(os.fstat(opened), (tmp_path / "real").stat())
    with pytest.raises(OSError, match="symbolic links"), files.directory(str(tmp_path / "circle")):
        pass
    os.chown(tmp_path, NOBODY.pw_uid, 0)
    with pytest.raises(OSError, match="symbolic links"), files.directory(str(tmp_path / "link")):
        pass


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with files.directory("/bin"):
        pass
    for path in ("/nowhere/at/all", str(tmp_path / "missing"), "/etc/passwd"):
        with pytest.raises(OSError, match=r"."), files.directory(path):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def swap_for_ever(home: Path) -> NoReturn:
    """~/app is a directory, then a link to what only root may write, then a directory again."""
    os.chdir(home)
    os.setuid(NOBODY.pw_uid)
    while True:
        for step in (
            lambda: Path("app").rename("real"),
            lambda: Path("app").symlink_to("../../etc/cron.d"),
            lambda: Path("app").unlink(),
            lambda: Path("real").rename("app"),
        ):
            with suppress(OSError):
                step()


def test_a_user_who_swaps_a_directory_of_the_home_gets_no_file_elsewhere(machine: Machine) -> None:
    """On the machine's own root, where links are followed at all: the test's folder stands for it."""
    os.chown(machine.directory("home/eve/app"), NOBODY.pw_uid, NOBODY.pw_gid)
    target = machine.directory("etc/cron.d")
    swapper = os.fork()
    if swapper == 0:
        swap_for_ever(machine.root / "home/eve")
    refused = 0
    try:
        for number in range(3000):
            try:
                WriteFile(f"{machine.root}/home/eve/app/job", str(number).encode()).apply(System("/"))
            except OSError:
                refused += 1
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    assert list(target.iterdir()) == []
    assert 0 < refused < 3000, "the race was run"
