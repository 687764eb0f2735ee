# SPDX-License-Identifier: Apache-2.0
"""The tests on real Xen run once more where the emulator broke, and never where the product did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]


def run(tmp_path: Path, error: str) -> subprocess.CompletedProcess[str]:
    """pytest over a test that raises *error* whenever it finds no file, and makes one each time."""
    (tmp_path / "conftest.py").write_text("from tests.xen.conftest import pytest_runtest_protocol\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "from lab.errors import EmulatorFault, LabError\n"
        "def test_it():\n"
        "    mark = Path(__file__).with_name('ran')\n"
        "    if not mark.exists():\n"
        "        mark.touch()\n"
        f"        raise {error}('it broke')\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


def test_a_test_under_which_the_emulator_broke_runs_again_and_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "EmulatorFault")
    assert done.returncode == 0, done.stdout
    assert "the emulator broke under test_it" in done.stdout
    assert "1 passed" in done.stdout


def test_a_test_that_fails_for_any_other_reason_stays_failed(tmp_path: Path) -> None:
    done = run(tmp_path, "LabError")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
