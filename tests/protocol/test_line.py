# SPDX-License-Identifier: Apache-2.0
"""One line: what parses, what does not, and how lines are found in a stream of anything."""

from __future__ import annotations

import re
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.errors import Malformed
from pv_channel.line import (
    GUEST_SPEAKS,
    HOST_SPEAKS,
    MAX_LINE_BYTES,
    MAX_SEQUENCE,
    NO_SESSION,
    Line,
    LineReader,
    finish,
    header,
    parse,
    payload_room,
)
from tests.protocol.blocks import Case, read
from tests.protocol.ends import chop, cooked

ids = st.one_of(st.just(NO_SESSION), st.from_regex(rb"[A-Za-z0-9_-]{8}", fullmatch=True))
numbers = st.integers(0, MAX_SEQUENCE)
GOOD = read("lines-good")


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_line_is_its_parts_and_made_of_them_again(case: Case) -> None:
    raw = case["line"].encode("ascii")
    line = parse(raw)
    assert line.direction.decode() == case["direction"]
    assert (line.host.decode(), line.guest.decode()) == (case["host"], case["guest"])
    assert (f"{line.sequence:x}", f"{line.acknowledgement:x}") == (case["sequence"], case["acknowledgement"])
    assert line.payload == case.raw("payload")
    head = header(line.direction, line.host, line.guest, line.sequence, line.acknowledgement)
    assert head == line.header
    assert finish(head, line.payload) == raw + b"\n"


@pytest.mark.parametrize("case", read("lines-bad"), ids=str)
def test_what_is_no_line_is_malformed(case: Case) -> None:
    with pytest.raises(Malformed):
        parse(case.raw("line"))


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_line_with_any_byte_changed_is_malformed(case: Case) -> None:
    raw = case["line"].encode("ascii")[:200] if len(case["line"]) < 200 else case["line"].encode("ascii")
    for position in range(0, len(raw), 1 + len(raw) // 150):
        for flip in (1, 2, 0x20, 0x80):
            changed = bytearray(raw)
            changed[position] ^= flip
            with pytest.raises(Malformed):
                parse(bytes(changed))


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_carriage_return_that_a_tty_added_changes_nothing(case: Case) -> None:
    raw = case["line"].encode("ascii")
    assert parse(raw + b"\r") == parse(raw)


@given(st.sampled_from([HOST_SPEAKS, GUEST_SPEAKS]), ids, ids, numbers, numbers, st.binary(max_size=200))
def test_every_line_that_is_made_parses_to_what_it_was_made_of(
    direction: bytes, host: bytes, guest: bytes, sequence: int, acknowledgement: int, payload: bytes
) -> None:
    head = header(direction, host, guest, sequence, acknowledgement)
    made = finish(head, payload)
    assert parse(made[:-1]) == Line(head, direction, host, guest, sequence, acknowledgement, payload)
    assert re.fullmatch(rb"[ -~]+\n", made)


@given(numbers, numbers, st.integers(100, MAX_LINE_BYTES))
def test_a_payload_of_the_room_there_is_makes_a_line_that_fits(sequence: int, acknowledgement: int, size: int) -> None:
    head = header(HOST_SPEAKS, NO_SESSION, NO_SESSION, sequence, acknowledgement)
    room = payload_room(head, size)
    assert len(finish(head, bytes(room))) <= size
    assert len(finish(head, bytes(room + 3))) > size
    assert payload_room(head, 10) == 0


@given(st.binary(max_size=200))
def test_garbage_is_a_line_or_malformed_and_nothing_else(data: bytes) -> None:
    with suppress(Malformed):
        parse(data)


STREAMS = [
    (b"", [], 0),
    (b"\n", [], 0),
    (b"\n\n\n", [], 0),
    (b"one\n", [b"one"], 0),
    (b"one\ntwo\n", [b"one", b"two"], 0),
    (b"no newline", [], 0),
    (b"\r\n", [b"\r"], 0),
    (b"x" * (MAX_LINE_BYTES - 1) + b"\nlast\n", [b"x" * (MAX_LINE_BYTES - 1), b"last"], 0),
    (b"x" * MAX_LINE_BYTES + b"\nlast\n", [b"last"], 1),
    (b"x" * 10_000 + b"\nlast\n" + b"y" * 10_000, [b"last"], 2),
    (b"\0\xff\n>\n", [b"\0\xff", b">"], 0),
]


@pytest.mark.parametrize(("stream", "lines", "overlong"), STREAMS)
@pytest.mark.parametrize("size", [1, 2, 7, 1899, 1900, 1901, 1 << 20])
@pytest.mark.parametrize("tail", [b"", b"the start of ano"])
def test_lines_are_found_however_the_stream_is_cut(
    stream: bytes, lines: list[bytes], overlong: int, size: int, tail: bytes
) -> None:
    reader = LineReader()
    found = [line for piece in chop(stream + tail, size) for line in reader.feed(piece)]
    assert found == lines
    assert reader.overlong == overlong


middles = st.sampled_from([b"", b"\n", b"x" * 1890, b"x" * 1900])


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20), middles)
def test_no_cut_finds_other_lines(stream: bytes, sizes: list[int], middle: bytes) -> None:
    stream = stream + middle + stream
    whole, cut = LineReader(), LineReader()
    found = []
    rest = stream
    for size in sizes:
        found += cut.feed(rest[:size])
        rest = rest[size:]
    found += cut.feed(rest)
    assert found == whole.feed(stream)
    assert cut.overlong == whole.overlong


def test_garbage_before_a_leading_newline_costs_no_line() -> None:
    good = b"\n" + finish(header(HOST_SPEAKS, NO_SESSION, NO_SESSION, 0, 0), b"")
    for garbage in (b"AT", b"\0\0\0", b"x" * 5000, b"> half a li", cooked(good)[:-3]):
        assert LineReader().feed(garbage + good)[-1] == good[1:-1]


def test_ten_megabytes_without_a_newline_are_not_kept() -> None:
    reader = LineReader()
    piece = b"x" * 4096
    tracemalloc.start()
    try:
        for _ in range(10 * 1024 * 1024 // len(piece)):
            assert reader.feed(piece) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    assert reader.overlong == 1
    assert reader.feed(b"\nline\n") == [b"line"]
