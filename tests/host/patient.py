# SPDX-License-Identifier: Apache-2.0
"""A dom0 in good health for doctor to look at: xenstored, a running VM with its QEMU, and a service that is connected to it.

A test makes it ill in one way. The service is this process: it has the lock and the channel's stream, as `serve` has.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Self

from host_agent.doctor.at_host import Where
from host_agent.doctor.examine import examine
from host_agent.doctor.gather import gather
from host_agent.documents.document_file import read, wanted
from host_agent.keys import create_host_key
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.standing import State
from host_agent.serve_lock import hold
from pv_channel import CHANNEL_NAME
from pv_channel.messages import ItemResult, Outcome, Result
from tests.host.fake_device_model import FakeDeviceModel
from tests.host.fake_xenstored import Channel, FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from host_agent.doctor.diagnosis import Finding
    from host_agent.doctor.evidence import Evidence
    from host_agent.documents.document_file import Wanted
    from host_agent.ledger.known import Counted

UUID: Final = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
DOMID: Final = 7
FRONTEND: Final = f"/local/domain/{DOMID}/device/console/1"
BACKEND: Final = f"/local/domain/0/backend/console/{DOMID}/1"
LIBXL: Final = f"/libxl/{DOMID}/device/console/1"
GUEST_KEY: Final = bytes(range(32))
XL_HEADER: Final = "Name  ID  Mem VCPUs\tState\tTime(s)\nDomain-0  0  1536  1  r-----  10.0\n"
_CLIENT: Final = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"


class Patient:
    """The VM web1 and its dom0, below *work*, whose programs are found in ``work/bin``."""

    def __init__(self, work: Path) -> None:
        self.work = work
        #: What doctor is asked about; None is everything.
        self.vm: str | None = "web1"
        self.state, self.documents, self.sockets = work / "state", work / "documents", work / "sockets"
        for directory in (self.state, self.documents, self.sockets, work / "bin"):
            directory.mkdir(mode=0o700)
        self.path = self.sockets / "web1.sock"
        self.xen = FakeXenstored(work / "xenstored")
        libvirts = work / "no-libvirt"
        self.where = Where(self.state, self.documents, (self.sockets,), CHANNEL_NAME, (self.xen.path,), libvirts)
        self._stack = ExitStack()
        self._lock: int | None = None
        self._stream: socket.socket | None = None

    def __enter__(self) -> Self:
        self._stack.enter_context(self.xen)
        create_host_key(self.state, "dom0", replace=False)
        self.xl("web1  7  256  1  -b----  1.0\n")
        self.start_qemu()
        self.xen.create(DOMID, "web1", UUID, [Channel(CHANNEL_NAME, str(self.path))], self.qemu.pid)
        for end in (FRONTEND, BACKEND):
            self.xen.write(f"{end}/state", "4")
        self.document("web1", f"uuid: {UUID}\n")
        self.start_service()
        self.provision()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_service()
        self._stack.close()

    def evidence(self) -> Evidence:
        """What doctor sees of web1."""
        return gather(self.where, self.vm, lambda _: None)

    def findings(self) -> list[Finding]:
        """What it says of that."""
        return examine(self.evidence())

    def start_qemu(self, *paths: Path, listens: list[Path] | None = None, deaf: bool = False) -> None:
        """As the toolstack does; in place of the one before, if any."""
        model = FakeDeviceModel(DOMID, paths or [self.path], listens, deaf=deaf)
        self.qemu = self._stack.enter_context(model)
        self.xen.write(f"/local/domain/{DOMID}/image/device-model-pid", self.qemu.pid, owner=0)

    def another_program(self, path: Path) -> subprocess.Popen[bytes]:
        """One that is connected to the socket *path*, and stays."""
        argv = [sys.executable, "-I", "-S", "-c", _CLIENT, str(path)]
        process = self._stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        self._stack.callback(process.kill)
        return process

    def another_listener(self, path: Path) -> FakeDeviceModel:
        """The QEMU of another domain, which takes *path*."""
        return self._stack.enter_context(FakeDeviceModel(99, [path]))

    def start_service(self) -> None:
        self._lock = hold(self.state)
        self.connect()

    @contextmanager
    def real_service(self) -> Iterator[subprocess.Popen[bytes]]:
        """A `serve` of its own, on the same directories."""
        words = ["--state", self.state, "--documents", self.documents, "--sockets", self.sockets]
        argv = [sys.executable, "-m", "host_agent", "serve", *map(str, words)]
        process = subprocess.Popen(argv, env=os.environ | {"XENSTORED_PATH": str(self.xen.path)})
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def stop_service(self) -> None:
        self.disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def connect(self) -> None:
        self._stream = socket.socket(socket.AF_UNIX)
        self._stream.connect(os.fspath(self.path))

    def disconnect(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def stream_is_alive(self) -> bool:
        """Whether QEMU has not left us, and nothing came."""
        assert self._stream is not None
        try:
            self._stream.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        return False

    def send(self, data: bytes) -> None:
        assert self._stream is not None
        self._stream.sendall(data)

    def document(self, name: str, more: str = "", hostname: str = "web1") -> Wanted:
        path = self.documents / f"{name}.yaml"
        path.write_text(f"instance-id: i-1\nlocal-hostname: {hostname}\n{more}")
        return wanted(read(path), path, name)

    def ledger(self, *, ahead: float = 0.0) -> Ledger:
        return Ledger.open(self.state, wall=lambda: time.time() + ahead)

    def provision(self, *items: ItemResult, whole: Outcome = Outcome.APPLIED, ahead: float = 0.0, **more: str) -> None:
        """The guest has answered with these items."""
        ledger = self.ledger(ahead=ahead)
        what = wanted(read(self.documents / "web1.yaml"), self.documents / "web1.yaml", "web1")
        ledger.want(UUID, "web1", None, what.digest)
        ledger.seen(UUID, DOMID, str(self.path))
        ledger.meet(UUID, "web1", GUEST_KEY)
        ledger.pin(UUID, GUEST_KEY)
        ledger.sending(UUID, "i-1", 1, what.digest)
        good = whole is Outcome.APPLIED
        ledger.settle(UUID, 1, Result(1, whole, list(items), **more), "0.1.0", applied=good)  # type: ignore[arg-type]  # words
        ledger.heartbeat(UUID)
        ledger.close()

    def stands(self, state: str = State.GREETING, detail: str = "no guest has answered", counted: Counted | None = None) -> None:
        """What the service has on record of the VM now."""
        ledger = self.ledger()
        ledger.stand(UUID, state, detail)
        if counted is not None:
            ledger.counted(UUID, counted)
        ledger.close()

    def never_met(self) -> None:
        """The ledger begins anew with this VM: no guest has ever answered."""
        for file in self.state.glob("ledger.sqlite*"):
            file.unlink()
        ledger = self.ledger()
        ledger.want(UUID, "web1", None, self.document("web1", f"uuid: {UUID}\n").digest)
        ledger.seen(UUID, DOMID, str(self.path))
        ledger.close()

    def xl(self, lines: str) -> None:
        """What ``xl list`` prints of guests."""
        program = self.work / "bin" / "xl"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{XL_HEADER}{lines}END\n")
        program.chmod(0o755)
