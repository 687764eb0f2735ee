# SPDX-License-Identifier: Apache-2.0
"""A Debian to change: a tree that is built once, under an overlay that ends with the test. And what xenstored runs without."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.cache import Cache, default_directory
from lab.debian import cloud_init_tree
from lab.progress import silent
from tests.real.xenstored import without_a_hypervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def no_hypervisor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What xenstored is started with where there is none."""
    return without_a_hypervisor(tmp_path_factory.mktemp("preload"))


@pytest.fixture(scope="session")
def debian_tree() -> Path:
    """A Debian with cloud-init, locales and ca-certificates, which nobody changes. Needs root and debootstrap."""
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    cache = Cache(default_directory(), silent)
    with cache.locked():
        return cloud_init_tree(cache, silent)


@pytest.fixture
def debian(debian_tree: Path, tmp_path: Path) -> Iterator[Path]:
    """A machine made from it."""
    places = {name: tmp_path / name for name in ("upper", "work", "root")}
    for place in places.values():
        place.mkdir()
    layers = f"lowerdir={debian_tree},upperdir={places['upper']},workdir={places['work']}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(places["root"])], check=True)
    try:
        yield places["root"]
    finally:
        subprocess.run(["umount", str(places["root"])], check=True)
