# SPDX-License-Identifier: Apache-2.0
"""Xen, one Linux kernel for dom0 and the guests, and the two initial ramdisks that find their root disks."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import packages
from lab.cache import Cache, key_of
from lab.programs import run
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.progress import Progress

FILES = Path(__file__).parent / "files"

_XEN_MODULES = ("xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs")

#: dom0: the emulated machine's own disks and network, the back ends it serves to guests, snapshots for fresh guest disks, and
#: who uses a unix socket, which `channels` and `doctor` ask.
DOM0_MODULES = (
    *_XEN_MODULES, "xen-netback", "xen-blkback", "virtio_blk", "virtio_pci", "virtio_net",
    "ext4", "loop", "tun", "bridge", "dm-snapshot", "unix_diag",
)  # fmt: skip

#: A guest: its disk and vif, what systemd asks for, and `dummy` for tests that want more network interfaces.
GUEST_MODULES = (*_XEN_MODULES, "xen-netfront", "xen-blkfront", "ext4", "autofs4", "dummy", "bonding", "8021q", "bridge")

#: What each initial ramdisk loads to reach its root disk.
DOM0_ROOT_MODULES = ("virtio_pci", "virtio_blk", "ext4")
GUEST_ROOT_MODULES = ("xen-blkfront", "ext4")

_XZ_MAGIC = b"\xfd7zXZ\0"

#: The emulated CPU has no such instruction, and insmod says so loudly; the plain crc32c stands in.
_ABSENT_ON_THIS_CPU = "crc32c-intel"


@dataclass(frozen=True)
class Kernel:
    """Where the pieces that boot lie, and the module trees that go with them."""

    directory: Path

    @property
    def xen(self) -> Path:
        """The hypervisor, as the multiboot ELF that QEMU loads."""
        return self.directory / "xen"

    @property
    def linux(self) -> Path:
        """The kernel of dom0 and of the guests."""
        return self.directory / "vmlinux"

    @property
    def dom0_ramdisk(self) -> Path:
        """The initial ramdisk that mounts dom0's disk."""
        return self.directory / "dom0-initrd.img"

    @property
    def guest_ramdisk(self) -> Path:
        """The initial ramdisk that mounts a guest's disk."""
        return self.directory / "guest-initrd.img"

    def modules(self, role: str) -> Path:
        """Return the tree with `lib/modules` for *role*, "dom0" or "guest"."""
        return self.directory / f"{role}-modules"


def build(cache: Cache, progress: Progress) -> Kernel:
    """Return the kernel layer, built when apt's newest kernel or hypervisor, or our ramdisks, have changed."""
    version = packages.kernel_version()
    wanted = [packages.HYPERVISOR, f"linux-image-{version}", "busybox-static"]
    scripts = [(FILES / f"{role}-initramfs-init").read_bytes() for role in ("dom0", "guest")]
    key = key_of(
        Path(__file__).read_bytes(),
        packages.versions(wanted),
        *scripts,
        DOM0_MODULES,
        GUEST_MODULES,
        DOM0_ROOT_MODULES,
        GUEST_ROOT_MODULES,
    )

    def fill(directory: Path) -> None:
        with step(progress, f"fetching Xen and Linux {version}"):
            unpacked = directory / "unpacked"
            packages.unpack(wanted, unpacked)
            (directory / "xen").write_bytes(gzip.decompress(next(unpacked.glob("boot/xen-*.gz")).read_bytes()))
            (directory / "vmlinux").write_bytes(decompressed((unpacked / f"boot/vmlinuz-{version}").read_bytes()))
            run(["depmod", "-b", unpacked, version])
        with step(progress, "choosing kernel modules and making the initial ramdisks"):
            for role, modules, root_modules in (
                ("dom0", DOM0_MODULES, DOM0_ROOT_MODULES),
                ("guest", GUEST_MODULES, GUEST_ROOT_MODULES),
            ):
                _choose_modules(unpacked, directory / f"{role}-modules", version, modules)
                _make_ramdisk(directory, role, _with_dependencies(unpacked, version, root_modules), unpacked / "bin/busybox")
        shutil.rmtree(unpacked)

    return Kernel(cache.layer("kernel", key, fill))


def decompressed(image: bytes) -> bytes:
    """Return the ELF kernel inside a bzImage; *image* itself when it is not one that xz compressed.

    Xen and xl take either, but xl would decompress it for every guest, under emulation: six seconds each.
    """
    setup_sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if not image.startswith(_XZ_MAGIC, start):
        return image
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[start : start + length])


def _with_dependencies(tree: Path, version: str, modules: Iterable[str]) -> list[Path]:
    """Return the files of *modules* and of what they need, in the order to load them."""
    found: dict[Path, None] = {}
    for module in modules:
        shown = run(["modprobe", "-d", tree, "-S", version, "--show-depends", module])
        found |= dict.fromkeys(Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod "))
    return list(found)


def _choose_modules(tree: Path, into: Path, version: str, modules: Iterable[str]) -> None:
    for module in _with_dependencies(tree, version, modules):
        target = into / module.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, target)
    for index in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(tree / "lib/modules" / version / index, into / "lib/modules" / version)
    run(["depmod", "-b", into, version])


def _make_ramdisk(directory: Path, role: str, modules: list[Path], busybox: Path) -> None:
    tree = directory / f"{role}-ramdisk"
    (tree / "bin").mkdir(parents=True)
    (tree / "modules").mkdir()
    shutil.copy(busybox, tree / "bin/busybox")
    wanted = [module for module in modules if module.stem != _ABSENT_ON_THIS_CPU]
    for module in wanted:
        shutil.copy(module, tree / "modules")
    (tree / "modules/order").write_text("".join(f"/modules/{module.name}\n" for module in wanted))
    shutil.copy(FILES / f"{role}-initramfs-init", tree / "init")
    (tree / "init").chmod(0o755)
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    archive = directory / f"{role}-initrd.img"
    run(["cpio", "--create", "--quiet", "--format=newc", f"--file={archive}"], cwd=tree, stdin="\n".join(names).encode())
    shutil.rmtree(tree)
