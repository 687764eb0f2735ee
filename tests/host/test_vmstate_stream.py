# SPDX-License-Identifier: Apache-2.0
"""The bundle of VM state: byte for byte QEMU's, and nothing else is one."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.qemu.vmstate_stream import (
    MAX_BUNDLE_BYTES,
    MAX_ID_BYTES,
    MAX_PARTS,
    MAX_STATE_BYTES,
    BadBundle,
    Part,
    decode,
    encode,
)

_IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
PARTS = st.lists(st.builds(Part, _IDS, st.binary(max_size=200)), max_size=6, unique_by=lambda part: part.id)


def number(value: int) -> bytes:
    """As it stands in a bundle."""
    return struct.pack(">I", value)


def counted(data: bytes) -> bytes:
    """With its length before it."""
    return number(len(data)) + data


def test_it_is_byte_for_byte_what_qemu_writes() -> None:
    parts = [Part("idA", b"\0\1state"), Part("org.example.b", b"")]
    written = b"\0\0\0\2\0\0\0\3idA\0\0\0\7\0\1state\0\0\0\x0dorg.example.b\0\0\0\0"
    assert encode(parts) == written
    assert decode(written) == parts
    assert encode([]) == b"\0\0\0\0"


@given(PARTS)
def test_what_was_written_is_read_and_has_one_form(parts: list[Part]) -> None:
    written = encode(parts)
    assert decode(written) == parts
    assert encode(decode(written)) == written


@given(PARTS, st.data())
def test_a_bundle_that_is_cut_or_goes_on_is_none(parts: list[Part], data: st.DataObject) -> None:
    written = encode(parts)
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(BadBundle, match="ends inside"):
        decode(written[:cut])
    with pytest.raises(BadBundle, match="2 bytes follow its last part"):
        decode(written + b"\0x")


def test_zeros_may_follow_as_they_do_where_qemu_wrote_it() -> None:
    parts = [Part("idA", b"state\0\0")]
    assert decode(encode(parts) + bytes(1000)) == parts


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_is_a_bundle(garbage: bytes) -> None:
    with suppress(BadBundle):
        written = encode(decode(garbage))
        assert written + bytes(len(garbage) - len(written)) == garbage


def test_exactly_what_qemu_takes_fits_and_one_more_byte_does_not() -> None:
    parts = [Part("a" * MAX_ID_BYTES, bytes(MAX_STATE_BYTES))]
    assert decode(encode(parts)) == parts
    with pytest.raises(BadBundle, match="its state has 1,048,577 bytes; QEMU takes 1,048,576"):
        encode([Part("a", bytes(MAX_STATE_BYTES + 1))])
    with pytest.raises(BadBundle, match="cannot be an id"):
        encode([Part("a" * (MAX_ID_BYTES + 1), b"")])


def test_the_largest_bundle_is_as_long_as_its_bound_says() -> None:
    parts = [Part(f"{number:0{MAX_ID_BYTES}}", bytes(MAX_STATE_BYTES)) for number in range(MAX_PARTS)]
    assert 2 * len(encode(parts)) == MAX_BUNDLE_BYTES
    with pytest.raises(BadBundle, match="65 parts, of at most 64"):
        encode([Part(str(number), b"") for number in range(MAX_PARTS + 1)])


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_what_qemu_would_not_take_for_an_id_is_none(name: str) -> None:
    with pytest.raises(BadBundle):
        encode([Part(name, b"")])


@pytest.mark.parametrize(
    ("bundle", "why"),
    [
        (number(2**32 - 1), "4,294,967,295 parts, of at most 64"),
        (number(1) + number(2**31), "the id of part 1 has 2,147,483,648 bytes, of at most 255"),
        (number(1) + counted(b"a") + number(2**32 - 1), "the state of part 1 has 4,294,967,295 bytes"),
        (number(1) + counted(b"") + counted(b"x"), "cannot be an id"),
        (number(1) + counted(b"a\0") + counted(b"x"), "cannot be an id"),
        (number(1) + counted(b"\xff\x1b") + counted(b"x"), "the id of part 1 is no text"),
        (number(2) + 2 * (counted(b"a") + counted(b"x")), "two programs have the id a"),
        (number(2) + counted(b"a") + counted(b"x"), "it ends inside the length of the id of part 2"),
    ],
)
def test_a_hostile_bundle_is_refused_in_one_printable_sentence(bundle: bytes, why: str) -> None:
    with pytest.raises(BadBundle) as refused:
        decode(bundle)
    assert why in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_parts_state_is_not_shown_with_it() -> None:
    assert "secret" not in repr(Part("a", b"secret"))
