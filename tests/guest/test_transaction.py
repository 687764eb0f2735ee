# SPDX-License-Identifier: Apache-2.0
"""A kill or an error at any step of a transaction leaves the old configuration or the new one, and never something between."""

from __future__ import annotations

import errno
import inspect
import itertools
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent import files, homes
from pv_channel.messages import Outcome
from tests.guest import killing
from tests.guest.machine import FakeKernel, Machine, no_progress, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: Nothing changes outside these: whatever a kill can leave, it leaves at one of their lines.
DOORS = {
    inspect.unwrap(function).__code__
    for function in (
        files.replace, files._replacing, files._fill, files.remove, files.sweep, files.make_directory, files.remove_directory,
        files.keep, files.put_back, files.release,
        homes._made_ssh, FakeKernel.set_hostname,
    )
}  # fmt: skip
ERRORS = itertools.cycle((errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT))


def is_door(frame: FrameType) -> bool:
    return frame.f_code in DOORS or (frame.f_code.co_name in ("write", "restore") and frame.f_code.co_filename == homes.__file__)


def killed(at: int, do: Callable[[], object]) -> bool:
    """Whether *do*, in a process of its own, was killed before its change number *at*; False where it ended before that."""
    return killing.killed(at, do, is_door)


def outcome_of(machine: Machine, raw: bytes) -> Outcome:
    return machine.provisioner().provision(raw, None, no_progress).outcome


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of machines are made, each with dozens of fsyncs."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration before and after, as one provisioning in peace has it."""
    machine = Machine(tmp_path_factory.mktemp("peace"))
    old = machine.snapshot()
    assert outcome_of(machine, whole()) is Outcome.APPLIED
    new = machine.snapshot()
    assert old != new
    return old, new


def test_a_kill_at_any_change_leaves_old_or_new_and_the_next_attempt_converges(
    scratch: Path, ends: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    old, new = ends
    seen = set()
    for at in itertools.count(1):
        machine = Machine(scratch / str(at))
        if not killed(at, lambda machine=machine: outcome_of(machine, whole())):  # type: ignore[misc]  # bound for B023
            break
        provisioner = machine.provisioner()
        provisioner.recover()
        after = machine.snapshot()
        assert after in (old, new), f"half a configuration after a kill at change {at}"
        assert provisioner.provisioned is (after == new)
        seen.add(after == new)
        provisioner.provision(whole(), None, no_progress)
        assert machine.snapshot() == new
        assert machine.state_files() == ["state.json"]
    assert seen == {False, True}
    assert at > 100


def test_a_kill_during_recovery_is_recovered_from_too(scratch: Path, ends: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for at in itertools.count(1):
        machine = Machine(scratch / str(at))
        assert killed(130, lambda machine=machine: outcome_of(machine, whole()))  # type: ignore[misc]  # bound for B023
        assert "journal.json" in machine.state_files()
        if not killed(at, lambda machine=machine: machine.provisioner().recover()):  # type: ignore[misc]  # bound for B023
            break
        machine.provisioner().recover()
        assert machine.snapshot() == ends[0]
        assert machine.state_files() == []
    assert at > 20


def test_a_second_generation_that_is_killed_leaves_the_first(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    outcome_of(machine, whole(1))
    first = machine.snapshot()
    assert killed(60, lambda: outcome_of(machine, whole(2, "web2")))
    provisioner = machine.provisioner()
    assert "the old configuration is back" in (provisioner.recover() or "")
    assert machine.snapshot() == first
    assert provisioner.hello().generation == 1


def fail_at(at: int, machine: Machine) -> tuple[Outcome | None, str]:
    """Provision with an error at change number *at*: what came of it (None: there are not so many changes)."""

    def strike() -> None:
        code = next(ERRORS)
        raise OSError(code, os.strerror(code))

    count = killing.trace(at, strike, is_door)
    try:
        result = machine.provisioner().provision(whole(), None, no_progress)
    finally:
        sys.settrace(None)
    reasons = [item.reason for item in result.items if item.outcome is Outcome.FAILED] or [result.reason]
    return (result.outcome if count[0] >= at else None), str(reasons[0])


def test_an_error_at_any_change_fails_the_document_and_leaves_the_old_configuration(
    scratch: Path, ends: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    old, new = ends
    reasons = set()
    for at in itertools.count(1):
        machine = Machine(scratch / str(at))
        outcome, reason = fail_at(at, machine)
        if outcome is None:
            break
        if outcome is not Outcome.APPLIED:
            assert outcome is Outcome.FAILED
            assert "journal.json" not in machine.state_files()
            reasons.add(reason)
            assert machine.snapshot() == old
        # Once the state is recorded, an error in tidying up changes nothing any more: the next start tidies up.
        assert machine.provisioner().recover() is None or outcome is Outcome.APPLIED
        assert machine.snapshot() == (new if outcome is Outcome.APPLIED else old)
        machine.provisioner().provision(whole(), None, no_progress)
        assert machine.snapshot() == new
    assert {"no-space", "io-error", "read-only"} <= reasons


def test_an_interrupt_rolls_back_and_goes_on_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    old = machine.snapshot()

    def interrupt(generation: int, item: str) -> None:
        if item == "ssh-keys":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.provisioner().provision(whole(), None, interrupt)
    assert machine.snapshot() == old
    assert machine.state_files() == []


def test_what_cannot_be_put_back_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    old = machine.snapshot()
    replace, put_back = files.replace, files.put_back

    def broken_disk(parent: int, name: str, new: files.Stored) -> None:
        if name == "authorized_keys":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(parent, name, new)

    def broken_hosts(parent: int, name: str) -> None:
        if name == "hosts":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        put_back(parent, name)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", broken_disk)
        patch.setattr(files, "put_back", broken_hosts)
        result = machine.provisioner().provision(whole(), None, no_progress)
        assert (result.outcome, result.reason) == (Outcome.FAILED, "rollback-failed")
        assert "/etc/hosts" in result.detail
        assert "cannot be put back yet" in (machine.provisioner().recover() or "")
        again = machine.provisioner().provision(whole(), None, no_progress)
        assert (again.outcome, again.reason) == (Outcome.FAILED, "rollback-failed")
    assert "the old configuration is back" in (machine.provisioner().recover() or "")
    assert machine.snapshot() == old


def test_a_damaged_journal_is_set_aside_and_said(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("var/lib/pv-guest-agent/journal.json", b"{half")
    assert "journal.json.damaged" in (machine.provisioner().recover() or "")
    assert outcome_of(machine, whole()) is Outcome.APPLIED


def test_a_damaged_state_counts_as_none_and_is_said(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("var/lib/pv-guest-agent/state.json", b"\xff")
    provisioner = machine.provisioner()
    assert not provisioner.provisioned
    assert "state.json.damaged" in (provisioner.recover() or "")
    assert outcome_of(machine, whole()) is Outcome.APPLIED


def test_two_agents_do_not_work_at_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    inner: list[str] = []

    def meanwhile(generation: int, item: str) -> None:
        result = machine.provisioner().provision(whole(), None, no_progress)
        inner.append(f"{result.outcome.value} {result.reason}")
        inner.append(machine.provisioner().recover() or "")

    assert machine.provisioner().provision(whole(), None, meanwhile).outcome is Outcome.APPLIED
    assert inner[0] == "failed busy"
    assert "another pv-guest-agent" in inner[1]
