# SPDX-License-Identifier: Apache-2.0
"""Run under strace, which strikes at one of its calls: provision machines, each in a process of its own.

strace counts the calls of each process by kind, and strikes at one number for all of them. A process that is to be struck at
its third call makes all but three of that number come to nothing before: so one strace and one interpreter, with everything
loaded, serve a thousand strikes.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from tests.guest.machine import no_progress
from tests.real import corpus

if TYPE_CHECKING:
    from collections.abc import Callable

#: No descriptor that is open: a call with it is counted, and does nothing.
NONE = 1_000_000

#: A call of each kind that changes anything, made to come to nothing.
CALLS: dict[str, Callable[[], object]] = {
    "openat": lambda: os.open("x", os.O_RDONLY, dir_fd=NONE),
    "write": lambda: os.write(NONE, b"x"),
    "fsync": lambda: os.fsync(NONE),
    "fdatasync": lambda: os.fdatasync(NONE),
    "ftruncate": lambda: os.ftruncate(NONE, 0),
    "fchmod": lambda: os.fchmod(NONE, 0),
    "fchown": lambda: os.fchown(NONE, 0, 0),
    "fsetxattr": lambda: os.setxattr(NONE, "user.x", b""),
    "renameat": lambda: os.rename("x", "y", src_dir_fd=NONE, dst_dir_fd=NONE),
    "linkat": lambda: os.link("x", "y", src_dir_fd=NONE, dst_dir_fd=NONE),
    "unlinkat": lambda: os.unlink("x", dir_fd=NONE),
    "symlinkat": lambda: os.symlink("x", "y", dir_fd=NONE),
    "mkdirat": lambda: os.mkdir("x", dir_fd=NONE),
}

#: Which call of its kind strace strikes at: more than the interpreter itself makes while it loads everything.
LAST = {call: 8000 if call == "openat" else 500 for call in CALLS}


class Strike(msgspec.Struct, frozen=True):
    """The machine in the folder *top* becomes generation *generation*, and its call *number* of kind *call* is struck.

    Generation 0: it only puts right what an earlier start left.
    """

    top: str
    generation: int
    call: str = ""
    number: int = 0


def main(strikes: list[Strike]) -> None:
    """Each in its turn."""
    with TemporaryDirectory(dir="/dev/shm") as warm:  # everything that is loaded late is loaded now
        machine = corpus.machine(Path(warm))
        for document in corpus.DOCUMENTS.values():
            machine.provisioner().provision(document(), None, no_progress)
    for strike in strikes:
        child = os.fork()
        if not child:
            suffer(strike)
        os.waitpid(child, 0)


def suffer(strike: Strike) -> None:
    """Provision, and leave the outcome beside the machine: nothing where this was killed."""
    provisioner = corpus.opened(Path(strike.top)).provisioner()
    raw = corpus.DOCUMENTS[strike.generation]() if strike.generation else b""
    if strike.call:
        for _ in range(LAST[strike.call] - strike.number - MADE.get(strike.call, 0)):
            with suppress(OSError):
                CALLS[strike.call]()
    try:
        said = provisioner.provision(raw, None, no_progress).outcome.value if raw else str(provisioner.recover())
    except BaseException:  # noqa: BLE001  whatever it is, it is what the test has to say
        said = traceback.format_exc()
    Path(strike.top, "outcome").write_text(said)
    os._exit(0)


#: What `suffer` has called itself by then: it opened the kernel's name to read it, and twice to write it.
MADE = {"openat": 3, "write": 2}


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=list[Strike]))
