# SPDX-License-Identifier: Apache-2.0
"""The registry of channel names: our own file, and files that are wrong."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel import CHANNEL_NAME
from pv_channel.errors import LocalError
from pv_channel.greeting import channel_name
from pv_channel.registry import Record, claim, parse

OURS = (Path(__file__).parents[2] / "channel-registry.txt").read_text("ascii")
RECORD = "    N: a\n    C: b\n    D: c\n"


def test_our_registry_has_our_channel_and_names_that_can_be_channels() -> None:
    records = parse(OURS)
    assert CHANNEL_NAME in [record.name for record in records]
    for record in records:
        assert channel_name(record.name)


def test_a_description_goes_on_in_the_next_line() -> None:
    assert parse(RECORD + "       more\n       still\n") == [Record("a", "b", "c more still")]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "#\n\n#\n"])
def test_a_file_without_records_has_none(text: str) -> None:
    assert parse(text) == []


def test_records_end_at_blank_lines_and_the_end() -> None:
    text = RECORD + "\n\n" + RECORD.replace("N: a", "N: z").rstrip("\n")
    assert [record.name for record in parse(text)] == ["a", "z"]


@pytest.mark.parametrize(
    "text",
    [
        "N: a\n",
        RECORD.replace("    N", "   N"),
        RECORD.replace("    N", "\tN"),
        RECORD + "    X: y\n",
        RECORD + "    N: again\n",
        "       a continuation of nothing\n",
        "    N: a\n    C: b\n",
        "    C: b\n    D: c\n",
        "    N: \n" + RECORD,
        RECORD + "      six\n",
        RECORD + "\n" + RECORD,
    ],
)
def test_what_is_no_registry_is_a_local_error(text: str) -> None:
    with pytest.raises(LocalError):
        parse(text)


def test_another_application_s_channel_is_not_ours_to_claim() -> None:
    records = parse(OURS)
    claim(records, CHANNEL_NAME)
    claim(records, "org.example.unregistered")
    with pytest.raises(LocalError, match="belongs to another application"):
        claim(records, "org.qemu.guest_agent.0")


@given(st.text(max_size=200))
def test_no_text_makes_anything_but_records_or_a_local_error(text: str) -> None:
    with suppress(LocalError):
        parse(text)
