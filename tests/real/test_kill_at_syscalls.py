# SPDX-License-Identifier: Apache-2.0
"""A kill, EIO and ENOSPC at every system call that changes anything leave old or new, and the next start converges."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import pytest

from pv_channel.messages import Outcome
from tests.guest.machine import no_progress
from tests.real import corpus, strikes
from tests.real.struck import CALLS

if TYPE_CHECKING:
    from collections.abc import Iterator

#: As many as CI has.
PROCESSES = 2
#: Of the calls that only look (opening a file that is there), every how-manieth fails: an odd number, so that loops are met.
STRIDE = 37
#: What a full disk refuses.
FILLING = {"openat", "write", "fsync", "fdatasync", "ftruncate", "mkdirat", "linkat", "symlinkat", "renameat", "fsetxattr"}


@pytest.fixture(scope="module")
def bases() -> Iterator[dict[int, Path]]:
    """Before generation 1, a template; before generation 2, what generation 1 made of it. In memory, where fsync is free."""
    with TemporaryDirectory(dir="/dev/shm") as memory:
        Path(memory).chmod(0o711)
        corpus.machine(Path(memory) / "1")
        strikes.copy(Path(memory) / "1", Path(memory) / "2")
        made = corpus.opened(Path(memory) / "2").provisioner().provision(corpus.first(), None, no_progress)
        assert made.outcome is Outcome.APPLIED, made
        yield {1: Path(memory) / "1", 2: Path(memory) / "2"}


def wrong(base: Path, generation: int, injection: str, calls: list[tuple[str, int]]) -> list[str]:
    """What is found wrong when *injection* is tried at each of *calls*; in several processes."""
    with TemporaryDirectory(dir="/dev/shm") as memory:
        Path(memory).chmod(0o711)
        running = []
        for index in range(PROCESSES):
            work = Path(memory) / str(index)
            work.mkdir(0o711)
            shard = strikes.Shard(str(work), str(base), generation, injection, calls[index::PROCESSES])
            (work / "shard").write_bytes(msgspec.json.encode(shard))
            command = [sys.executable, "-m", "tests.real.strikes", str(work / "shard")]
            running.append(subprocess.Popen(command, cwd=strikes.TOP, stdout=subprocess.PIPE))
        answers = [process.communicate()[0] for process in running]
        assert [process.returncode for process in running] == [0] * PROCESSES
    return [sentence for answer in answers for sentence in msgspec.json.decode(answer, type=list[str])]


@pytest.fixture(scope="module")
def made(bases: dict[int, Path]) -> dict[int, list[tuple[str, int, bool]]]:
    """The calls that each generation makes in peace."""
    found = {}
    for generation, base in bases.items():
        with TemporaryDirectory(dir="/dev/shm") as memory:
            Path(memory).chmod(0o711)
            found[generation] = list(strikes.calls(Path(memory), base, generation))
    return found


def test_every_kind_of_call_that_changes_something_is_struck(made: dict[int, list[tuple[str, int, bool]]]) -> None:
    assert {call for calls in made.values() for call, _, _ in calls} <= set(CALLS)
    assert sum(changing for calls in made.values() for _, _, changing in calls) > 200


@pytest.mark.parametrize("injection", ["signal=KILL", "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize("generation", [1, 2])
def test_whatever_call_is_struck_there_is_old_or_new(
    bases: dict[int, Path], made: dict[int, list[tuple[str, int, bool]]], generation: int, injection: str
) -> None:
    offset = random.randrange(STRIDE)
    print(f"of the calls that only look, those with number % {STRIDE} == {offset}")
    looking: list[tuple[str, int]] = [] if injection == "signal=KILL" else [
        (call, number) for call, number, changing in made[generation] if not changing and number % STRIDE == offset
    ]  # fmt: skip
    struck = FILLING if injection == "error=ENOSPC" else set(CALLS)
    changing = [(call, number) for call, number, changing in made[generation] if changing and call in struck]
    assert wrong(bases[generation], generation, injection, changing + looking) == []
