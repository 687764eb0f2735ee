# SPDX-License-Identifier: Apache-2.0
"""What of this checkout goes into an image, and what makes a new image."""

from __future__ import annotations

import gzip
import lzma
import struct
from typing import TYPE_CHECKING

from lab import project
from lab.cache import key_of_tree
from lab.kernel import decompressed

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PYPROJECT = """\
[project]
dependencies = ["both>=1"]
[project.optional-dependencies]
guest = ["tty>=2"]
host = ["yaml>=3"]
"""


def checkout(top: Path) -> None:
    """A checkout with a little of everything."""
    for name in ("guest_agent/a.py", "lab/b.py", "tests/c.py", ".git/d", "guest_agent/__pycache__/a.pyc", "udev/e.rules"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "pyproject.toml").write_text(PYPROJECT)


def test_only_what_goes_into_the_wheel_makes_a_new_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "CHECKOUT", tmp_path)
    checkout(tmp_path)

    def key() -> str:
        return key_of_tree(tmp_path, project._sources())

    first = key()
    for name in ("lab/b.py", "tests/c.py", ".git/d", "guest_agent/__pycache__/a.pyc"):
        (tmp_path / name).write_text("changed")
        assert key() == first, name
    for name in ("guest_agent/a.py", "udev/e.rules", "pyproject.toml"):
        before = key()
        (tmp_path / name).write_text("changed")
        assert key() != before, name


def test_each_side_gets_its_own_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "CHECKOUT", tmp_path)
    checkout(tmp_path)
    assert project.requirements("guest") == ["both>=1", "tty>=2"]
    assert project.requirements("host") == ["both>=1", "yaml>=3"]


def test_wheels_for_newer_c_libraries_than_the_guests_are_not_taken() -> None:
    assert project.PLATFORMS[0] == "manylinux_2_36_x86_64"
    assert "manylinux_2_17_x86_64" in project.PLATFORMS
    assert "manylinux_2_37_x86_64" not in project.PLATFORMS


def bzimage(payload: bytes) -> bytes:
    """A kernel image whose header says where *payload* lies."""
    head = bytearray(3 * 512 + 100)
    head[0x1F1] = 2
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    return bytes(head) + payload + b"what follows"


def test_the_kernel_inside_a_compressed_image_comes_out() -> None:
    payload = lzma.compress(b"\x7fELF kernel") + struct.pack("<I", 11)
    assert decompressed(bzimage(payload)) == b"\x7fELF kernel"


def test_an_image_compressed_otherwise_stays_as_it_is() -> None:
    image = bzimage(gzip.compress(b"\x7fELF kernel"))
    assert decompressed(image) == image
