# SPDX-License-Identifier: Apache-2.0
"""The table of limits in SECURITY.md names what the code has."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from host_agent.channels.descriptors import LEFT_FREE
from host_agent.documents.directory import MAX_FILES
from host_agent.ledger.schema import AUDITS_KEPT, EVENTS_KEPT, MOMENTS_KEPT, RUNS_KEPT
from host_agent.log import teller
from host_agent.log.journal import MAX_WAITING_BYTES
from host_agent.talk import machine, streams
from host_agent.talk.confirm import ATTEMPTS_AT_ONCE, BETWEEN_LOOKS_SECONDS, COMMANDS_AT_ONCE
from host_agent.talk.conversation import SOON
from host_agent.talk.drive import READ_BYTES
from host_agent.talk.intake import BURST_BYTES, BYTES_PER_SECOND
from pv_channel.line import MAX_LINE_BYTES
from pv_channel.messages import (
    MAX_DETAIL,
    MAX_DOCUMENT_BYTES,
    MAX_GUEST_MESSAGE_BYTES,
    MAX_ITEMS,
    MAX_LOG_LINE,
    MAX_LOG_LINES,
)
from pv_channel.transport import HOST_FLOW

TOP = Path(__file__).parents[2]
PAGE = (TOP / "SECURITY.md").read_text("utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([a-z_/]+\.py)`: ((?:`\w+`(?:, )?)+) \|$", PAGE, re.MULTILINE)
KIB = 1024
SAID = [
    f"{MAX_LINE_BYTES:,} bytes",
    f"{MAX_GUEST_MESSAGE_BYTES // KIB} KiB",
    f"{MAX_DOCUMENT_BYTES // KIB // KIB} MiB",
    f"{HOST_FLOW.in_flight_bytes // KIB} KiB",
    f"{READ_BYTES // KIB} KiB",
    f"{BURST_BYTES // KIB} KiB, then {BYTES_PER_SECOND // KIB} KiB a second",
    f"{SOON.burst}, then one in {SOON.seconds_each:g} s",
    f"{streams.SLICE_SECONDS * 1000:g} ms",
    f"one at a time, {BETWEEN_LOOKS_SECONDS:g} s apart",
    f"{teller.BURST}, then one in {teller.SECONDS_PER_LINE:g} s; each of 600 characters",
    f"{machine.BURST}, then one in {machine.SECONDS_EACH / 60:g} min",
    f"{EVENTS_KEPT}, {AUDITS_KEPT}, {RUNS_KEPT}, {MOMENTS_KEPT}",
    f"{MAX_ITEMS}; {MAX_DETAIL} characters; {MAX_LOG_LINES} lines of {MAX_LOG_LINE}",
    f"{MAX_FILES:,}",
    f"{ATTEMPTS_AT_ONCE} and {COMMANDS_AT_ONCE} at once; the others wait in line",
    f"what the unit's `LimitNOFILE=` says; {LEFT_FREE} of them, at most a quarter, are not VMs'",
    f"{MAX_WAITING_BYTES // KIB // KIB} MiB; the rest is counted",
]


@pytest.mark.parametrize("said", SAID)
def test_a_limit_is_what_the_table_says(said: str) -> None:
    assert said in [limit for _, limit, _, _ in ROWS]


@pytest.mark.parametrize(("path", "names"), [(path, names) for _, _, path, names in ROWS])
def test_each_limit_has_its_name_in_the_code(path: str, names: str) -> None:
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert all(hasattr(module, name) for name in re.findall(r"\w+", names))


def test_the_tables_are_read_whole() -> None:
    assert len(ROWS) == len(SAID) + 1  # the deadlines are many
