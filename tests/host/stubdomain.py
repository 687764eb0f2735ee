# SPDX-License-Identifier: Apache-2.0
"""A stubdomain for the launcher to be in: xenstore with the toolstack's orders, terminals for consoles 1 and 2, and its programs.

Domain 5 is domain 7's. The test is dom0: it has the other end of each console, and of the vchan where the proxy is the fake one.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from host_agent.stubdom.launch_xenstore import Xenstore
from tests.qemu.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.host.fake_xenstored import FakeXenstored

TOP: Final = Path(__file__).parents[2]
STUBDOMAIN, TARGET = 5, 7
VM: Final = "/vm/0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
HOME: Final = f"/local/domain/{STUBDOMAIN}/device-model/{TARGET}"
ARGV: Final = f"{VM}/image/dm-argv"
RESTORE: Final = (b"-incoming", b"$STUBDOM_RESTORE_INCOMING_ARG")
#: Of the flags in /proc/net/unix, the kernel's SO_ACCEPTCON.
LISTENING: Final = "00010000"
#: Generous: what is waited for comes in a second, or the test has failed.
DEADLINE_SECONDS: Final = 90.0


class Console:
    """A terminal in the state of a new one. dom0's end is drained all the time, as dom0's QEMU drains it, and written here."""

    def __init__(self) -> None:
        self._dom0, inside = pty.openpty()
        self.path = Path(os.ttyname(inside))
        os.close(inside)
        self._came, self._news, self._closed = b"", threading.Condition(), False
        self._thread = threading.Thread(target=self._drain)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        os.close(self._dom0)

    def write(self, data: bytes) -> None:
        """All of it, as fast as it is read inside."""
        while data:
            data = data[os.write(self._dom0, data[:512]) :]

    def read(self, size: int) -> bytes:
        """So many bytes."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._came) >= size, DEADLINE_SECONDS), "not all came out of the console"
            data, self._came = self._came[:size], self._came[size:]
        return data

    def rest(self) -> bytes:
        """What has come and was not read."""
        with self._news:
            data, self._came = self._came, b""
        return data

    def _drain(self) -> None:
        while not self._closed:
            try:
                ready, _, _ = select.select([self._dom0], [], [], 0.05)
                data = os.read(self._dom0, 65536) if ready else b""
            except OSError:  # EIO: nobody has it open inside
                time.sleep(0.01)
                continue
            with self._news:
                self._came += data
                self._news.notify()


class Launcher:
    """One that runs; what it says goes into the file `log`."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                command, env=environment, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self) -> int:
        """Its exit status, once it has ended by itself."""
        return self.process.wait(DEADLINE_SECONDS)

    def printed(self) -> bytes:
        """Its standard output, once it has ended."""
        return self.process.communicate(timeout=DEADLINE_SECONDS)[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status, once it has ended of that signal."""
        self.process.send_signal(number)
        return self.end()


class Stubdomain:
    """The domain, below *work*; use it in a `with`. *store* writes nodes, at the socket *xenstored*."""

    def __init__(self, work: Path, xenstored: Path) -> None:
        self.work, self.xenstored = work, xenstored
        self.save, self.restore = Console(), Console()
        self.directory = work / "run"
        self.record, self.proxies = work / "qemu.json", work / "proxies"
        self.qemu = self._program("qemu", "tests.host.fake_stubdom_qemu")
        self.proxy = self._program("vchan-socket-proxy", "tests.host.fake_vchan_proxy")
        self.launchers: list[Launcher] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for launcher in self.launchers:
            if launcher.process.poll() is None:
                launcher.stop(signal.SIGKILL)
            assert launcher.process.stdout is not None
            launcher.process.stdout.close()
        for pid in self.pids():  # a launcher that was killed leaves them SIGTERM, which a stubborn one ignores
            kill(pid)
        self.save.close()
        self.restore.close()

    def _program(self, name: str, module: str) -> Path:
        path = self.work / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        path.chmod(0o755)
        return path

    def options(self, *options: str | Path) -> list[str]:
        """The launcher's arguments here, and these."""
        said: list[str | Path] = ["--xenstore", self.xenstored, "--domid", str(STUBDOMAIN), "--directory", self.directory]
        said += ["--save-console", self.save.path, "--restore-console", self.restore.path]
        said += ["--qemu", self.qemu, "--vchan-socket-proxy", self.proxy, *options]
        return [str(each) for each in said]

    def launch(self, *options: str | Path, before: Sequence[str] = (), **environment: str) -> Launcher:
        """Start the launcher, by the program *before* where there is one; *environment* tells the fakes how to be."""
        command = [*before, sys.executable, "-m", "host_agent.stubdom.launch", *self.options(*options)]
        told = {"FAKE_QEMU_RECORD": self.record, "FAKE_PROXY_RECORD": self.proxies, "FAKE_XENSTORED": self.xenstored}
        surroundings = os.environ | {name: os.fspath(value) for name, value in told.items()} | environment
        launcher = Launcher(command, surroundings, self.work / f"launcher{len(self.launchers)}.log")
        self.launchers.append(launcher)
        return launcher

    def pids(self) -> list[int]:
        """Of all fakes that were started."""
        qemu = [self.recorded()["pid"]] if self.record.exists() else []
        return qemu + [pid for pid, _ in self.started_proxies()]

    def recorded(self) -> dict[str, Any]:
        """What the fake QEMU noted of itself."""
        recorded: dict[str, Any] = json.loads(self.record.read_text())
        return recorded

    def arguments(self) -> list[bytes]:
        """Those that the fake QEMU got."""
        return [bytes.fromhex(argument) for argument in self.recorded()["argv"]]

    def started_proxies(self) -> list[tuple[int, str]]:
        """Each one's process, and its node."""
        lines = self.proxies.read_text().splitlines() if self.proxies.exists() else []
        return [(int(pid), node) for pid, _, node in (line.partition(" ") for line in lines)]

    def listens(self) -> bool:
        """Whether the proxy does, which one that was just started does a moment later."""
        return listens(self.directory / "qmp.sock.vchan")

    def monitor(self) -> Monitor:
        """QMP as dom0 has it, through the proxy. QEMU 7.2 now and then hangs up on a client that comes close behind another."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                return Monitor(self.directory / "qmp.sock.vchan")
            except EOFError:
                assert time.monotonic() < deadline, "QEMU greets nobody"
                time.sleep(0.05)


def publish(store: FakeXenstored | Xenstore, *arguments: bytes) -> None:
    """What the toolstack writes for the stubdomain."""
    store.write(f"/local/domain/{TARGET}/vm", VM.encode())
    store.write(f"/local/domain/{STUBDOMAIN}/target", b"%d" % TARGET)
    store.write(HOME, b"")
    if isinstance(store, Xenstore):
        store.remove(ARGV)
    else:
        store.rm(ARGV)
    for number, argument in enumerate(arguments, 1):
        store.write(f"{ARGV}/{number:03d}", argument)


def until(true: Callable[[], object], launcher: Launcher) -> None:
    """Wait for it, as long as the launcher runs."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert launcher.process.poll() is None, launcher.said()
        assert time.monotonic() < deadline, launcher.said()
        time.sleep(0.01)


def kill(pid: int) -> None:
    """With SIGKILL, if it still is there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def listens(path: Path) -> bool:
    """Whether somebody does there. Trying it would be a client, whom QEMU may not have seen leave when the next one comes."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(each[3] == LISTENING and each[-1] == os.fspath(path) for each in sockets)
