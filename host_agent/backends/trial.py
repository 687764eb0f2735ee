# SPDX-License-Identifier: Apache-2.0
"""A program under test while it runs: nothing that it prints, starts or leaves behind outlives the trial or fills our memory."""

from __future__ import annotations

import ctypes
import os
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from host_agent.backends.capabilities import MAX_BYTES
from host_agent.errors import HostError, shown
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: Of what a program prints to standard error, and of how much of that is shown.
_MAX_ERRORS: Final = 8 * 1024
_SHOWN: Final = 200
_POLL_SECONDS: Final = 0.01
#: For the kernel to end what was killed.
_DEAD_SECONDS: Final = 10.0
#: linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36
#: What systemd and shells tell a program that is not for one under test.
_NOT_ITS_BUSINESS: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM")


class Manner(NamedTuple):
    """How a program is started, where that is not as by default: with pipes, which somebody reads, and our environment."""

    to_null: bool = False
    restricted: bool = False


class Trial:
    """A process of *argv*, leader of a session, in ``/``, with the descriptors *keep*; in a `with`, whose end is the end of all
    that it started.
    """

    def __init__(self, argv: Sequence[str], keep: Sequence[int] = (), manner: Manner = Manner()) -> None:  # noqa: B008 -- immutable
        self._argv, self._keep, self._manner = argv, keep, manner
        self.output, self.errors = bytearray(), bytearray()

    def __enter__(self) -> Self:
        self._before = set(_children())
        stream = subprocess.DEVNULL if self._manner.to_null else subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                [*_setpriv(self._manner), *self._argv], pass_fds=self._keep, start_new_session=True, cwd="/",
                env=_environment(self._manner), umask=0o077 if self._manner.restricted else -1,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
        except (OSError, ValueError) as exc:  # ValueError: a NUL in an argument
            raise HostError(f"{shown(self._argv[0])} cannot be started: {exc}") from None
        self.pid = self._process.pid
        self._selector = selectors.DefaultSelector()
        self._end = os.pidfd_open(self.pid)
        self._selector.register(self._end, selectors.EVENT_READ)
        for pipe, kept in ((self._process.stdout, self.output), (self._process.stderr, self.errors)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, kept)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._kill()
        finally:
            self._selector.close()
            os.close(self._end)
            for pipe in (self._process.stdout, self._process.stderr):
                if pipe is not None:
                    pipe.close()

    @property
    def status(self) -> int | None:
        """How the process ended, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def is_over(self) -> bool:
        """Whether the process has ended, and nothing of it runs. A leader without its threads' end is dead, and has no status."""
        return self.status is not None and not self.family()

    @property
    def prints_too_much(self) -> bool:
        """Whether it has printed more than an answer can be."""
        return len(self.output) > MAX_BYTES

    def until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Read what it prints until *true* is, for so long; whether it was."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() >= end:
                return False
            self._pump(_POLL_SECONDS)
        return True

    def ends(self, seconds: float) -> bool:
        """Wait so long for it to end, and read the rest of what it said."""
        over = self.until(lambda: self.status is not None, seconds)
        while over and self._pump(0):
            pass
        return over

    def send(self, number: signal.Signals) -> None:
        """Send the process, and no other, a signal."""
        self._process.send_signal(number)

    def family(self) -> list[int]:
        """All processes of it that run: itself, what it started, and what that left behind."""
        parents = _parents()
        found = [pid for pid in _children(parents) if pid not in self._before]
        for pid in found:
            found += [each for each, (parent, _) in parents.items() if parent == pid]
        return [pid for pid in found if parents[pid][1] not in ("Z", "X")]

    @property
    def message(self) -> str:
        """The last line that it printed to standard error, safe to print."""
        lines = bytes(self.errors).strip().splitlines()
        return printable(lines[-1], _SHOWN) if lines else ""

    def said(self) -> str:
        """The same as the end of a sentence."""
        return f", saying '{self.message}'" if self.message else ""

    def _pump(self, seconds: float) -> bool:
        """Read once of what is there, if something comes within *seconds*; whether it did."""
        if not self._selector.get_map():
            time.sleep(seconds)
            return False
        ready = self._selector.select(seconds)
        for key, _ in ready:
            data = os.read(key.fd, 65536) if key.fd != self._end else b""
            if not data:
                self._selector.unregister(key.fileobj)
                continue
            limit = (MAX_BYTES + 1 if key.data is self.output else _MAX_ERRORS) - len(key.data)
            key.data.extend(data[:limit])
        return bool(ready)

    def _kill(self) -> None:
        """Kill it, its group, and whatever became ours since it was started, until nothing is left."""
        end = time.monotonic() + _DEAD_SECONDS
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        while (left := set(_children()) - self._before) and time.monotonic() < end:
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(_POLL_SECONDS)


@contextmanager
def orphans_come_home() -> Iterator[None]:
    """Let processes whose parents end become our children, as those of a program that goes to the background do."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def has_standard_streams(pid: int) -> bool:
    """Whether the process has all of descriptors 0, 1 and 2."""
    return all(_link(Path(f"/proc/{pid}/fd/{number}")) for number in range(3))


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _setpriv(manner: Manner) -> list[str]:
    found = shutil.which("setpriv")
    if found is None:
        raise HostError("there is no setpriv; cure: apt-get install util-linux")
    return [found, "--pdeathsig", "KILL", *(["--no-new-privs"] if manner.restricted else []), "--"]


def _environment(manner: Manner) -> Mapping[str, str]:
    if manner.restricted:
        return {"PATH": os.defpath}
    return {name: value for name, value in os.environ.items() if name not in _NOT_ITS_BUSINESS}


def _children(parents: Mapping[int, tuple[int, str]] | None = None) -> list[int]:
    """Of this process."""
    found = _parents() if parents is None else parents
    return [pid for pid, (parent, _) in found.items() if parent == os.getpid()]


def _parents() -> dict[int, tuple[int, str]]:
    """The parent and the state of every process (proc_pid_stat(5))."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent, *_ = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                found[int(entry.name)] = int(parent), state.decode("ascii")
    return found
