# SPDX-License-Identifier: Apache-2.0
"""The page as a file for node exporter's textfile collector: whole at any time, for all to read, and gone with the service."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from host_agent.errors import BadFile, shown
from host_agent.files import PUBLIC_FILE, write_whole

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Never

    from host_agent.metrics.page import Page

log = logging.getLogger("pv-host-agent")

#: node exporter reads no other files.
SUFFIX: Final = ".prom"


def check(path: Path) -> None:
    """Raise `BadFile` where there cannot be such a file at *path*."""
    name, directory = shown(path), path.absolute().parent
    if path.suffix != SUFFIX:
        raise BadFile(f"{name}: node exporter reads no other files than *{SUFFIX}; cure: --metrics-file {name}{SUFFIX}")
    if not directory.is_dir():
        raise BadFile(f"{shown(directory)}: no such directory; cure: mkdir, or the one that node exporter was told to read")
    if not os.access(directory, os.W_OK):
        raise BadFile(f"{shown(directory)}: cannot be written to; cure: ReadWritePaths={shown(directory)} in the unit")


class TextFile:
    """At *path*, written anew *every* so many seconds."""

    def __init__(self, path: Path, every: float) -> None:
        self._path, self._every = path, every
        self._complaint = ""

    async def keep(self, page: Page) -> Never:
        """Write *page* until cancelled, and then remove the file: what it says is not true any more."""
        try:
            while True:
                self._write(await page.text())
                await asyncio.sleep(self._every)
        finally:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _write(self, text: bytes) -> None:
        """Write it, and say once why it cannot be written."""
        complaint = ""
        try:
            write_whole(self._path, text, PUBLIC_FILE, durable=False)
        except OSError as exc:
            complaint = f"{shown(self._path)}: the metrics cannot be written there: {exc.strerror}"
        if complaint and complaint != self._complaint:
            log.error("%s", complaint)
        self._complaint = complaint
