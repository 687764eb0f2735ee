# SPDX-License-Identifier: Apache-2.0
"""The emulated machine that runs Xen: one QEMU process, started, watched and ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab.cache import default_directory
from lab.errors import EmulatorFault, LabError, fault_line, tail
from lab.inside.command_server import PORT
from lab.programs import run
from lab.progress import step
from lab.turn import take

if TYPE_CHECKING:
    from lab.images import Images
    from lab.progress import Progress

#: `smap` off: before QEMU 9.1 its emulation kills dom0 at the first return to user space. `xsave` off, and with it `avx`: with
#: QEMU 7.2's XSAVE under Xen 4.17 a guest's systemd crashes in most boots, without it in none. `bmi2` off: sshd crashes in
#: libcrypto at a `mulx`.
CPU = "max,-smap,-xsave,-xsaveopt,-xsavec,-xsaves,-avx,-avx2,-fma,-f16c,-bmi2,-adx"

#: dom0 with its toolstack, one QEMU per guest with a channel; then three or four guests of 512 MiB.
DOM0_MEGABYTES = 1280
MACHINE_MEGABYTES = 4096

#: 9 s on an idle machine, 30 s with a cold cache; ten times that is not slow but stuck.
BOOT_SECONDS = 300.0

#: QEMU leaves in milliseconds when told to; its own shutdown of disks may take a moment on a busy machine.
LEAVE_SECONDS = 10.0

#: A QEMU that crashes is gone within this, gigabytes of memory and all.
DYING_SECONDS = 2.0


@dataclass(frozen=True)
class Address:
    """How a later process finds a machine: QEMU's process, told apart from a later one of its number, and dom0's port."""

    pid: int
    started: str
    port: int
    directory: Path

    def alive(self) -> bool:
        """Is it still that process, and not ended?"""
        return _start_of(self.pid) == self.started


def _start_of(pid: int) -> str | None:
    """Return when process *pid* started, in clock ticks since boot, or None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class Machine:
    """A running QEMU with Xen and dom0 in it."""

    def __init__(self, address: Address, process: subprocess.Popen[bytes] | None = None) -> None:
        self.address = address
        self._process = process

    @classmethod
    def start(
        cls,
        images: Images,
        progress: Progress,
        *,
        directory: Path | None = None,
        outlive_us: bool = False,
        own_disks: bool = False,
    ) -> Machine:
        """Boot *images* and return when dom0 answers. *outlive_us* leaves it running when this process ends.

        *own_disks*: on copies in *directory*, made where they are missing, which `cut_power` can boot again.
        EmulatorFault when QEMU or dom0's kernel died; LabError when dom0 came up wrong or not at all.
        """
        with take(default_directory(), progress) as turn:
            place = directory or Path(tempfile.mkdtemp(prefix="pv-lab-"))
            place.mkdir(parents=True, exist_ok=True)
            port = _free_port()
            if own_disks:
                images = _copies(images, place)
            # A test run that is killed outright takes its machine along.
            die_with_us = [] if outlive_us else ["setpriv", "--pdeathsig", "KILL"]
            with (place / "qemu.log").open("wb") as log:
                process = subprocess.Popen(
                    [*die_with_us, *_command(images, place, port, own_disks=own_disks)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[turn],
                    start_new_session=True,  # Ctrl-C is for us: we end QEMU in order.
                    env={**os.environ, "TMPDIR": str(place)},  # The disks' overlays; QEMU unlinks them as it opens them.
                )
        machine = cls(Address(process.pid, _start_of(process.pid) or "", port, place), process)
        try:
            with step(progress, "booting Xen and dom0"):
                machine._wait_for_dom0()
        except BaseException:
            machine.stop()
            raise
        return machine

    def _wait_for_dom0(self) -> None:
        give_up = time.monotonic() + BOOT_SECONDS
        while True:
            self.check()
            log = self.serial_log()
            if "LAB DOM0 FAILED" in log:
                raise LabError(f"dom0 came up without what it needs:\n{tail(log)}")
            if "LAB DOM0 READY" in log:
                return
            if time.monotonic() > give_up:
                raise LabError(f"dom0 was not up after {BOOT_SECONDS:.0f} s:\n{tail(log)}")
            time.sleep(0.1)

    def check(self) -> None:
        """EmulatorFault when QEMU has ended, or when Xen's or dom0's kernel says that it broke; otherwise nothing."""
        if not self.alive():
            raise EmulatorFault(f"QEMU ended:\n{tail(self._qemu_log())}\n{tail(self.serial_log())}")
        if broken := fault_line(self.serial_log()):
            raise EmulatorFault(f"the emulated machine broke: {broken}")

    def check_after_a_moment(self) -> None:
        """`check`, for someone whose connection broke: that is seen before a dying QEMU is quite dead."""
        self._wait(DYING_SECONDS)
        self.check()

    def alive(self) -> bool:
        """Is QEMU still running?"""
        if self._process is not None:
            return self._process.poll() is None
        return self.address.alive()

    def serial_log(self) -> str:
        """Return what Xen and dom0's kernel have printed."""
        with contextlib.suppress(FileNotFoundError):
            return (self.address.directory / "serial.log").read_text(errors="replace")
        return ""

    def _qemu_log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.address.directory / "qemu.log").read_text(errors="replace")
        return ""

    def stop(self) -> None:
        """End QEMU and leave nothing behind; doing it twice is doing it once."""
        for ask in (self._quit, lambda: self._signal(signal.SIGTERM), lambda: self._signal(signal.SIGKILL)):
            if not self.alive():
                break
            with contextlib.suppress(OSError):
                ask()
            self._wait(LEAVE_SECONDS)
        shutil.rmtree(self.address.directory, ignore_errors=True)

    def cut_power(self, images: Images, progress: Progress) -> Machine:
        """Kill QEMU, and boot its own disks again as they lie: what dom0 and its guests had not written is lost."""
        self._signal(signal.SIGKILL)
        self._wait(LEAVE_SECONDS)
        if self._process is not None:
            self._process.wait()
        for left in ("serial.log", "monitor.sock"):  # the one says that dom0 was ready, in its life before
            (self.address.directory / left).unlink(missing_ok=True)
        return Machine.start(images, progress, directory=self.address.directory, own_disks=True)

    def _wait(self, seconds: float) -> None:
        give_up = time.monotonic() + seconds
        while self.alive() and time.monotonic() < give_up:
            time.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():
            os.kill(self.address.pid, number)

    def _quit(self) -> None:
        """Tell QEMU's monitor. Every disk is an overlay that ends with it, so there is nothing to shut down first."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(LEAVE_SECONDS)
            monitor.connect(str(self.address.directory / "monitor.sock"))
            for command in ("qmp_capabilities", "quit"):
                monitor.sendall(json.dumps({"execute": command}).encode() + b"\n")
            while monitor.recv(4096):
                pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _copies(images: Images, place: Path) -> Images:
    """*images* with disks of their own in *place*."""
    copies = replace(images, dom0=place / "dom0.ext4", guest=place / "guest.ext4")
    if not copies.dom0.exists():
        for disk, copy in ((images.dom0, copies.dom0), (images.guest, copies.guest)):
            run(["cp", "--sparse=always", "--reflink=auto", disk, copy])
        run(["tune2fs", "-O", "has_journal", copies.dom0])  # it has none, for speed, and is to outlive a power cut
    return copies


def _command(images: Images, place: Path, port: int, *, own_disks: bool) -> list[str]:
    # Commas separate the multiboot modules: the kernel with its command line, its ramdisk. A comma in a path is doubled.
    modules = f"{_quoted(images.kernel.linux)} console=hvc0,{_quoted(images.kernel.dom0_ramdisk)}"
    dom0_memory = f"{DOM0_MEGABYTES}M"
    # A disk of its own needs no syncing either: it is QEMU that is killed, not the kernel beneath.
    disk = f"format=raw,if=virtio,{'cache=unsafe' if own_disks else 'snapshot=on'}"
    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", CPU, "-machine", "pc", "-m", str(MACHINE_MEGABYTES),
        "-smp", "2", "-display", "none", "-no-reboot", "-nodefaults",
        "-kernel", str(images.kernel.xen),
        "-append", f"console=com1 com1=115200,8n1 dom0_mem={dom0_memory},max:{dom0_memory} noreboot",
        "-initrd", modules,
        "-drive", f"file={_quoted(images.dom0)},{disk}",
        "-drive", f"file={_quoted(images.guest)},{disk}",
        # restrict=on: nothing in the lab reaches a network outside it.
        "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{PORT}",
        "-device", "virtio-net-pci,netdev=n0,romfile=",
        "-serial", f"file:{_quoted(place / 'serial.log')}",
        "-qmp", f"unix:{_quoted(place / 'monitor.sock')},server=on,wait=off",
    ]  # fmt: skip


def _quoted(path: Path) -> str:
    return str(path).replace(",", ",,")
