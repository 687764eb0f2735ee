# SPDX-License-Identifier: Apache-2.0
"""The Debian 12 trees of dom0 and of the guest, before any of the project's own code is in them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lab import packages
from lab.cache import Cache, key_of, key_of_tree
from lab.programs import run
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.kernel import Kernel
    from lab.progress import Progress

_LAB = Path(__file__).parent
FILES = _LAB / "files"
INSIDE = _LAB / "inside"

#: dom0 has no systemd: Xen's toolstacks (xl, and libvirt's), the QEMU behind every channel, what the tests log in to guests with.
DOM0_PACKAGES = (
    "xen-utils-4.17", "xen-utils-common", "xenstore-utils", "qemu-system-xen", "python3", "kmod", "procps",
    "iproute2", "iputils-ping", "socat", "openssh-client", "dmsetup",
    "libvirt-daemon", "libvirt-daemon-driver-xen", "libvirt-clients",
)  # fmt: skip

#: The guest is what a cloud's template is: systemd, udev, networkd, sshd. No ifupdown, no xenstore tools.
GUEST_PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "openssh-server", "python3", "kmod", "procps", "iproute2", "iputils-ping",
    "sudo", "tzdata",
)  # fmt: skip

#: A template whose documents cloud-init carries out, and on which the distribution's own programs for locales, authorities and
#: disks are there: in a namespace, never booted.
CLOUD_INIT_PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "cloud-init", "cloud-guest-utils", "openssh-server", "python3", "iproute2",
    "ifupdown", "sudo", "tzdata", "locales", "ca-certificates", "e2fsprogs", "fdisk",
    "python3-cffi-backend",  # debootstrap follows no virtual package, and python3-cryptography depends on one
)  # fmt: skip

#: What nobody reads in a lab; half of the tree.
UNREAD = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt/lists",
    "var/cache/debconf", "var/log",
)  # fmt: skip

#: Slow under emulation, or waiting for hardware that a guest does not have. Nothing here concerns channels or networks.
MASKED_UNITS = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
    "e2scrub_reap.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "dev-hugepages.mount",
    "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
    "systemd-journal-flush.service", "systemd-pstore.service", "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service", "systemd-ask-password-console.path", "systemd-ask-password-wall.path",
    "modprobe@.service", "getty.target", "serial-getty@hvc0.service", "cryptsetup.target", "integritysetup.target",
    "veritysetup.target", "remote-fs.target",
)  # fmt: skip

#: Units of ours with a limit in seconds, which an emulated machine exceeds where a real one would not.
IMPATIENT_UNITS = ("pv-channel-coldplug.service",)

ENABLED_UNITS = ("systemd-networkd.service", "ssh.service", "lab-shell.service", "lab-ready.service")

#: Where the lab keeps its own programs, in dom0 and in the guest.
LAB_PROGRAMS = "usr/local/lib/lab"

#: A processor without a feature: libvirt wants to know its host's as one of its models, and the emulated one is none of them.
PLAIN_PROCESSOR = '<cpus><model name="plain"><decode host="on" guest="on"/></model></cpus>\n'

#: libvirtd without the distribution's users and D-Bus; its QEMU driver, of no use on Xen, does not start without those.
LIBVIRTD_CONF = 'unix_sock_group = "root"\nauth_unix_rw = "none"\n'

#: Every clone of one template has the same; the agents must not care.
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"


def debootstrap(cache: Cache, progress: Progress, role: str, wanted: Sequence[str]) -> Path:
    """Return the tree of Debian with *wanted*, without what nobody reads."""
    key = key_of(packages.RELEASE, wanted, UNREAD)

    def fill(directory: Path) -> None:
        tree = directory / "tree"
        # Kept between the two trees and between builds: most of the packages are the same.
        archives = cache.directory / "archives"
        archives.mkdir(exist_ok=True)
        with step(progress, f"debootstrap of the {role} tree"):
            # In a mount namespace of its own, so that a killed build leaves no /proc mounted in the tree.
            run(
                ["unshare", "--mount", "--propagation=private", "debootstrap", "--variant=minbase", f"--cache-dir={archives}",
                 f"--include={','.join(wanted)}", packages.RELEASE, tree, packages.mirror()]
            )  # fmt: skip
        for unread in UNREAD:
            shutil.rmtree(tree / unread, ignore_errors=True)
            (tree / unread).mkdir(parents=True)

    return cache.layer(f"{role}-debian", key, fill) / "tree"


def cloud_init_tree(cache: Cache, progress: Progress) -> Path:
    """Return the tree of a Debian with cloud-init, which is to be copied, or to be the lower layer of an overlay."""
    return debootstrap(cache, progress, "cloud-init", CLOUD_INIT_PACKAGES)


def dom0_tree(cache: Cache, progress: Progress, kernel: Kernel) -> Path:
    """Return dom0's tree: Debian, its kernel modules, and what the lab runs there."""
    debian = debootstrap(cache, progress, "dom0", DOM0_PACKAGES)
    key = key_of(debian.parent.name, kernel.directory.name, key_of_tree(_LAB, [FILES, INSIDE]), _source())

    def fill(directory: Path) -> None:
        with step(progress, "preparing the dom0 tree"):
            tree = _copy(debian, directory, kernel.modules("dom0"))
            _place(tree, "dom0-init", f"{LAB_PROGRAMS}/dom0-init", 0o755)
            shutil.copytree(INSIDE, tree / LAB_PROGRAMS / "lab/inside", ignore=shutil.ignore_patterns("__pycache__"))
            run(["chroot", tree, "python3", "-m", "compileall", "-q", f"/{LAB_PROGRAMS}"])
            # xenconsoled itself writes down what guests print: it goes on over their reboots, a reader of a pty does not.
            with (tree / "etc/default/xen").open("a") as settings:
                settings.write('XENCONSOLED_ARGS="--log=guest --log-dir=/var/log/xen/console"\n')
            _set_up_libvirt(tree)
            (tree / "root/vmlinux").write_bytes(kernel.linux.read_bytes())
            (tree / "root/guest-initrd.img").write_bytes(kernel.guest_ramdisk.read_bytes())

    return cache.layer("dom0-tree", key, fill) / "tree"


def guest_tree(cache: Cache, progress: Progress, kernel: Kernel) -> Path:
    """Return the guest's tree: a template that nobody has provisioned, with the lab's root shell on hvc0."""
    debian = debootstrap(cache, progress, "guest", GUEST_PACKAGES)
    key = key_of(debian.parent.name, kernel.directory.name, key_of_tree(_LAB, [FILES]), _source())

    def fill(directory: Path) -> None:
        with step(progress, "preparing the guest tree"):
            tree = _copy(debian, directory, kernel.modules("guest"))
            (tree / "etc/hostname").write_text("template\n")
            (tree / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 template\n::1 localhost ip6-localhost\n")
            (tree / "etc/fstab").write_text("/dev/xvda / ext4 rw,noatime 0 0\n")
            (tree / "etc/machine-id").write_text(MACHINE_ID)
            (tree / "etc/resolv.conf").unlink(missing_ok=True)
            for program in ("lab-shell", "lab-ready"):
                _place(tree, program, f"{LAB_PROGRAMS}/{program}", 0o755)
                _place(tree, f"{program}.service", f"etc/systemd/system/{program}.service", 0o644)
            _place(tree, "slow-system.conf", "etc/systemd/system.conf.d/lab.conf", 0o644)
            for unit in IMPATIENT_UNITS:
                _place(tree, "slow-machine.conf", f"etc/systemd/system/{unit}.d/lab.conf", 0o644)
            run(["systemctl", f"--root={tree}", "mask", *MASKED_UNITS])
            run(["chroot", tree, "systemctl", "enable", *ENABLED_UNITS])
            run(["chroot", tree, "ssh-keygen", "-A"])

    return cache.layer("guest-tree", key, fill) / "tree"


def _source() -> bytes:
    """Return this file: what it does to a tree is part of what the tree is made from."""
    return Path(__file__).read_bytes()


def _set_up_libvirt(tree: Path) -> None:
    """Let `libvirtd` run in dom0, with its driver for Xen."""
    models = tree / "usr/share/libvirt/cpu_map"
    (models / "x86_plain.xml").write_text(PLAIN_PROCESSOR)
    index = (models / "index.xml").read_text()
    (models / "index.xml").write_text(index.replace("'x86_486.xml'", "'x86_plain.xml'", 1))
    (tree / "etc/libvirt").mkdir(exist_ok=True)
    (tree / "etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF)
    for driver in (tree / "usr/lib").glob("*/libvirt/connection-driver/libvirt_driver_qemu.so"):
        driver.unlink()


def _copy(debian: Path, directory: Path, modules: Path) -> Path:
    tree = directory / "tree"
    run(["cp", "-a", "--reflink=auto", debian, tree])
    run(["cp", "-a", modules / "lib/modules", tree / "usr/lib/"])
    # debootstrap leaves this machine's own in both.
    (tree / "etc/hostname").write_text("dom0\n")
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / LAB_PROGRAMS).mkdir(parents=True)
    return tree


def _place(tree: Path, name: str, path: str, mode: int) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FILES / name, tree / path)
    (tree / path).chmod(mode)
