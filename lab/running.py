# SPDX-License-Identifier: Apache-2.0
"""A running lab: the machine, its dom0, its guests; booted for a `with` block, or left running and found again."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

from lab import images
from lab.cache import default_directory
from lab.dom0 import Dom0
from lab.domain_config import GUEST_MEGABYTES, SACRIFICE_SAYS, Channel, DomainConfig, Kind, mac_of
from lab.errors import EmulatorFault
from lab.guests import Guest
from lab.machine import Address, Machine
from lab.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Self

    from lab.progress import Progress

#: QEMU's emulation fails a few boots in a hundred; twice running it is something else.
BOOT_ATTEMPTS = 2


class Lab:
    """Real Xen, with a dom0 and as many guests as fit in its memory (four at the usual size)."""

    def __init__(self, machine: Machine, progress: Progress = silent) -> None:
        self.machine = machine
        self.dom0 = Dom0(machine)
        self._progress = progress
        self._said_sacrifice = False

    @classmethod
    def boot(cls, progress: Progress = silent, *, keep_at: Path | None = None, own_disks: bool = False) -> Self:
        """Build what has changed, boot it, and return the running lab; `with` it, or `stop` it.

        A boot that the emulator fails is tried once more. *own_disks* copies them, for `cut_power`. *keep_at* leaves it running
        after this process has ended, for `find` there. LabError when it cannot be built or comes up wrong, EmulatorFault when
        the emulator failed each time.
        """
        built = images.build(progress)
        for attempt in range(1, BOOT_ATTEMPTS + 1):
            try:
                outlive_us = keep_at is not None
                machine = Machine.start(built, progress, directory=keep_at, outlive_us=outlive_us, own_disks=own_disks)
                break
            except EmulatorFault as fault:
                progress(f"lab: boot {attempt} of at most {BOOT_ATTEMPTS} failed in the emulator: {fault}")
                if attempt == BOOT_ATTEMPTS:
                    raise
        if keep_at is not None:
            (keep_at / "address.json").write_text(json.dumps(asdict(machine.address), default=str))
        return cls(machine, progress)

    @classmethod
    def find(cls, directory: Path, progress: Progress = silent) -> Self | None:
        """Return the lab left running at *directory*, None when there is none any more."""
        try:
            fields = json.loads((directory / "address.json").read_text())
        except FileNotFoundError:
            return None
        machine = Machine(Address(**{**fields, "directory": directory}))
        if not machine.alive():
            shutil.rmtree(directory, ignore_errors=True)
            return None
        return cls(machine, progress)

    def create(
        self,
        name: str,
        *,
        channels: Iterable[Channel] = (),
        kind: Kind = "pvh",
        uuid: str | None = None,
        mac: str | None = None,
        megabytes: int = GUEST_MEGABYTES,
        kernel_arguments: str = "",
        sacrifice: bool = True,
        more_macs: Iterable[str] = (),
        copy_of: str | None = None,
        lasting: bool = False,
        furniture: tuple[bytes, str] | None = None,
    ) -> Guest:
        """Create the guest *name* on a pristine disk, or on a copy of that of the guest *copy_of*; return it while it boots.

        Only a *lasting* disk can be copied, or outlives `cut_power`.
        *furniture* is put on the disk first: `Guest.furnish`.
        Without *mac* it gets one made from its name, without *uuid* a random one; *more_macs* are of more network cards.
        *sacrifice* false keeps the list of channels as it is, for xl to drop the first of. LabError when xl refuses, or
        *name* is taken.
        """
        channels = tuple(channels)
        if channels and sacrifice and not self._said_sacrifice:
            self._progress(SACRIFICE_SAYS)
            self._said_sacrifice = True
        chosen = {} if uuid is None else {"uuid": uuid}
        config = DomainConfig(
            name=name,
            disk=f"/dev/mapper/{name}",
            mac=mac or mac_of(name),
            kind=kind,
            channels=channels,
            megabytes=megabytes,
            kernel_arguments=kernel_arguments,
            sacrifice=sacrifice,
            more_macs=tuple(more_macs),
            **chosen,
        )
        guest = Guest(self.dom0, config, self._progress)
        guest.make_disk(copy_of, lasting=lasting)
        try:
            if furniture is not None:
                guest.furnish(*furniture)
            guest.start()
        except BaseException:
            guest.destroy()
            raise
        return guest

    def guest(self, name: str) -> Guest:
        """Return the guest *name*, whichever process created it; LabError when there is none."""
        return Guest.found(self.dom0, name, self._progress)

    def cut_power(self) -> None:
        """Kill the machine as a power cut would, and boot it again from its disks as they lie; guests' disks are attached again.

        Only for a lab that was booted with *own_disks*. What it was running is gone: start the guests that are wanted.
        """
        self.machine = self.machine.cut_power(images.build(self._progress), self._progress)
        self.dom0 = Dom0(self.machine)

    def stop(self) -> None:
        """End the machine and leave nothing behind; doing it twice is doing it once."""
        self.machine.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def left_running_at() -> Path:
    """Return where the command line's one lab is kept."""
    return default_directory() / "running"
