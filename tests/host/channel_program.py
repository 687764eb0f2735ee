# SPDX-License-Identifier: Apache-2.0
"""Another application's program for its channel, a fake one: it notes how it was started, echoes, and may misbehave.

`install(directory, name, ...)` puts one there; `described(directory, name, ...)` says in a description file what it is.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = """#!{python} -IS
import json, os, signal, sys, time
faults = {faults!r}
if "--print-capabilities" in sys.argv:
    {answer}
    sys.exit(0)
def note(**more):
    with open({log!r}, "a") as log:
        log.write(json.dumps(more) + "\\n")
fd = int(sys.argv[1].removeprefix("--fd="))
held = [each for each in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + each)]
child = 0
if "leaves-a-child" in faults:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
if "ignores-sigterm" in faults:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "floods" in faults:
    while True:
        os.write(1, b"x" * 65536)
note(pid=os.getpid(), sid=os.getsid(0), child=child, fd=fd, argv=sys.argv[1:], held=sorted(map(int, held)),
     stdin=os.readlink("/proc/self/fd/0"), blocking=os.get_blocking(fd), env=dict(os.environ), program=sys.argv[0])
print("I am \\x1b[31mup", flush=True)
if "ends-with-3" in faults:
    sys.exit(3)
while True:
    data = os.read(fd, 65536)
    if not data:
        if "stays" in faults:
            time.sleep(1000)
        sys.exit(0)
    os.write(fd, data.upper())
"""


def install(directory: Path, name: str, kind: str, *faults: str, answer: str = "", features: list[str] | None = None) -> Path:
    """The program *name* of the type *kind*, which has *faults*; *answer* is what it does where it is to say what it can."""
    path = directory / name
    said = json.dumps({"type": kind, "features": features or []})
    text = _TEXT.format(python=sys.executable, faults=faults, answer=answer or f"print({said!r})", log=str(log_of(path)))
    path.write_text(text)
    path.chmod(0o755)
    return path


def described(directory: Path, file: str, kind: str, binary: Path, **more: Any) -> Path:
    """The description file."""
    path = directory / file
    directory.mkdir(mode=0o755, exist_ok=True)
    path.write_text(json.dumps({"description": "A fake", "type": kind, "binary": str(binary), **more}))
    path.chmod(0o644)
    return path


def log_of(program: Path) -> Path:
    """Where the program notes its starts."""
    return program.with_suffix(".log")


def starts(program: Path) -> list[dict[str, Any]]:
    """How it was started, each time."""
    try:
        return [json.loads(line) for line in log_of(program).read_text().splitlines()]
    except FileNotFoundError:
        return []


def is_over(pid: int) -> bool:
    """Whether the process has ended; its parent, which for an orphan is the machine's first process, may not have heard of it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- as short as it is
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def is_no_more(pid: int) -> bool:
    """Whether it has ended, and no zombie of it is left."""
    return not os.path.exists(f"/proc/{pid}")  # noqa: PTH110 -- as short as it is
