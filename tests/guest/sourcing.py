# SPDX-License-Identifier: Apache-2.0
"""What may stand in a file that a shell sources, and what a shell makes of one."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: An assignment of a word, or of several in quotes; or a line of ip's words. Nothing else may come out.
ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=(?:[A-Za-z0-9.:/_-]+|'[A-Za-z0-9.:/_=,+ -]*')", re.ASCII)
WORDS = re.compile(r"[A-Za-z0-9.:/_-]+(?: [A-Za-z0-9.:/_-]+)*", re.ASCII)


def sourced(path: Path, text: str) -> dict[str, str]:
    """The variables that a shell with nothing to run has when it has read *text*."""
    path.write_text(text)
    shown = "PATH=/nowhere; . \"$1\"; set"
    done = subprocess.run(["/bin/sh", "-euc", shown, "sh", path], env={}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if re.match("[A-Z][A-Z0-9_]*=", line))
    shells_own = {"PATH", "PWD", "OLDPWD", "IFS", "OPTIND", "PPID", "PS1", "PS2", "PS4"}
    return {key: value.strip("'") for key, value in found.items() if key not in shells_own}
