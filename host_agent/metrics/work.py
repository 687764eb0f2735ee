# SPDX-License-Identifier: Apache-2.0
"""Measuring, beside the service: the loop watched, the page written to its file and served over HTTP, as `serve` was asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from host_agent.durations import Durations
from host_agent.metrics import lag, text_file
from host_agent.metrics.endpoint import Endpoint
from host_agent.metrics.log_lines import LogLines
from host_agent.metrics.of_process import OfProcess
from host_agent.metrics.page import Page

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.metrics.loopback import Address
    from host_agent.served import Dom0


class Metrics:
    """To *file*, *every* so many seconds, and at the address *listen*, where these are given; *per_vm* is of every VM, too.

    Raise `HostError` where one of them cannot be.
    """

    def __init__(self, file: Path | None, every: float, listen: Address | None, *, per_vm: bool) -> None:
        if file is not None:
            text_file.check(file)
        self._file = None if file is None else text_file.TextFile(file, every)
        self._endpoint = None if listen is None else Endpoint(listen)
        self._per_vm = per_vm
        self._lag, self._lines = Durations(), LogLines()

    async def measure(self, dom0: Dom0) -> None:
        """Until cancelled."""
        page = Page(dom0, OfProcess(self._lag, self._lines), per_vm=self._per_vm)
        with self._lines.counted():
            async with asyncio.TaskGroup() as works:
                works.create_task(lag.watch(self._lag))
                if self._file is not None:
                    works.create_task(self._file.keep(page))
                if self._endpoint is not None:
                    works.create_task(self._endpoint.serve(page))
