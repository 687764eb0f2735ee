# SPDX-License-Identifier: Apache-2.0
"""Machines to move: a guest of nine instructions that counts for as long as it runs, with memory that is worth sending."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Self

from tests.qemu.monitor import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu, Running

#: A machine type that both QEMUs have.
MACHINE = "pc-i440fx-7.2"
#: Where the guest counts, and where its memory begins that nobody writes to.
_COUNTER, _MEMORY = 0x500, 16 << 20
MEMORY_BYTES = 16 << 20
_ROM_BYTES = 64 * 1024
_RESET, _CODE = 0xFFF0, 0xF000
#: Longer than any of these guests needs for its next step.
PATIENCE_SECONDS = 60.0


def rom() -> bytes:
    """A whole firmware, in real mode: from the reset vector to a loop that adds to a 32-bit number."""
    code = bytes.fromhex("31c0 8ed8 66ff060005 ebf9")  # xor ax,ax; mov ds,ax; again: inc dword [0x500]; jmp again
    image = bytearray(b"\xf4" * _ROM_BYTES)  # hlt
    image[_CODE : _CODE + len(code)] = code
    image[_RESET : _RESET + 3] = b"\xe9" + (_CODE - _RESET - 3).to_bytes(2, "little", signed=True)  # jmp
    return bytes(image)


class Machine:
    """A QEMU with that guest. `qmp` is the monitor for the code under test; the test itself looks through another one."""

    def __init__(self, start: Start, qemu: Qemu, directory: Path, name: str, *arguments: str, wait: bool = True) -> None:
        directory.mkdir(exist_ok=True)
        (directory / "rom").write_bytes(rom())
        self._directory, self._name, self._looks = directory, name, 0
        self._eye = directory / f"{name}.eye"
        own = ["-m", "64"] if "-m" not in arguments else []
        watch = ["-qmp", f"unix:{self._eye},server=on,wait=off"]
        kind = ["-machine", MACHINE] if "-machine" not in arguments else []
        words = [*kind, *own, "-bios", str(directory / "rom"), *watch, *arguments]
        self.running: Running = start(qemu, *words, wait=wait)
        self.qmp = self.running.qmp

    @classmethod
    def source(cls, start: Start, qemu: Qemu, directory: Path, *arguments: str) -> Self:
        """One that runs, and has 16 MiB that cannot be compressed."""
        directory.mkdir(exist_ok=True)
        noise = directory / "noise"
        noise.write_bytes(os.urandom(MEMORY_BYTES))
        return cls(start, qemu, directory, "source", "-device", f"loader,file={noise},addr={_MEMORY},force-raw=on", *arguments)

    @classmethod
    def destination(cls, start: Start, qemu: Qemu, directory: Path, *arguments: str) -> Self:
        """One that waits for a VM, and has nothing in its memory."""
        return cls(start, qemu, directory, "destination", "-incoming", "defer", *arguments)

    def eye(self) -> Monitor:
        """The test's own monitor."""
        return Monitor(self._eye)

    def state(self) -> str:
        """QEMU's word for how the VM is."""
        with self.eye() as eye:
            state: str = eye.execute("query-status")["status"]
        return state

    def count(self) -> int:
        """How far the guest has counted."""
        return int.from_bytes(self._read(_COUNTER, 4), "little")

    def memory(self) -> str:
        """The digest of what lies in the memory that nobody writes to."""
        return hashlib.sha256(self._read(_MEMORY, MEMORY_BYTES)).hexdigest()

    def runs(self) -> bool:
        """Whether the guest counts on. One that does not, though QEMU says that it runs, is an error with both words."""
        before, until = self.count(), time.monotonic() + PATIENCE_SECONDS
        while self.state() == "running":
            if self.count() != before:
                return True
            assert time.monotonic() < until, f"the guest is at {before} for {PATIENCE_SECONDS} s, and QEMU says that it runs"
            time.sleep(0.02)  # QEMU's main loop and its processor share a lock: who asks without a pause may hold the guest up
        return False

    def stands_still(self) -> bool:
        """Whether it does not, for as long as another would need for many steps."""
        before = self.count()
        time.sleep(0.3)
        return self.count() == before

    def await_status(self, *words: str) -> str:
        """Until its migration is in one of these states."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self.eye() as eye:
            while True:
                status: str = eye.execute("query-migrate").get("status", "")
                if status in words:
                    return status
                assert time.monotonic() < until, f"{status} for {PATIENCE_SECONDS} s"
                time.sleep(0.02)

    @staticmethod
    def await_file(path: Path) -> None:
        """Until it is there."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not path.exists():
            assert time.monotonic() < until, f"no {path} after {PATIENCE_SECONDS} s"
            time.sleep(0.02)

    def await_listening(self) -> None:
        """Until it has somewhere to be connected to."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self.eye() as eye:
            while not eye.execute("query-migrate").get("socket-address"):
                assert time.monotonic() < until, f"nothing to connect to for {PATIENCE_SECONDS} s"
                time.sleep(0.02)

    def settings(self) -> object:
        """Its capabilities and parameters for a migration."""
        with self.eye() as eye:
            return eye.execute("query-migrate-capabilities"), eye.execute("query-migrate-parameters")

    def slow_down(self) -> None:
        """Have all that leaves it crawl."""
        with self.eye() as eye:
            eye.execute("migrate-set-parameters", **{"max-bandwidth": 200_000})

    def _read(self, address: int, size: int) -> bytes:
        self._looks += 1
        into = self._directory / f"{self._name}.{self._looks}"
        with self.eye() as eye:
            eye.execute("pmemsave", val=address, size=size, filename=str(into))
        try:
            return into.read_bytes()
        finally:
            into.unlink()
