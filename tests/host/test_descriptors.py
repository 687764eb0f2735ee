# SPDX-License-Identifier: Apache-2.0
"""A service that may have fewer files open than it has VMs: it serves as many as it can, says of the others why, and goes on."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.channels.connect import connect_socket
from host_agent.channels.descriptors import NO_DESCRIPTORS, leave_some
from host_agent.channels.peer import expected
from host_agent.errors import LedgerTrouble, Unreachable
from host_agent.views.status import View
from tests.host.dom0 import Dom0
from tests.host.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VMS = 60
LIMIT = 80
TOP = Path(__file__).parents[2]


@pytest.fixture
def few() -> Iterator[int]:
    """This process may have a hundred, or so many more than it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 100 + max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_quarter_of_a_few_is_left_for_the_rest(few: int) -> None:
    leave_some(Path("/run/vm1.sock"), few - few // 4 - 1)
    with pytest.raises(Unreachable, match=rf"/run/vm1\.sock: .* {few} files open.*LimitNOFILE=") as refused:
        leave_some(Path("/run/vm1.sock"), few - few // 4)
    assert refused.value.word == NO_DESCRIPTORS


def test_of_many_a_few_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    leave_some(Path("x"), 65536 - 257)
    with pytest.raises(Unreachable):
        leave_some(Path("x"), 65536 - 256)


@pytest.mark.usefixtures("few")
def test_where_there_are_none_at_all_a_stream_is_refused_with_the_cure(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "vm1.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        try:
            with pytest.raises(Unreachable, match="LimitNOFILE=") as refused:
                connect_socket(path, expected(None))
        finally:
            for descriptor in taken:
                os.close(descriptor)
    assert refused.value.word == NO_DESCRIPTORS


def vms(dom0: Dom0) -> dict[str, dict[str, Any]]:
    """What is on record of each VM, by its name."""
    try:
        with View(dom0.state) as view:
            return {vm["vm"]: vm for vm in view.all()}
    except LedgerTrouble:
        return {}


def stand(dom0: Dom0, names: list[str], *allowed: str) -> bool:
    """Whether all of them stand at one of these states, and each of these is some VM's."""
    found = vms(dom0)
    return {found[name]["state"] if name in found else "" for name in names} == set(allowed)


def patiently(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


NAMES = [f"vm{number}" for number in range(VMS)]


def told(dom0: Dom0) -> bool:
    """Whether each that is not served is so for want of descriptors."""
    return all(f"{LIMIT} files open" in vm["detail"] for vm in vms(dom0).values() if vm["state"] == "unreachable")


def test_the_others_are_told_of_and_have_their_turn_when_there_is_room(tmp_path: Path) -> None:
    dom0 = Dom0(tmp_path)
    for name in NAMES:
        dom0.document(name, name)
    words = ["--documents", str(dom0.documents), "--sockets", str(dom0.sockets), "--state", str(dom0.state)]
    limited = ["sh", "-c", f'ulimit -n {LIMIT} && exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "host_agent", "serve", "--no-xenstore", *words]
    log = tmp_path / "log"
    with Fleet(dom0.sockets, NAMES), log.open("wb") as said, subprocess.Popen(command, cwd=TOP, stderr=said) as service:
        try:
            patiently(lambda: stand(dom0, NAMES, "ready", "unreachable"), "all that there is room for are served")
            patiently(lambda: told(dom0), "the others are told of")
            without = [name for name, vm in vms(dom0).items() if vm["state"] == "unreachable"]
            for name in set(NAMES) - set(without):
                (dom0.documents / f"{name}.yaml").unlink()
            patiently(lambda: stand(dom0, without, "ready"), "those who waited are served")
            service.terminate()
            assert service.wait(60) == 0
        finally:
            service.kill()
    text = log.read_text()
    assert "Traceback" not in text
    assert text.count("cure: 'systemctl edit pv-host-agent'") <= len(without)
