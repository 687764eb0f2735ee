# SPDX-License-Identifier: Apache-2.0
"""What is said to QEMUs when a VM moves, in which order, and what follows from their words: QEMUs that do as they are told."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.__main__ import main
from host_agent.errors import HostError
from host_agent.qemu import migration_course, migration_destination, migration_source
from host_agent.qemu.migrate import between
from host_agent.qemu.migration_channel import MigMode
from host_agent.qemu.migration_follow import Impatient, Patience
from host_agent.qemu.migration_outcome import VERDICTS, Ended, Outcome, Runs, Seen, Verdict
from host_agent.qemu.migration_plan import Plan
from host_agent.qemu.migration_route import outgoing
from host_agent.qemu.migration_status import Status
from tests.host.fake_moving import FakeMoving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FakeMoving]:
    """A QEMU whose VM goes, and is gone when it is asked how far that is for the third time."""
    with FakeMoving(tmp_path / "source") as monitor:
        monitor.on_migrate = lambda: goes(monitor)
        yield monitor


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[FakeMoving]:
    """A QEMU that waits for a VM."""
    with FakeMoving(tmp_path / "destination", state="inmigrate") as monitor:
        yield monitor


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who are waited for in vain are so for a moment."""
    for module, name in (
        (migration_course, "ARRIVAL_SECONDS"), (migration_course, "FAILURE_SECONDS"), (migration_source, "CANCEL_SECONDS"),
        (migration_source, "_BACK_SECONDS"), (migration_destination, "_LOOK_SECONDS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 0.2)


def goes(monitor: FakeMoving) -> None:
    """It moves, until it is gone."""
    monitor.is_now("setup")
    monitor.then = [lambda: monitor.is_now("active"), lambda: gone(monitor)]


def gone(monitor: FakeMoving) -> None:
    """It has moved."""
    monitor.runs("finish-migrate")
    monitor.is_now("completed", downtime=7)
    monitor.runs("postmigrate")


def fails(monitor: FakeMoving, state: str, why: str = "no luck") -> None:
    """It does not move, and its VM is left in *state*."""
    monitor.state = state
    monitor.is_now("failed", error_desc=why)


def comes(monitor: FakeMoving, state: str = "running") -> None:
    """A VM has come to it."""
    monitor.then = []
    monitor.runs(state)
    monitor.is_now("completed")


def in_turn(*steps: Callable[[], None]) -> Callable[[], None]:
    """All of them."""

    def all_of_them() -> None:
        for step in steps:
            step()

    return all_of_them


def move(source: FakeMoving, destination: FakeMoving | None = None, to: str = "unix:/way", **plan: Any) -> Outcome:
    """What becomes of it."""
    wanted = Plan(outgoing(to, plan.get("mode", MigMode.NORMAL)), **plan)
    other = None if destination is None else destination.path
    name, outcome = asyncio.run(between(source.path, other, wanted, lambda _: None))
    assert name == "web1"
    return outcome


def test_a_vm_that_moves_is_at_the_destination_as_soon_as_the_source_says_so(source: FakeMoving) -> None:
    outcome = move(source)
    assert (outcome.runs, outcome.moved, outcome.status.downtime) == (Runs.DESTINATION, True, 7)
    assert "cont" not in source.commands()


@pytest.mark.parametrize("telling", [True, False])
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_an_end_is_seen_by_the_event_or_by_asking(source: FakeMoving, end: str, telling: bool) -> None:
    def ends() -> None:
        if telling:  # and the answer is an old one, for once
            source.tell("MIGRATION", status=end)
        else:
            source.is_now(end, tell=False)

    def begins() -> None:
        source.is_now("active", tell=False)
        source.then = [lambda: None, ends, lambda: None, lambda: None, lambda: None]

    source.on_migrate = begins
    assert move(source).phase.value == end


def test_an_event_that_comes_before_the_answer_to_migrate_is_not_missed(source: FakeMoving) -> None:
    source.on_migrate = lambda: fails(source, "running", "Failed to connect to '/way': No such file or directory")
    outcome = move(source)
    assert outcome.runs is Runs.SOURCE
    assert outcome.why == "Failed to connect to '/way': No such file or directory"
    assert outcome.cure.startswith("have the destination's QEMU wait for it first")


def test_a_migration_that_qemu_refuses_leaves_all_as_it_was(source: FakeMoving) -> None:
    source.refuses("migrate", "Migration is disabled when VirtFS export path '/x' is mounted in the guest")
    outcome = move(source, bandwidth=5)
    assert (outcome.runs, outcome.cure) == (Runs.SOURCE, "take away from the VM what QEMU names")
    assert source.parameters["max-bandwidth"] == 1
    assert not any(source.switched.values())


@pytest.mark.parametrize("state", ["postmigrate", "paused", "finish-migrate"])
def test_a_vm_that_qemu_does_not_start_again_by_itself_is_told_to_run(source: FakeMoving, brisk: None, state: str) -> None:
    source.on_migrate = lambda: fails(source, state)
    assert move(source).runs is Runs.SOURCE
    assert source.commands().count("cont") == 1
    assert source.state == "running"


def test_a_vm_that_was_paused_stays_paused_where_it_is(source: FakeMoving) -> None:
    source.state = "paused"
    source.on_migrate = lambda: fails(source, "paused")
    outcome = move(source)
    assert (outcome.runs, outcome.paused) == (Runs.SOURCE, True)
    assert outcome.text("web1").startswith("web1 is on the source, paused: no luck")
    assert "cont" not in source.commands()


def test_a_vm_that_stands_for_a_reason_of_its_own_is_not_told_to_run(source: FakeMoving) -> None:
    source.on_migrate = lambda: fails(source, "io-error")
    outcome = move(source)
    assert (outcome.runs, outcome.why) == (Runs.NOWHERE, "no luck; at the source it is io-error")
    assert "cont" not in source.commands()


def test_a_vm_that_cannot_run_on_anywhere_is_said_to_run_nowhere_with_what_to_do(source: FakeMoving) -> None:
    source.on_migrate = lambda: fails(source, "postmigrate")
    source.refuses("cont", 'Failed to get "write" lock')
    outcome = move(source)
    assert outcome.runs is Runs.NOWHERE
    assert outcome.cure == "end the other QEMU, which has the disk; then say 'cont' to the source's QEMU"


def test_a_source_that_hangs_up_half_way_leaves_it_open_where_the_vm_runs(source: FakeMoving) -> None:
    source.on_migrate = lambda: source.hang_up.add("query-migrate")
    outcome = move(source)
    assert (outcome.runs, outcome.moved) == (Runs.UNKNOWN, False)
    assert outcome.text("web1").startswith("web1 runs nobody can say where: ")


def test_a_source_that_is_gone_when_the_vm_has_come_is_no_loss(source: FakeMoving, destination: FakeMoving) -> None:
    def crash() -> None:
        comes(destination)
        source.hang_up.add("query-migrate")

    source.on_migrate = crash
    assert move(source, destination).runs is Runs.DESTINATION


def test_a_destination_is_told_before_the_source(source: FakeMoving, destination: FakeMoving) -> None:
    order: list[str] = []
    source.on_migrate = in_turn(lambda: order.append("migrate"), lambda: comes(destination), lambda: goes(source))
    switched: list[str] = []
    destination.on_listen = in_turn(
        lambda: order.append("listen"), lambda: switched.extend(name for name, on in destination.switched.items() if on)
    )
    outcome = move(source, destination)
    assert order == ["listen", "migrate"]
    assert outcome.text("web1") == "web1 runs on the destination: it stood still for 7 ms"
    assert destination.said("migrate-incoming")[0]["exit-on-error"] is False
    assert switched == ["events", "return-path"]
    assert not any(destination.switched.values())  # as it was


def test_the_port_that_a_destination_chooses_is_the_one_that_is_gone_to(source: FakeMoving, destination: FakeMoving) -> None:
    source.on_migrate = in_turn(lambda: comes(destination), lambda: goes(source))
    assert move(source, destination, "tcp:127.0.0.1:0").moved
    assert source.said("migrate")[0]["channels"][0]["addr"]["port"] == "4711"


def test_a_vm_that_arrives_paused_is_said_to(source: FakeMoving, destination: FakeMoving) -> None:
    source.state = "paused"
    source.on_migrate = in_turn(lambda: comes(destination, "paused"), lambda: goes(source))
    outcome = move(source, destination)
    assert (outcome.runs, outcome.paused, outcome.moved) == (Runs.DESTINATION, True, True)


def test_a_vm_that_the_source_gave_up_and_the_destination_did_not_take_runs_on_at_the_source(
    source: FakeMoving, destination: FakeMoving
) -> None:
    source.on_migrate = in_turn(
        lambda: fails(destination, "inmigrate", "load of migration failed: x"), lambda: goes(source)
    )
    outcome = move(source, destination)
    assert (outcome.runs, outcome.why) == (Runs.SOURCE, "load of migration failed: x")
    assert source.state == "running"


def test_a_vm_that_runs_at_the_destination_is_stopped_at_a_source_that_believes_it_failed(
    source: FakeMoving, destination: FakeMoving
) -> None:
    source.on_migrate = in_turn(lambda: comes(destination), lambda: fails(source, "running", "Channel error"))
    outcome = move(source, destination)
    assert outcome.runs is Runs.DESTINATION
    assert source.state == "paused"
    assert outcome.why == "Channel error"


def test_a_vm_is_not_started_at_the_source_when_it_may_run_at_a_silent_destination(
    source: FakeMoving, destination: FakeMoving, brisk: None
) -> None:
    assert move(source, destination).runs is Runs.UNKNOWN
    assert "cont" not in source.commands()
    assert source.state == "postmigrate"


def test_a_lost_connection_to_the_destination_does_not_mean_that_it_has_ended(
    source: FakeMoving, destination: FakeMoving, brisk: None
) -> None:
    def cut() -> None:
        destination.hang_up.add("query-status")
        goes(source)

    source.on_migrate = cut
    assert move(source, destination).runs is Runs.UNKNOWN
    assert "cont" not in source.commands()


def test_ended_by_a_signal_it_is_called_off_and_says_where_the_vm_runs(source: FakeMoving) -> None:
    source.on_migrate = lambda: source.is_now("active")
    outcome = cancelled_move(source)
    assert (outcome.runs, outcome.why, outcome.cure) == (Runs.SOURCE, "it was told to end", "")
    assert source.commands().count("migrate_cancel") == 1


def test_ended_by_a_signal_too_late_it_says_that_the_vm_has_moved(source: FakeMoving) -> None:
    source.on_migrate = lambda: source.is_now("active")
    source.on_cancel = lambda: gone(source)
    assert cancelled_move(source).runs is Runs.DESTINATION


def test_a_migration_that_qemu_does_not_get_rid_of_is_told_with_a_cure(source: FakeMoving, brisk: None) -> None:
    source.on_migrate = lambda: source.is_now("active")
    source.on_cancel = lambda: source.is_now("cancelling")
    outcome = cancelled_move(source)
    assert outcome.runs is Runs.SOURCE
    assert outcome.why == "it was told to end; QEMU did not call it off within 0.2 s"
    assert "'yank'" in outcome.cure


def tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set *event* of *loop*, from the thread of a monitor."""
    loop.call_soon_threadsafe(event.set)


def cancelled_move(source: FakeMoving) -> Outcome:
    """What becomes of one that is cancelled once it is under way."""

    async def story() -> Outcome:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        source.then = [lambda: None, lambda: None, lambda: tell(loop, begun)]
        task = asyncio.create_task(between(source.path, None, Plan(outgoing("unix:/way", MigMode.NORMAL)), lambda _: None))
        await begun.wait()
        task.cancel()
        return (await task)[1]

    return asyncio.run(story())


def test_patience_ends_with_the_time_and_where_nothing_moves() -> None:
    async def story() -> None:
        with pytest.raises(Impatient, match=r"it was not over after 0\.01 s"):
            await until_impatient(Patience(0.01))
        with pytest.raises(Impatient, match=r"nothing moved for 0\.01 s"):
            await until_impatient(Patience(stuck=0.01))
        Patience(stuck=None).check(Status("active"))

    async def until_impatient(patience: Patience) -> None:
        while True:
            patience.check(Status("active"))
            await asyncio.sleep(0.002)

    asyncio.run(story())


@pytest.mark.parametrize(("to", "wanted"), [("unix:/x", True), ("tcp:h:1", True), ("exec:x", False), ("file:/x", False)])
def test_a_return_path_is_where_there_can_be_one_and_only_there(source: FakeMoving, to: str, wanted: bool) -> None:
    source.switched["return-path"] = not wanted
    seen: list[bool] = []
    source.on_migrate = in_turn(lambda: seen.append(source.switched["return-path"]), lambda: goes(source))
    move(source, to=to)
    assert seen == [wanted]
    assert source.switched["return-path"] is not wanted  # as it was


def test_a_return_path_over_a_descriptor_is_left_to_whoever_gave_it(source: FakeMoving) -> None:
    move(source, to="fd:way")
    states = [each for said in source.said("migrate-set-capabilities") for each in said["capabilities"]]
    assert [each["capability"] for each in states] == ["events", "events"]


def test_what_is_set_for_one_migration_is_gone_after_it(source: FakeMoving) -> None:
    seen: list[Any] = []
    source.on_migrate = in_turn(
        lambda: seen.append((dict(source.parameters), source.switched["multifd"])), lambda: goes(source)
    )
    move(source, bandwidth=5, downtime=9, mode=MigMode.CPR_REBOOT, switches=frozenset({"multifd"}))
    assert seen == [({"max-bandwidth": 5, "downtime-limit": 9, "mode": "cpr-reboot"}, True)]
    assert source.parameters == {"max-bandwidth": 1, "downtime-limit": 300, "mode": "normal"}
    assert not any(source.switched.values())


def test_a_mode_that_an_earlier_migration_left_behind_is_not_that_of_the_next(source: FakeMoving) -> None:
    source.parameters["mode"] = "cpr-reboot"
    seen: list[Any] = []
    source.on_migrate = in_turn(lambda: seen.append(source.parameters["mode"]), lambda: goes(source))
    move(source)
    assert seen == ["normal"]
    assert source.parameters["mode"] == "cpr-reboot"


def test_a_vm_whose_file_cannot_be_brought_to_its_disk_runs_on_at_the_source(
    source: FakeMoving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "vm"
    file.write_bytes(b"a VM")
    assert move(source, to=f"file:{file}").runs is Runs.STORED
    source.runs("running")
    monkeypatch.setattr(os, "fsync", full)
    outcome = move(source, to=f"file:{file}")
    assert (outcome.runs, outcome.why) == (Runs.SOURCE, f"{file}: No space left on device")
    assert source.state == "running"


def test_a_vm_that_was_paused_is_said_to_be_so_where_nobody_can_be_asked(source: FakeMoving) -> None:
    source.state = "paused"
    assert move(source).text("web1").startswith("web1 is on the destination, paused: ")


def test_a_qemu_without_channels_is_told_a_uri(tmp_path: Path) -> None:
    with FakeMoving(tmp_path / "old", channels=False) as old:
        old.on_migrate = lambda: goes(old)
        move(old)
        assert old.said("migrate") == [{"uri": "unix:/way"}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.runs("inmigrate"), "waits for a VM, and has none to move"),
        (lambda it: it.runs("postmigrate"), "has had its VM moved away already"),
        (lambda it: it.is_now("active"), r"moves its VM already \(active\)"),
        (lambda it: it.is_now("none", blocked_reasons=["a \x1b[31mdevice"]), r"will not move its VM: a \\x1b\[31mdevice"),
        (lambda it: it.answers.update({"query-migrate": [1]}), "query-migrate was not answered as QEMU does"),
        (lambda it: it.answers.update({"query-qmp-schema": {"x": 1}}), "is no schema"),
        (lambda it: it.answers.update({"query-qmp-schema": []}), "it has no migrate-set-capabilities"),
        (lambda it: it.refuses("migrate-set-capabilities", "There's a migration process in progress"), "There's a migration"),
    ],
)
def test_what_is_in_the_way_at_the_source_is_told_before_anything_is_begun(
    source: FakeMoving, change: Callable[[FakeMoving], None], words: str
) -> None:
    change(source)
    with pytest.raises(HostError, match=words):
        move(source)
    assert "migrate" not in source.commands()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.runs("running"), r"has a VM already \(running\)"),
        (lambda it: it.is_now("failed", error_desc="x"), "has taken a VM in vain before: x"),
        (lambda it: it.refuses("migrate-incoming", "Failed to bind socket to /way: Address already in use"), "another address"),
    ],
)
def test_what_is_in_the_way_at_the_destination_is_told_before_anything_is_begun(
    source: FakeMoving, destination: FakeMoving, change: Callable[[FakeMoving], None], words: str
) -> None:
    change(destination)
    with pytest.raises(HostError, match=words) as told:
        move(source, destination)
    assert str(told.value).endswith("; nothing was begun, and the VM is where it was")
    assert "migrate" not in source.commands()
    assert not any(source.switched.values())


def test_modes_in_which_the_other_monitor_cannot_be_asked_are_refused(source: FakeMoving, destination: FakeMoving) -> None:
    with pytest.raises(HostError, match="missing 'cpr' migration channel"):
        move(source, destination, mode=MigMode.CPR_TRANSFER)
    with pytest.raises(HostError, match="QEMU replaces itself"):
        move(source, mode=MigMode.CPR_EXEC)


def test_every_pair_of_words_has_a_verdict_and_none_of_them_runs_a_vm_twice() -> None:
    assert set(VERDICTS) == {(ended, seen) for ended in Ended for seen in Seen}
    for (ended, seen), verdict in VERDICTS.items():
        if verdict is Verdict.TAKE_BACK:
            assert seen not in (Seen.RUNS, Seen.RAN)
            assert ended is Ended.FAILED or seen is Seen.NEVER


def test_a_vm_without_a_qemu_of_ones_own_is_left_to_libxl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "web1", "--to", "tcp:h:1"]) == 1
    assert "libxl moves Xen domains itself: xl migrate web1 HOST" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [], ["--qmp", "x"], ["--to", "unix:/x"], ["--qmp", "x", "--to", "unix:/x", "--incoming-from", "unix:/y"],
        ["--qmp", "x", "--to", "unix:/x", "--bandwidth", "0"], ["--qmp", "x", "--to", "unix:/x", "--bandwidth", "5T"],
        ["--qmp", "x", "--to", "unix:/x", "--downtime-limit", "-1"], ["--qmp", "x", "--to", "unix:/x", "--mode", "fast"],
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["migrate", *words])
    assert ended.value.code == 2


def test_the_verb_prints_where_the_vm_runs_and_says_so_by_its_status(
    source: FakeMoving, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["migrate", "--qmp", str(source.path), "--to", "unix:/way", "--bandwidth", "2M", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["vm"], told["runs"], told["status"], told["downtime-ms"]) == ("web1", "destination", "completed", 7)
    assert {"max-bandwidth": 2 << 20} in source.said("migrate-set-parameters")
    source.on_migrate = lambda: fails(source, "running")
    source.runs("running")
    assert main(words) == 1
    assert json.loads(capsys.readouterr().out)["runs"] == "source"


def test_incoming_waits_no_longer_than_was_said_and_qemu_waits_on(
    destination: FakeMoving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["incoming", "--qmp", str(destination.path), "--from", "unix:/way", "--timeout", "0.1"]) == 1
    said = capsys.readouterr().err
    assert "it was not over after 0.1 s" in said
    assert "waits on; cure: begin at the source" in said


def test_incoming_puts_back_what_was_set_for_the_vm_that_has_come(
    destination: FakeMoving, capsys: pytest.CaptureFixture[str]
) -> None:
    destination.on_listen = lambda: destination.then.extend([lambda: None, lambda: comes(destination)])
    words = ["incoming", "--qmp", str(destination.path), "--from", "file:/vm", "--mode", "cpr-reboot", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == "destination"
    assert destination.parameters["mode"] == "normal"
    assert {"mode": "cpr-reboot"} in destination.said("migrate-set-parameters")
