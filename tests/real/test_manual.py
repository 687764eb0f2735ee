# SPDX-License-Identifier: Apache-2.0
"""mandoc finds nothing to say against our man pages. Needs Debian's mandoc."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs/man").glob("man*/*"))


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_mandoc_warns_of_nothing(page: Path) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.fail("mandoc is missing; on Debian: apt-get install mandoc")
    done = subprocess.run([mandoc, "-T", "lint", "-W", "warning", str(page)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
