# SPDX-License-Identifier: Apache-2.0
"""Debian's packages: what the lab needs on this machine, and what it unpacks without installing."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.programs import run, search_path
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.progress import Progress

#: Package -> a program of it, which tells whether it is here. No hypervisor: that one is only unpacked.
NEEDED = {
    "qemu-system-x86": "qemu-system-x86_64",
    "debootstrap": "debootstrap",
    "cpio": "cpio",
    "e2fsprogs": "mke2fs",
    "kmod": "depmod",
    "openssh-client": "ssh-keygen",
    "util-linux": "unshare",
}

#: The release whose hypervisor, kernel and userland the lab runs. Xen 4.17 is what drops the first channel entry.
RELEASE = "bookworm"

HYPERVISOR = "xen-hypervisor-4.17-amd64"


def missing() -> list[str]:
    """Return the packages of NEEDED that this machine lacks."""
    return [package for package, program in NEEDED.items() if shutil.which(program, path=search_path()) is None]


def ensure(progress: Progress) -> None:
    """Install what is missing when we are root; otherwise LabError with the one line that would."""
    lacking = missing()
    if not lacking:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *lacking]
    if os.geteuid() != 0:
        raise LabError(f"the lab needs packages that are not here; as root: {' '.join(install)}")
    with step(progress, f"installing {' '.join(lacking)}"):
        try:
            run(install)
        except LabError:
            # A machine fresh from its image has no package lists, or lists too old to fetch by.
            run(["apt-get", "update"])
            run(install)


def ensure_lists(progress: Progress) -> None:
    """Fetch apt's package lists when there are none and we are root; otherwise LabError with the one line that would."""
    try:
        run(["apt-cache", "show", "--no-all-versions", HYPERVISOR])
    except LabError:
        if os.geteuid() != 0:
            raise LabError(f"apt's lists do not know {HYPERVISOR}; as root: apt-get update") from None
        with step(progress, "fetching apt's package lists"):
            run(["apt-get", "update"])


def mirror() -> str:
    """Return the address that this machine itself takes Debian's packages from."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for source in sources:
        if source.suffix in {".list", ".sources"} and source.is_file() and (address := mirror_in(source.read_text())):
            return address
    raise LabError(f"no apt source of Debian {RELEASE} in /etc/apt/sources.list or /etc/apt/sources.list.d")


def mirror_in(source: str) -> str | None:
    """Return the address that serves RELEASE's main archive in the text of one apt source file, or None."""
    for stanza in re.split(r"\n\s*\n", source):
        fields = dict(re.findall(r"^(\w+):[ \t]*(.*)$", stanza, re.MULTILINE))
        if RELEASE in fields.get("Suites", "").split() and fields.get("Enabled", "yes") != "no":
            return str(fields["URIs"]).split()[0]
    one_line = re.search(rf"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{RELEASE}\s", source, re.MULTILINE)
    return one_line.group(1) if one_line else None


def kernel_version() -> str:
    """Return the version of the kernel that linux-image-amd64 stands for today, such as 6.1.0-56-amd64."""
    depends = run(["apt-cache", "depends", "linux-image-amd64"])
    found = re.search(r"Depends: linux-image-(\d\S*)", depends)
    if not found:
        raise LabError("apt's lists know no kernel behind linux-image-amd64")
    return found.group(1)


def versions(packages: Sequence[str]) -> list[str]:
    """Return `name version` of each package as apt would fetch it today."""
    described = run(["apt-cache", "show", "--no-all-versions", *packages])
    return re.findall(r"^(?:Package|Version): .*$", described, re.MULTILINE)


def unpack(packages: Sequence[str], into: Path) -> None:
    """Fetch *packages* and unpack them below *into*; nothing is installed on this machine."""
    archives = into.with_name(f"{into.name}-archives")
    archives.mkdir()
    # As the superuser apt-get hands the download to an unprivileged user, who may not enter our directory.
    run(["apt-get", "download", "-o", "APT::Sandbox::User=root", *packages], cwd=archives)
    into.mkdir(exist_ok=True)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg-deb", "--extract", archive, into])
    shutil.rmtree(archives)
