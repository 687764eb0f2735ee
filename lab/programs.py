# SPDX-License-Identifier: Apache-2.0
"""Start programs on this machine: argument lists, no shell, and an error that carries what they printed."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from lab.errors import LabError, tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Debian keeps administrators' programs here, which an ordinary user's PATH may lack.
_SYSTEM_PROGRAMS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path() -> str:
    """Return the PATH that programs of the lab are looked up in."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PROGRAMS])


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> str:
    """Run *argv* to its end and return what it printed; LabError with the output's tail when it fails."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={
                **os.environ,
                "PATH": search_path(),
                "LC_ALL": "C",
                "DEBIAN_FRONTEND": "noninteractive",
                **(environment or {}),
            },
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"there is no program {words[0]} on this machine") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise LabError(f"{' '.join(words[:6])} … ended with status {done.returncode}:\n{tail(output)}")
    return output
