# SPDX-License-Identifier: Apache-2.0
"""The machine under a root directory: its files, and, where it is the running one, its kernel and its programs."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from guest_agent import command, files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from guest_agent.command import Completed
    from guest_agent.files import Stored
    from guest_agent.netlink import HeldAddress


    class Run(Protocol):
        """What runs a program: `command.run`, or a test's fake."""

        def __call__(self, argv: Sequence[str], *, given: bytes = b"") -> Completed:
            """Run it with *given* as its input; raise `CommandError`."""


class Kernel(Protocol):
    """What is asked of the running kernel."""

    def hostname(self) -> str:
        """gethostname(2)."""

    def set_hostname(self, name: str) -> None:
        """sethostname(2); raise `OSError`."""

    def release(self) -> str:
        """uname(2)'s release."""

    def addresses(self) -> list[HeldAddress]:
        """Every address of every interface; raise `OSError`."""

    def permanent_addresses(self) -> dict[int, bytes]:
        """The address that each network card was made with, by the interface's index; raise `OSError`."""

    def neighbours(self) -> dict[tuple[int, bytes], int]:
        """The state of each neighbour, by the interface's index and its address; raise `OSError`."""

    def forget_neighbour(self, index: int, address: bytes) -> None:
        """Look for this neighbour anew when it is next needed."""

    def ask_neighbour(self, index: int, address: bytes) -> None:
        """Need this neighbour now."""


class LinuxKernel:
    """The kernel that runs us."""

    def hostname(self) -> str:
        """gethostname(2)."""
        return os.uname().nodename

    def set_hostname(self, name: str) -> None:
        """sethostname(2); raise `OSError`."""
        import socket  # loaded here: only a change of name needs it

        socket.sethostname(name)

    def release(self) -> str:
        """uname(2)'s release."""
        return os.uname().release

    def addresses(self) -> list[HeldAddress]:
        """By rtnetlink(7); raise `OSError`."""
        from guest_agent import netlink  # loaded here, as below: only a change of the network needs it

        return netlink.addresses()

    def permanent_addresses(self) -> dict[int, bytes]:
        """By rtnetlink(7); raise `OSError`."""
        from guest_agent import netlink

        return netlink.permanent_addresses()

    def neighbours(self) -> dict[tuple[int, bytes], int]:
        """By rtnetlink(7); raise `OSError`."""
        from guest_agent import netlink

        return netlink.neighbours()

    def forget_neighbour(self, index: int, address: bytes) -> None:
        """By rtnetlink(7)."""
        from guest_agent import netlink

        netlink.forget_neighbour(index, address)

    def ask_neighbour(self, index: int, address: bytes) -> None:
        """By a datagram to it."""
        from guest_agent import netlink

        netlink.ask_neighbour(index, address)


class System:
    """The machine under *root*. Only a *live* one (by default, the one at ``/``) is asked for its kernel and its programs."""

    def __init__(
        self,
        root: Path | str = "/",
        *,
        run: Run = command.run,
        live: bool | None = None,
        kernel: Kernel | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        today: Callable[[], int] = lambda: int(time.time() // 86400),
    ) -> None:
        #: The root directory without a slash at its end: empty for ``/``.
        self.root = str(root).rstrip("/")
        self.live = not self.root if live is None else live
        self.run = run
        self.kernel = LinuxKernel() if kernel is None else kernel
        self.now, self.sleep = now, sleep
        #: Days since 1970, as shadow(5) counts.
        self.today = today

    def path(self, absolute: str) -> Path:
        """Where the machine's *absolute* path lies."""
        from pathlib import Path  # loaded here: 4 ms that the start does without

        return Path(self.file(absolute))

    def file(self, absolute: str) -> str:
        """`path`, as a string."""
        return f"{self.root}/{absolute.lstrip('/')}"

    def exists(self, absolute: str) -> bool:
        """Whether something has this path; a dangling symbolic link counts."""
        return os.path.lexists(self.file(absolute))

    def names(self, absolute: str) -> list[str]:
        """The names in the directory *absolute*, sorted; none where it is none."""
        try:
            with os.scandir(self.file(absolute)) as entries:
                return sorted(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def link(self, absolute: str) -> str:
        """Where the symbolic link *absolute* points; empty where it is none."""
        try:
            return os.readlink(self.file(absolute))  # noqa: PTH115  pathlib is 4 ms that the start does without
        except OSError:  # EINVAL: no link; ENOENT, ENOTDIR: nothing at all
            return ""

    @contextmanager
    def directory(self, absolute: str) -> Iterator[int]:
        """The open directory *absolute*; raise `OSError`. Below a root other than ``/``, never through a symbolic link."""
        with files.directory(absolute, self.root) as opened:
            yield opened

    def read(self, absolute: str, limit: int = files.MAX_FILE_BYTES) -> Stored | None:
        """The file *absolute*, None where there is none; raise `OSError` as `files.read` does."""
        parent, name = split(absolute)
        try:
            with self.directory(parent) as opened:
                return files.read(opened, name, limit)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, absolute) from None

    def text(self, absolute: str, limit: int = files.MAX_FILE_BYTES) -> str:
        """A system file to look at, links followed, what is not UTF-8 replaced; empty where there is none."""
        try:
            with open(self.file(absolute), "rb") as file:  # noqa: PTH123  pathlib is 4 ms that the start does without
                return file.read(limit).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether *condition* comes true within *seconds*; at once on a machine that is not live, where nothing will change."""
        deadline = self.now() + seconds
        while not condition():
            if not self.live or self.now() >= deadline:
                return False
            self.sleep(0.05)
        return True


def split(absolute: str) -> tuple[str, str]:
    """The directory and the name in it."""
    parent, _, name = absolute.rpartition("/")
    return parent or "/", name
