# SPDX-License-Identifier: Apache-2.0
"""Guests: created on a fresh disk, run in over their console, restarted, killed, forgotten."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from lab.dom0 import RUN_SECONDS, Completed
from lab.domain_config import DomainConfig
from lab.errors import EmulatorFault, LabError, fault_line, tail
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.dom0 import Dom0
    from lab.progress import Progress

#: A PVH guest is up 20 s after `xl create`, a PV guest after 70 s on a bad day, and three at once share two CPUs.
READY_SECONDS = 600.0

#: `xl shutdown` waits for the guest's systemd to stop everything.
SHUTDOWN_SECONDS = 300.0

#: A domain that faults is gone from `xl` after a few seconds; looked at only after a command in it failed.
DYING_SECONDS = 20.0

#: Between two looks at something in dom0, each of which costs the emulator some work.
LOOK_SECONDS = 0.5

#: Between two looks whether a booting guest is still there: `xl` costs the emulator so much that asking often slows the boot.
ALIVE_SECONDS = 10.0

#: What lab-ready.service prints when systemd has nothing left to start.
READY = re.compile(r"^DOMU READY (\S+) at uptime (\d+)", re.MULTILINE)

#: What lab-shell answers, and the echo of a greeting that it was not there for yet; of no use to whoever reads a console.
_SHELL_TALK = re.compile(r"hello [0-9a-f]+|lab [0-9a-f]+ (?:hello|garbled|begin|end \S+ \S+)", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)

#: How the guest {name} was made, beside its disk: a later process finds it by that.
_RECORD = "/var/lib/lab/{name}.json"

#: One snapshot of the template per guest, its changes in a sparse file: a fresh disk costs milliseconds.
_MAKE_DISK = """
set -e
cow=/var/lib/lab/{name}.cow
[ ! -e $cow ] || {{ echo "guest {name} exists"; exit 1; }}
truncate --size "$(blockdev --getsize64 /dev/vdb)" $cow
"""

#: A domain that migrated has printed into a log of its own; what the next one prints is to come after that.
_JOIN_CONSOLES = """
cd /var/log/xen/console
[ ! -e guest-{name}--incoming.log ] || {{ cat guest-{name}--incoming.log >>guest-{name}.log; rm guest-{name}--incoming.log; }}
"""

#: The disk of {other}, which does not run, as it lies.
_COPY_DISK = """
set -e
cow=/var/lib/lab/{name}.cow
[ ! -e $cow ] || {{ echo "guest {name} exists"; exit 1; }}
DM_DISABLE_UDEV=1 dmsetup suspend {other}
cp --sparse=always /var/lib/lab/{other}.cow $cow
DM_DISABLE_UDEV=1 dmsetup resume {other}
"""

#: dom0 has no udev, so device-mapper is to make the nodes itself. P: what was written where is in the file, so that it can be
#: copied and outlives dom0. N: it is in dom0's memory alone, which is much faster to sync.
_ATTACH_DISK = """
set -e
loop=$(losetup --find --show /var/lib/lab/{name}.cow)
DM_DISABLE_UDEV=1 dmsetup create {name} --table "0 $(blockdev --getsz /dev/vdb) snapshot /dev/vdb $loop {how} 8"
"""

#: {archive}, unpacked where nothing is yet; then {script}, with the disk at /mnt.
_FURNISH = """
set -e
mount /dev/mapper/{name} /mnt
trap 'umount /mnt; rm -f {archive}' EXIT
tar -C /mnt --skip-old-files -xf {archive}
{script}
"""

#: The back end lets go of the disk a moment after the domain is gone.
_DROP_DISK = """
export DM_DISABLE_UDEV=1
cow=/var/lib/lab/{name}.cow
for _ in $(seq 100); do
    [ -e /dev/mapper/{name} ] || break
    dmsetup remove {name} 2>/dev/null || sleep 0.2
done
[ ! -e $cow ] || losetup --noheadings --output NAME --associated $cow | xargs --no-run-if-empty losetup --detach
rm -f $cow /var/lib/lab/{name}.json
[ ! -e /dev/mapper/{name} ]
"""


class Guest:
    """One domain and its disk. The domain may be running or not; the disk lives until `destroy`."""

    def __init__(self, dom0: Dom0, config: DomainConfig, progress: Progress) -> None:
        self._dom0, self._progress = dom0, progress
        self.config = config
        self._printed_before = 0
        #: The domain that we made, until it is rebooted, restored or ended by us.
        self._made: int | None = None

    @classmethod
    def found(cls, dom0: Dom0, name: str, progress: Progress) -> Guest:
        """Return the guest *name* that dom0 has, whoever made it; LabError when there is none."""
        return cls(dom0, DomainConfig.from_record(dom0.get(_RECORD.format(name=name))), progress)

    @property
    def name(self) -> str:
        """Its name for xl."""
        return self.config.name

    @property
    def uuid(self) -> str:
        """Its uuid, which every boot, restore and migration keeps."""
        return self.config.uuid

    @property
    def domid(self) -> int | None:
        """Its domain's number of today, None when it is not running."""
        done = self._dom0.run(f"xl domid {self.name} 2>/dev/null", check=False)
        return int(done.output) if done.status == 0 else None

    @property
    def running(self) -> bool:
        """Has it a domain just now? A guest that reboots is without one for some seconds."""
        return self.domid is not None

    def make_disk(self, copy_of: str | None = None, *, lasting: bool = False) -> None:
        """Give it a pristine copy of the template, or a copy of the disk of the guest *copy_of*, which does not run.

        Only a *lasting* disk can be copied, or outlives dom0; it is slower.
        """
        self._dom0.run((_MAKE_DISK if copy_of is None else _COPY_DISK).format(name=self.name, other=copy_of))
        self._dom0.put(_RECORD.format(name=self.name), self.config.record())
        self.attach_disk(lasting=lasting or copy_of is not None)

    def furnish(self, archive: bytes, script: str = "") -> None:
        """Before it boots, unpack the tar *archive* at its root, where it has nothing of the name; then dom0 runs *script*.

        *script* has its root at /mnt.
        """
        there = f"/var/lib/lab/{self.name}.tar"
        self._dom0.put(there, archive)
        self._dom0.run(_FURNISH.format(name=self.name, archive=there, script=script))

    def attach_disk(self, *, lasting: bool = True) -> None:
        """Make the disk it has known to a dom0 that has just booted."""
        self._dom0.run(_ATTACH_DISK.format(name=self.name, how="P" if lasting else "N"))

    def start(self) -> None:
        """Create its domain on the disk it has, and return as soon as xl does: the guest has then hardly begun to boot."""
        for channel in self.config.channels:
            if channel.path:
                self._dom0.run(f'mkdir -p -m 0700 "$(dirname {channel.path})"')
        self._dom0.put(f"/root/{self.name}.cfg", self.config.text())
        self._dom0.run(_JOIN_CONSOLES.format(name=self.name))
        self._printed_before = len(self._dom0.guest_console(self.name))
        with step(self._progress, f"xl create {self.name} ({self.config.kind})"):
            self._dom0.run(f"xl create /root/{self.name}.cfg")
        self._made = self.domid

    def wait_ready(self, timeout: float = READY_SECONDS) -> str:
        """Wait until systemd in the guest has started all it will, and return its word for how that went ("running", "degraded").

        EmulatorFault when the guest's kernel broke; LabError, with what it printed, when it is gone or *timeout* seconds pass.
        """
        give_up = time.monotonic() + timeout
        look_alive = time.monotonic() + ALIVE_SECONDS
        with step(self._progress, f"{self.name} boots"):
            while True:
                printed = self._printed_since_start()
                if found := READY.search(printed):
                    return found.group(1)
                if broken := fault_line(printed):
                    raise EmulatorFault(f"guest {self.name} broke: {broken}")
                if time.monotonic() > give_up:
                    raise LabError(f"guest {self.name} was not up after {timeout:.0f} s:\n{tail(printed)}")
                if time.monotonic() > look_alive:
                    if not self.running and not self._comes_back():
                        raise LabError(f"guest {self.name} is gone:\n{tail(self._printed_since_start())}")
                    look_alive = time.monotonic() + ALIVE_SECONDS
                time.sleep(LOOK_SECONDS)

    def _comes_back(self) -> bool:
        """Is it only between two lives? xl takes seconds to make the domain of a guest that rebooted."""
        give_up = time.monotonic() + READY_SECONDS / 10
        while time.monotonic() < give_up:
            if self.running:
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def run(self, script: str, *, check: bool = True, timeout: float = RUN_SECONDS) -> Completed:
        """Run *script* by bash as root in the guest, over hvc0.

        LabError when it fails and *check*, or when *timeout* seconds pass: it is then ended. EmulatorFault when the guest
        restarted although nobody asked for it: its processor faulted three times over, which Xen answers with a reboot.
        """
        try:
            return self._dom0.run_in_guest(self.name, script, check=check, timeout=timeout)
        except LabError as error:
            if self._made is not None and self._gone(self._made):
                said = self._dom0.run("xl dmesg | tail -n 5", check=False).output
                raise EmulatorFault(f"guest {self.name} restarted by itself:\n{said}\n{tail(self.console())}") from error
            raise

    def _gone(self, made: int) -> bool:
        """Is the domain *made* another by now? One that is dying keeps its number for seconds after its xenstore entries went."""
        give_up = time.monotonic() + DYING_SECONDS
        while time.monotonic() < give_up:
            if self.domid != made:
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def console(self) -> str:
        """Return what it has printed on hvc0 over all its lives, without the lab's own traffic."""
        return readable(self._dom0.guest_console(self.name))

    def _printed_since_start(self) -> str:
        return readable(self._dom0.guest_console(self.name, self._printed_before))

    def reboot(self) -> None:
        """Reboot it through its own systemd, and return when it is up again, in a new domain on the same disk."""
        before, self._made = self.domid, None
        self._printed_before = len(self._dom0.guest_console(self.name))
        self._dom0.run(f"xl reboot {self.name}")
        self._wait(lambda: self.domid not in {before, None}, f"{self.name} comes back in a new domain")
        self.wait_ready()

    def shutdown(self) -> None:
        """Shut it down through its own systemd, and return when the domain is gone; the disk stays, for `start`."""
        self._made = None
        self._dom0.run(f"xl shutdown {self.name}")
        self._wait(lambda: not self.running, f"{self.name} shuts down")

    def save_and_restore(self, meanwhile: str = "true") -> None:
        """Write its memory to dom0's disk and bring it back from there, in a new domain, as a migration would.

        In between dom0 runs *meanwhile*, and does not bring it back where that fails.
        """
        saved = f"/var/lib/lab/{self.name}.saved"
        self._made = None
        with step(self._progress, f"{self.name} is saved and restored"):
            both = f"xl save {self.name} {saved} && {meanwhile} && xl restore {saved}"
            self._dom0.run(f"{both}; code=$?; rm -f {saved}; exit $code")
        self._made = self.domid

    def migrate(self) -> None:
        """Migrate it live to the dom0 that it is on: a new domain, and two QEMUs for a while that share its sockets' paths.

        Only a PVH guest can: Debian's Xen has no shadow paging, which a PV guest's migration needs.
        """
        self._made = None
        with step(self._progress, f"{self.name} migrates"):
            # With no ssh command xl runs what stands in the place of the host.
            self._dom0.run(f"xl migrate -s '' {self.name} 'xl migrate-receive'")
        self._made = self.domid

    def pause(self) -> None:
        """Let it have no CPU until `unpause`."""
        self._dom0.run(f"xl pause {self.name}")

    def unpause(self) -> None:
        """Let it go on."""
        self._dom0.run(f"xl unpause {self.name}")

    @property
    def qemu(self) -> int:
        """The pid in dom0 of its QEMU, which serves its channels."""
        return int(self._dom0.run(f"xenstore-read /local/domain/{self.domid}/image/device-model-pid").output)

    def kill(self) -> None:
        """Cut its power: the domain is gone at once, and the disk stays as it is, for `start`."""
        self._made = None
        give_up = time.monotonic() + SHUTDOWN_SECONDS
        while True:
            done = self._dom0.run(f"xl destroy {self.name}", check=False)
            if done.status == 0 or not self._comes_back():
                return
            if time.monotonic() > give_up:  # xl cannot end a domain that it is just about to restart, and says so
                raise LabError(f"xl destroy {self.name} fails:\n{done.output}")

    def destroy(self) -> None:
        """End the domain, if there is one, and forget the disk; doing it twice is doing it once."""
        if self.running:
            self.kill()
        self._dom0.run(_DROP_DISK.format(name=self.name))

    def _wait(self, true: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + SHUTDOWN_SECONDS
        with step(self._progress, what):
            while not true():
                if time.monotonic() > give_up:
                    raise LabError(f"waited {SHUTDOWN_SECONDS:.0f} s: {what}\n{tail(self._printed_since_start())}")
                time.sleep(LOOK_SECONDS)


def readable(printed: bytes) -> str:
    """Return what a console *printed* as text, without lab-shell's answers, but with what others said in the middle of those."""
    kept, answering = [], False
    for line in printed.decode(errors="replace").replace("\r", "").splitlines(keepends=True):
        words = line.strip()
        if _SHELL_TALK.fullmatch(words):
            answering = words.endswith(" begin")
        elif not (answering and _BASE64.fullmatch(words)):
            kept.append(line)
    return "".join(kept)
