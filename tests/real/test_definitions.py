# SPDX-License-Identifier: Apache-2.0
"""README's definitions of a guest are such to libvirt's schema and to xl's own parser.

Needs Debian's libvirt-clients and libxenmisc4.17.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from ctypes.util import find_library
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_libvirt_takes_its_definition(tmp_path: Path) -> None:
    program = shutil.which("virt-xml-validate")
    if program is None:
        pytest.fail("virt-xml-validate is missing; on Debian: apt-get install libvirt-clients")
    (text,) = re.findall(r"^```xml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    path = tmp_path / "web1.xml"
    path.write_text(text)
    done = subprocess.run([program, path, "domain"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_xls_parser_takes_its_definition_and_finds_both_channels(tmp_path: Path) -> None:
    name = find_library("xlutil")
    if name is None:
        pytest.fail("libxlutil is missing; on Debian: apt-get install libxenmisc4.17")
    (text,) = re.findall(r'^```\n(name +=.*?)^```', README, re.DOTALL | re.MULTILINE)
    path = tmp_path / "web1.cfg"
    path.write_text(text)
    library, c = ctypes.CDLL(name), ctypes.CDLL(None)
    library.xlu_cfg_init.restype = c.fopen.restype = ctypes.c_void_p
    library.xlu_cfg_get_listitem.restype = ctypes.c_char_p
    library.xlu_cfg_get_listitem.argtypes = [ctypes.c_void_p, ctypes.c_int]
    config = ctypes.c_void_p(library.xlu_cfg_init(ctypes.c_void_p(c.fopen(b"/dev/stderr", b"w")), b"web1.cfg"))
    assert library.xlu_cfg_readfile(config, str(path).encode()) == 0
    channels, count = ctypes.c_void_p(), ctypes.c_int()
    assert library.xlu_cfg_get_list(config, b"channel", ctypes.byref(channels), ctypes.byref(count), 0) == 0
    entries = [library.xlu_cfg_get_listitem(channels, number).decode() for number in range(count.value)]
    assert [entry.split(",")[:2] for entry in entries] == [
        ["connection=pty", "name=org.example.unused"],
        ["connection=socket", "name=org.pvchannel.config.1"],
    ]
