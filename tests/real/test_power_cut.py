# SPDX-License-Identifier: Apache-2.0
"""After a power cut at any moment the disk has lost what was not synced: the next start finds old or new, or makes it so."""

from __future__ import annotations

import random
import shutil
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pv_channel.messages import Outcome
from tests.guest.machine import STATE, no_progress
from tests.real import corpus, power, strikes
from tests.real.struck import Strike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.power import Call

#: Losses by chance at each moment, besides those that are tried always.
MORE = 2
#: Every how-manieth disk is given the document again: that it converges is seen soon, and costs most.
AGAIN = 25


class Recording(NamedTuple):
    """What one provisioning did to a machine like *base*, and the configurations before and after."""

    base: Path
    generation: int
    calls: list[Call]
    old: corpus.Tree
    new: corpus.Tree


def record(memory: Path, base: Path, generation: int) -> Recording:
    """Provision under strace; and the model of the disk comes to what the real one has."""
    top, work = strikes.copy(base, memory / f"made-{generation}"), memory / f"work-{generation}"
    work.mkdir()
    disk = power.Disk(top)
    _strace(work, top, generation)
    assert (top / "outcome").read_text() == Outcome.APPLIED.value
    calls = _calls(work, top, base, disk)
    new = corpus.tree(top / "root")
    with disk_of(power.remains(disk, {}), memory) as model:
        assert corpus.tree(model / "root") == new
    return Recording(base, generation, calls, corpus.tree(base / "root"), new)


def record_way_back(memory: Path, recording: Recording) -> Recording:
    """What the next start does where the agent was killed just before the new state would have been in force."""
    disk = power.Disk(recording.base)
    for call in recording.calls:
        if call.kind == "renameat" and call.arguments[-1] == "state.json":
            break
        disk.do(call)
    base, work = memory / "killed", memory / "work-back"
    power.materialise(power.remains(disk, {}), base)
    assert corpus.tree(base / "root") != recording.old
    top = strikes.copy(base, memory / "made-back")
    work.mkdir()
    disk = power.Disk(top)
    _strace(work, top, 0)
    assert corpus.tree(top / "root") == recording.old
    return recording._replace(base=base, calls=_calls(work, top, base, disk))


def _strace(work: Path, top: Path, generation: int) -> None:
    strikes.strace(work, [Strike(str(top), generation)], "-y", "-xx", "-s", "10000000", "-e", f"trace={','.join(power.CALLS)}")


def _calls(work: Path, top: Path, base: Path, disk: power.Disk) -> list[Call]:
    """The calls that mean something to *disk*, which follows them, as if they had been made at *base*."""
    return [call._replace(arguments=[_elsewhere(argument, top, base) for argument in call.arguments])
            for call in power.parse((work / "trace").read_text()) if disk.do(call)]  # fmt: skip


def _elsewhere(argument: str, top: Path, base: Path) -> str:
    return str(base) + argument[len(str(top)) :] if f"{argument}/".startswith(f"{top}/") else argument


@contextmanager
def disk_of(key: power.Key, memory: Path) -> Iterator[Path]:
    """A folder with what a disk holds."""
    top = memory / "disk"
    power.materialise(key, top)
    try:
        yield top
    finally:
        shutil.rmtree(top)


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory, where users get to their homes."""
    with TemporaryDirectory(dir="/dev/shm") as path:
        Path(path).chmod(0o711)
        yield Path(path)


@pytest.fixture(scope="module")
def recordings(memory: Path) -> dict[int, Recording]:
    """A template's first document, and the next."""
    corpus.machine(memory / "1")
    strikes.copy(memory / "1", memory / "2")
    assert corpus.opened(memory / "2").provisioner().provision(corpus.first(), None, no_progress).outcome is Outcome.APPLIED
    return {generation: record(memory, memory / str(generation), generation) for generation in (1, 2)}


def cuts(recording: Recording, calls: list[Call], source: random.Random) -> dict[power.Key, str]:
    """Each disk that a power cut somewhere in *calls* can leave, and after which call it did."""
    disk = power.Disk(recording.base)
    found: dict[power.Key, str] = {}
    for call in calls:
        if disk.do(call):
            for choice in power.Loss(disk).choices(source, MORE):
                found.setdefault(power.remains(disk, choice), call.shown)
    return found


def problem(recording: Recording, key: power.Key, memory: Path, *, again: bool) -> str:
    """What is wrong with a disk after the next start: nothing where it is old or new."""
    with disk_of(key, memory) as top:
        machine = corpus.opened(top)
        machine.provisioner().recover()
        after = corpus.tree(machine.root)
        if after not in (recording.old, recording.new):
            differ: list[set[str]] = [{path for path in {**after, **wanted} if after.get(path) != wanted.get(path)}
                      for wanted in (recording.old, recording.new)]  # fmt: skip
            fewest = min(differ, key=len)
            return f"half a configuration: {', '.join(sorted(fewest))}"
        left = corpus.strays(machine.root)
        if left:
            return f"left over: {', '.join(left)}"
        if again:
            outcome = machine.provisioner().provision(corpus.DOCUMENTS[recording.generation](), None, no_progress).outcome
            if outcome not in (Outcome.APPLIED, Outcome.UNCHANGED) or corpus.tree(machine.root) != recording.new:
                return f"the same document came to {outcome.value} then"
    return ""


def problems(recording: Recording, found: dict[power.Key, str], memory: Path) -> Iterator[str]:
    """Everything that is wrong, as it is met."""
    for number, (key, after) in enumerate(found.items()):
        said = problem(recording, key, memory, again=number % AGAIN == 0)
        if said:
            yield f"power cut after {after}: {said}"


@pytest.mark.parametrize("generation", [1, 2])
def test_a_power_cut_at_any_moment_leaves_old_or_new(recordings: dict[int, Recording], memory: Path, generation: int) -> None:
    seed = random.randrange(2**32)
    print(f"losses by chance from seed {seed}")
    recording = recordings[generation]
    found = cuts(recording, recording.calls, random.Random(seed))
    assert len(found) > 500
    assert list(islice(problems(recording, found, memory), 10)) == []


def test_a_power_cut_on_the_way_back_is_no_worse(recordings: dict[int, Recording], memory: Path) -> None:
    recording = record_way_back(memory, recordings[2])
    found = cuts(recording, recording.calls, random.Random(0))
    assert len(found) > 100
    assert list(islice(problems(recording, found, memory), 10)) == []


@pytest.mark.parametrize(
    ("path", "which"),
    [
        (f"{STATE}/.journal.json.pv-guest-agent-new", 0),
        (STATE, 0),  # the journal's name
        ("etc/.hosts.pv-guest-agent-new", 0),
        ("home/ada/.ssh", 0),  # the name of a new file
        (f"{STATE}/.state.json.pv-guest-agent-new", 0),
        (STATE, 1),  # the name of the new state
        ("etc/ssh", -1),  # that the old files have lost their second names
    ],
)
def test_a_sync_that_is_left_out_is_found(recordings: dict[int, Recording], memory: Path, path: str, which: int) -> None:
    """The control of the test above: without this one, some power cut leaves neither old nor new."""
    recording = recordings[2]
    synced = f"{recording.base}/root/{path}"
    syncs = [number for number, call in enumerate(recording.calls) if call.kind == "fsync" and call.arguments == [synced]]
    left = [call for number, call in enumerate(recording.calls) if number != syncs[which]]
    source = random.Random(0)
    right = cuts(recording, recording.calls, source)
    found = {key: after for key, after in cuts(recording, left, source).items() if key not in right}
    assert next(problems(recording, found, memory), None) is not None
