# SPDX-License-Identifier: Apache-2.0
"""Kill an agent, or have a system call of it fail, at one call after the other; and look what is left each time."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pv_channel.messages import Outcome
from tests.guest.machine import no_progress
from tests.real import corpus
from tests.real.struck import CALLS, LAST, MADE, Strike

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).parents[2]
#: Calls that change nothing that outlives a process.
HARMLESS = frozenset((
    "access", "close", "dup", "dup2", "dup3", "fcntl", "fgetxattr", "flock", "fstat", "fstatfs", "getcwd", "getdents64", "ioctl",
    "lseek", "mmap", "newfstatat", "poll", "pread64", "read", "readlink", "readlinkat", "faccessat2", "statx", "stat", "lstat",
    "epoll_create1", "fadvise64", "execve", "chdir", "getxattr", "lgetxattr",
))  # fmt: skip
#: What `corpus.opened` does before anything is provisioned.
OPENING = frozenset(("mkdir",))
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)")


class Shard(msgspec.Struct, frozen=True):
    """One process's part: *injection* (``signal=KILL``) at each of *calls*, on machines that become *generation*."""

    work: str
    base: str
    generation: int
    injection: str
    calls: list[tuple[str, int]]


def strace(work: Path, strikes: list[Strike], *options: str) -> None:
    """Have the strikes suffered under strace."""
    program = shutil.which("strace")
    if program is None:
        raise RuntimeError("strace is missing; on Debian: apt-get install strace")
    (work / "strikes").write_bytes(msgspec.json.encode(strikes))
    # --seccomp-bpf spares all other calls their two stops; a signal is not delivered at that kind of stop.
    fast = [] if any("signal=" in option for option in options) else ["--seccomp-bpf"]
    command = [program, "-f", "-qq", *fast, "-o", str(work / "trace"), *options]
    command += [sys.executable, "-m", "tests.real.struck", str(work / "strikes")]
    subprocess.run(command, cwd=TOP, check=True, timeout=600)


def calls(work: Path, base: Path, generation: int) -> Iterator[tuple[str, int, bool]]:
    """Each call that an undisturbed provisioning makes: its kind, its number, and whether it changes anything."""
    top = copy(base, work / "peace")
    strace(work, [Strike(str(top), generation)], "-e", "trace=%file,%desc", "-y")
    said = (top / "outcome").read_text()
    if said != Outcome.APPLIED.value:
        raise RuntimeError(f"the corpus does not apply: {said}")
    lines = [match.groups() for match in map(_CALL.match, (work / "trace").read_text().splitlines()) if match]
    child = next(pid for pid, _, rest in lines if str(top) in rest)
    count: Counter[str] = Counter()
    for pid, call, rest in lines:
        if pid == child and call not in HARMLESS | OPENING:
            count[call] += 1
            number = count[call] - MADE.get(call, 0)
            if number > 0 and f"{top}/outcome" not in rest:
                yield call, number, call != "openat" or "O_CREAT" in rest


def copy(base: Path, top: Path) -> Path:
    """A machine like *base*, owners, modes and second names included."""
    subprocess.run(["cp", "-a", str(base), str(top)], check=True)
    return top


def run(shard: Shard) -> list[str]:
    """What was found wrong, in sentences."""
    work = Path(shard.work)
    strikes = [
        Strike(str(copy(Path(shard.base), work / str(index))), shard.generation, call, number)
        for index, (call, number) in enumerate(shard.calls)
    ]
    injections = [f"inject={call}:{shard.injection}:when={LAST[call]}" for call in dict(shard.calls)]
    options = [word for injection in injections for word in ("-e", injection)]
    strace(work, strikes, "-e", f"trace={','.join(CALLS)}", "-e", "status=none", *options)
    old = corpus.tree(Path(shard.base) / "root")
    machine = corpus.opened(copy(Path(shard.base), work / "new"))
    machine.provisioner().provision(corpus.DOCUMENTS[shard.generation](), None, no_progress)
    new = corpus.tree(machine.root)
    wrong = []
    for strike in strikes:
        problem = look(strike, shard.injection, old, new)
        if problem:
            wrong.append(f"{shard.injection} at {strike.call} {strike.number} of generation {shard.generation}: {problem}")
        shutil.rmtree(strike.top)
    return wrong


def look(strike: Strike, injection: str, old: corpus.Tree, new: corpus.Tree) -> str:
    """What is wrong with a machine that was struck; nothing where it is old or new, and becomes new."""
    top = Path(strike.top)
    said = (top / "outcome").read_text() if (top / "outcome").exists() else "killed"
    if said not in (Outcome.APPLIED.value, Outcome.FAILED.value, "killed"):
        return said
    if (said == "killed") != ("KILL" in injection):
        return f"the process was not struck as meant: {said}"
    machine = corpus.opened(top)
    provisioner = machine.provisioner()
    provisioner.recover()
    after, name = corpus.tree(machine.root), machine.kernel.hostname()
    possible = {"killed": [old, new], Outcome.APPLIED.value: [new], Outcome.FAILED.value: [old]}[said]
    if after not in possible:
        wanted = possible[-1]
        paths = sorted(path for path in {**after, **wanted} if after.get(path) != wanted.get(path))
        return f"{said}, and half a configuration is left: {', '.join(paths)}"
    if f"{name}\n".encode() != after["etc/hostname"][3]:
        return f"{said}, and the kernel's name is {name}"
    left = corpus.strays(machine.root)
    if left:
        return f"{said}, and there are left {', '.join(left)}"
    outcome = machine.provisioner().provision(corpus.DOCUMENTS[strike.generation](), None, no_progress).outcome
    if outcome not in (Outcome.APPLIED, Outcome.UNCHANGED) or corpus.tree(machine.root) != new:
        return f"{said}, and the same document came to {outcome.value} then"
    left = corpus.strays(machine.root)
    return f"{said}, and in the end there are left {', '.join(left)}" if left else ""


if __name__ == "__main__":
    found = run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Shard))
    sys.stdout.buffer.write(msgspec.json.encode(found))
