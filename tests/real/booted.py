# SPDX-License-Identifier: Apache-2.0
"""A machine without hardware: a real systemd as process 1 of namespaces of their own, a real journald, and our unit installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from host_agent.install import install
from tests.real.stage import SYSTEM_PATH, TOP, program

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_SECONDS: Final = 120.0
UNIT: Final = "pv-host-agent.service"
SYSTEMD: Final = Path("/lib/systemd/systemd")
#: Where the command of the unit is.
COMMAND: Final = "/srv/pv-host-agent"

#: The tree is $root, a tmpfs; /usr is this machine's own. As in any container, systemd finds what it needs mounted already.
_BOOT: Final = """set -eu
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mkdir -p usr proc sys dev run tmp srv/checkout srv/site srv/python var/log var/lib
mv usr/local local
mount --bind -o ro /usr usr
mount --bind local usr/local
for name in bin sbin lib lib64; do [ ! -e "/$name" ] || ln -s "usr/$name" "$name"; done
mount --bind -o ro "$checkout" srv/checkout
mount --bind -o ro "$site" srv/site
mount --bind -o ro "$python" srv/python
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do : >"dev/$name"; mount --bind "/dev/$name" "dev/$name"; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir old
pivot_root . old
umount -l /old
rmdir /old
exec env -i container=other PATH="$PATH" /lib/systemd/systemd --system --show-status=no --log-target=journal </dev/null
"""

#: This Python and this checkout, wherever they are, where the unit lets its program see them.
_RUN: Final = """#!/bin/sh
export PYTHONHOME=/srv/python LD_LIBRARY_PATH=/srv/python/lib PYTHONPATH=/srv/checkout:/srv/site PYTHONDONTWRITEBYTECODE=1
"""

_NAMESPACES: Final = ("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net")

#: systemd's own units that have nothing to do with us, and take time or a real machine.
_MASKED: Final = (
    "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-logind.service", "systemd-networkd.service",
    "systemd-resolved.service", "systemd-timesyncd.service", "getty.target", "dbus.service", "dbus.socket", "udev.service",
    "systemd-tmpfiles-setup.service", "systemd-tmpfiles-setup-dev.service", "systemd-binfmt.service", "systemd-sysctl.service",
    "systemd-modules-load.service", "systemd-update-utmp.service", "systemd-firstboot.service", "systemd-sysusers.service",
    "ldconfig.service", "console-getty.service",
)  # fmt: skip


class Machine:
    """One that boots for the length of a `with`; its files are below `root`, from `furnish` on."""

    def __init__(self, work: Path) -> None:
        self.root = work / "root"
        self._log = work / "boot.log"
        self._cgroup = _cgroups() / f"pv-test-{os.getpid()}-{time.monotonic_ns()}"

    def __enter__(self) -> Self:
        self._cgroup.mkdir()
        environment = {
            "PATH": SYSTEM_PATH, "root": str(self.root), "checkout": str(TOP), "site": sysconfig.get_path("purelib"),
            "python": sys.base_prefix,
        }  # fmt: skip
        join = f'echo $$ >"{self._cgroup}/cgroup.procs"; exec "$@"'
        unshare = [program("unshare", "util-linux"), "--fork", "--kill-child", *_NAMESPACES]
        command = ["sh", "-c", join, "sh", *unshare, "sh", "-c", _BOOT]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            eventually(self._is_up, lambda: self._log.read_text(errors="replace"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)
        eventually(self._is_gone, lambda: f"{self._cgroup}: still in use")

    def run(self, *argv: str, check: bool = True) -> str:
        """What a program says that runs in there."""
        enter = [program("nsenter", "util-linux"), "--target", str(self._first), *_NAMESPACES]
        done = subprocess.run(
            [*enter, "--", *argv], capture_output=True, text=True, timeout=DEADLINE_SECONDS,
            env={"PATH": SYSTEM_PATH, "LC_ALL": "C", "SYSTEMD_PAGER": "cat"},
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{argv}: {done.stdout}{done.stderr}\n{self.journal_text()}"
        return done.stdout

    def inside(self, path: str) -> Path:
        """The absolute *path* in there, as it can be opened from here."""
        return Path(f"/proc/{self._first}/root{path}")

    def show(self, name: str) -> str:
        """A property of our unit."""
        return self.run("systemctl", "show", "--property", name, "--value", UNIT).strip()

    def until(self, name: str, value: str) -> None:
        """Wait until a property of our unit is *value*."""
        def found() -> str:
            return f"{name} is {self.show(name)!r}, not {value!r}\n{self.journal_text()}"

        eventually(lambda: self.show(name) == value, found)

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The entries of our program that have all of *matches*."""
        command = ["journalctl", "--output=json", "--all", "SYSLOG_IDENTIFIER=pv-host-agent", *matches]
        return [json.loads(line) for line in self.run(*command).splitlines()]

    def until_journal(self, *matches: str, times: int = 1) -> list[dict[str, Any]]:
        """The same, once there are so many."""
        eventually(lambda: len(self.journal(*matches)) >= times, lambda: f"no {matches}\n{self.journal_text()}")
        return self.journal(*matches)

    def journal_text(self) -> str:
        """All of it, for a failure's message."""
        return self.run("journalctl", "--no-pager", "--lines=60", check=False)

    def furnish(self) -> None:
        """Put its files in place, with our unit in them."""
        for name in ("etc/systemd/system", "srv", "var", "root"):
            (self.root / name).mkdir(parents=True)
        for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
            shutil.copy(Path("/etc") / name, self.root / "etc" / name)
        (self.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        for name in _MASKED:
            (self.root / "etc/systemd/system" / name).symlink_to("/dev/null")
        (self.root / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
        command = self.root / COMMAND.removeprefix("/")
        command.write_text(_RUN + f'exec /srv/python/bin/{Path(sys.executable).resolve().name} -m host_agent "$@"\n')
        command.chmod(0o755)
        list(install(self.root, COMMAND))

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            pytest.fail(f"systemd did not start; the test needs root, namespaces and cgroup2: {self._log.read_text()}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._first = int(children[0])
        if Path(f"/proc/{self._first}/comm").read_text().strip() != "systemd":
            return False
        return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")

    def _is_gone(self) -> bool:
        try:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                Path(directory).rmdir()
        except OSError:  # a process is on its way out
            return not self._cgroup.exists()
        return True


def eventually(true: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until *true* is; fail saying *what* is in the way."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def _cgroups() -> Path:
    """Where this machine has its cgroups of version 2."""
    if os.geteuid() != 0:
        pytest.fail("a systemd of its own needs root")
    if not SYSTEMD.exists():
        pytest.fail("systemd is missing; on Debian: apt-get install systemd")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4])
    pytest.fail("no cgroup2 is mounted; cure: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
