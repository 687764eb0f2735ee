# SPDX-License-Identifier: Apache-2.0
"""What `serve` sees to before it begins: directories that nobody else decides about, and descriptors enough."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import TYPE_CHECKING

from host_agent.errors import shown
from host_agent.files import check_writers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def check_directories(directories: Sequence[Path]) -> None:
    """Raise `BadFile` where others than root decide what VMs become, by their documents, or where we connect."""
    for directory in directories:
        check_writers(directory, f"; cure: mkdir -m 700 {shown(directory)}")


def allow_many_files() -> None:
    """Take as many descriptors as we may have: each VM needs one, and a login shell's soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # systemd's filter forbids it, and has set the limit itself
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
