# SPDX-License-Identifier: Apache-2.0
"""Lines of authorized_keys: what is kept of a good one, and what a bad one is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.ssh_key import MAX_LINE_BYTES, SshKey
from tests.protocol.blocks import Case, read

GOOD = read("ssh-keys-good")


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_line_is_kept_in_one_form(case: Case) -> None:
    key = SshKey(case["line"])
    assert key == case["kept"]
    assert SshKey(key) == key
    assert len(key) <= MAX_LINE_BYTES
    parsed = key.parsed
    assert " ".join(part for part in parsed if part) == key
    assert parsed.kind in key


@pytest.mark.parametrize("case", read("ssh-keys-bad"), ids=str)
def test_a_bad_line_is_refused_with_what_is_wrong(case: Case) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        SshKey(case.raw("line").decode("utf-8"))
    assert case["problem"] in str(caught.value)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@given(st.text(max_size=300))
def test_no_text_makes_anything_but_a_key_or_a_value_error(text: str) -> None:
    try:
        key = SshKey(text)
    except ValueError:
        return
    assert "\n" not in key


@given(st.sampled_from([case["line"] for case in GOOD]), st.integers(0, 500), st.characters())
def test_one_character_changed_makes_a_key_on_one_line_or_a_value_error(line: str, at: int, character: str) -> None:
    at %= len(line)
    try:
        key = SshKey(line[:at] + character + line[at + 1 :])
    except ValueError:
        return
    assert key.isprintable()
    assert key.isascii()


def test_the_same_key_under_two_comments_has_one_blob() -> None:
    one, two = SshKey(GOOD[0]["line"] + " a"), SshKey(GOOD[0]["line"] + " b")
    assert one != two
    assert one.parsed.blob == two.parsed.blob
