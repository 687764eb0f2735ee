# SPDX-License-Identifier: Apache-2.0
"""QEMU 10, from Debian's backports: fetched by apt, unpacked beside the lab's builds, and installed nowhere."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from lab.cache import Cache, default_directory, key_of
from lab.packages import RELEASE, mirror
from lab.programs import run
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.progress import Progress

_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")


def unpacked_tree(progress: Progress) -> Path:
    """Return the directory that they are unpacked in, with the libraries that this machine lacks; LabError without a mirror.

    The machine's own packages and apt's own lists stay as they are, and nobody needs to be root.
    """
    # Another set of installed packages may lack another library, so it has a tree of its own.
    installed = sorted(run(["dpkg-query", "--show", "--showformat", "${Package}\n"]).split())
    cache = Cache(default_directory() / "qemu", progress)
    with cache.locked():
        return cache.layer("backports", key_of(RELEASE, _PACKAGES, installed), lambda into: _fetch(into, progress))


def _fetch(into: Path, progress: Progress) -> None:
    """Fill *into* with what apt would install or upgrade for these packages."""
    apt = into / "apt"
    options = _options(apt)
    with step(progress, "fetching QEMU 10 from Debian's backports"):
        run(["apt-get", *options, "update"])
        wanted = _wanted(run(["apt-get", *options, "--simulate", "--no-install-recommends", "install", *_PACKAGES]))
        run(["apt-get", *options, "download", *wanted], cwd=apt)
        for archive in sorted(apt.glob("*.deb")):
            run(["dpkg-deb", "--extract", archive, into])
    shutil.rmtree(apt)


def _options(apt: Path) -> Sequence[str]:
    """Make *apt* a state of apt's own, with this machine's mirror, its backports first; return what tells apt-get to use it."""
    for name in ("lists/partial", "archives/partial"):
        (apt / name).mkdir(parents=True)
    sources = apt / "sources.list"
    sources.write_text("".join(f"deb {mirror()} {suite} main\n" for suite in (f"{RELEASE}-backports", RELEASE)))
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt,
        "APT::Default-Release": f"{RELEASE}-backports",
        "APT::Sandbox::User": "root",  # else the superuser's apt-get downloads as a user who may not enter our directory
        "Acquire::Languages": "none",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _wanted(simulated: str) -> Sequence[str]:
    """Return ``name=version`` of each package that apt-get would install."""
    found = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", simulated, re.MULTILINE)
    return [f"{name}={version}" for name, version in found]
