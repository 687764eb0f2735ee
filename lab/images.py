# SPDX-License-Identifier: Apache-2.0
"""The two disks that boot: dom0's and the guests' common template, each with the project installed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import debian, kernel, packages, project
from lab.cache import Cache, default_directory, key_of
from lab.errors import LabError
from lab.programs import run
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.progress import Progress

#: Sparse. Room in dom0 for what several guests write, since their disks are snapshots kept there.
DOM0_DISK = "4G"

#: Sparse. Twice what the template holds; a full disk is quickly made where a test wants one.
GUEST_DISK = "640M"

#: More than the template's file system fills: a template is smaller than what its clones are given.
GUEST_SPARE_BYTES = 64 * 1024 * 1024

#: A real guest's root has a journal, and a guest that is killed while it writes needs it. The smallest is the quickest to make.
_GUEST_EXT4 = ("-J", "size=4")
_DOM0_EXT4 = ("-O", "^has_journal")


@dataclass(frozen=True)
class Images:
    """All that the emulated machine boots from."""

    kernel: kernel.Kernel
    dom0: Path
    guest: Path


def build(progress: Progress, directory: Path | None = None) -> Images:
    """Return the images for this checkout as it stands, building what has changed; LabError when that cannot be done."""
    packages.ensure(progress)
    packages.ensure_lists(progress)
    if os.geteuid() != 0:
        raise LabError("building the lab's images needs root: debootstrap and chroot do")
    cache = Cache(directory or default_directory(), progress)
    with cache.locked():
        linux = kernel.build(cache, progress)
        dom0_base = debian.dom0_tree(cache, progress, linux)
        guest_base = debian.guest_tree(cache, progress, linux)
        built = project.wheel(cache, progress)
        return Images(
            kernel=linux,
            dom0=_image(cache, progress, "dom0", "host", dom0_base, built, (*_DOM0_EXT4, DOM0_DISK)),
            guest=_image(cache, progress, "guest", "guest", guest_base, built, (*_GUEST_EXT4, GUEST_DISK)),
        )


def _with_dependencies(cache: Cache, progress: Progress, role: str, extra: str, base: Path) -> tuple[Path, Path]:
    """Return the tree of *role* with the Python packages of *extra* in it, and the directory of their wheels."""
    wheels = project.dependency_wheels(cache, progress, extra)

    def fill(directory: Path) -> None:
        with step(progress, f"installing the Python packages of [{extra}] in the {role} tree"):
            tree = _copied(base, directory)
            project.install_dependencies(tree, wheels, project.requirements(extra))

    return cache.layer(f"{role}-python", key_of(base.parent.name, wheels.name), fill) / "tree", wheels


def _image(cache: Cache, progress: Progress, role: str, extra: str, base: Path, built: Path, ext4: Sequence[str]) -> Path:
    below, wheels = _with_dependencies(cache, progress, role, extra, base)
    *options, size = ext4
    source = Path(__file__).read_bytes() + Path(project.__file__).read_bytes()

    def fill(directory: Path) -> None:
        with step(progress, f"installing the project in the {role} image"):
            tree = _copied(below, directory)
            project.install_wheel(tree, wheels, built)
            if role == "guest":
                project.set_up_agent(tree)
            disk = directory / "disk.ext4"
            run(["mke2fs", "-q", "-t", "ext4", "-m", "0", *options, "-d", tree, disk, size])
            if role == "guest":
                os.truncate(disk, disk.stat().st_size + GUEST_SPARE_BYTES)
            shutil.rmtree(tree)

    return cache.layer(f"{role}-image", key_of(below.parent.name, built.parent.name, ext4, source), fill) / "disk.ext4"


def _copied(tree: Path, directory: Path) -> Path:
    run(["cp", "-a", "--reflink=auto", tree, directory / "tree"])
    return directory / "tree"
