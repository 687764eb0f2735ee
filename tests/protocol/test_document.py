# SPDX-License-Identifier: Apache-2.0
"""Documents: what parses says the same when it is sent, what does not names the path in it and what was expected."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.accounts import MAX_KEYS
from pv_channel.document import from_values, parse
from pv_channel.errors import BadDocument
from pv_channel.messages import MAX_DOCUMENT_BYTES
from tests.protocol.blocks import Case, read

GOOD = read("documents-good")
BAD = read("documents-bad")


def raw_of(case: Case) -> bytes:
    return case.raw("json") if "json-hex" in case else case["json"].encode("utf-8")


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_document_is_sent_as_it_was_parsed(case: Case) -> None:
    document = parse(raw_of(case))
    assert parse(document.encode()) == document
    assert parse(document.encode()).digest() == document.digest()
    assert from_values(json.loads(case["json"])) == document


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_document_names_the_path_and_the_problem(case: Case) -> None:
    with pytest.raises(BadDocument) as caught:
        parse(raw_of(case))
    assert caught.value.path == case["path"]
    assert case["problem"] in caught.value.problem
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
    assert len(str(caught.value)) <= 600


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_another_generation_changes_the_digest_of_no_document(case: Case) -> None:
    document = parse(raw_of(case))
    assert document.at_generation(99).digest() == document.digest()
    assert document.at_generation(99).generation == 99


def test_each_good_document_has_a_digest_of_its_own() -> None:
    same = ("white space and another order", "the highest generation")
    digests = [parse(raw_of(case)).digest() for case in GOOD if case["case"] not in same]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 32 for digest in digests)


def test_a_document_of_one_byte_too_many_is_refused_unread() -> None:
    small = b'{"instance-id":"i-1"'
    for extra, good in ((0, True), (1, False)):
        raw = small + b" " * (MAX_DOCUMENT_BYTES - len(small) - 1 + extra) + b"}"
        if good:
            assert parse(raw).instance_id == "i-1"
        else:
            with pytest.raises(BadDocument, match="1048576"):
                parse(raw)


@pytest.mark.parametrize("field", ["instance-id", "local-hostname", "fqdn", "uuid", "nonsense"])
def test_a_mebibyte_of_text_in_a_field_makes_a_short_refusal_soon(field: str) -> None:
    values = {"instance-id": "i-1", field: "x" * 1_000_000}
    began = time.monotonic()
    with pytest.raises(BadDocument) as caught:
        parse(json.dumps(values).encode())
    assert len(str(caught.value)) < 500
    assert time.monotonic() - began < 5


def test_a_mapping_of_ten_thousand_names_makes_a_refusal_soon() -> None:
    ethernets: dict[str, Any] = {f"e{number}": {"dhcp4": True} for number in range(10_000)}
    values = {"instance-id": "i-1", "network": {"version": 2, "ethernets": ethernets}}
    began = time.monotonic()
    with pytest.raises(BadDocument, match="ethernets"):
        parse(json.dumps(values).encode())
    assert time.monotonic() - began < 5


def test_refusing_a_document_leaves_the_values_as_they_were() -> None:
    values = {"instance-id": "i-1", "network": {"version": 2, "ethernets": {"a": {}, "b": {"mtu": 1}, "c": {}}}}
    before = json.dumps(values)
    with pytest.raises(BadDocument):
        from_values(values)
    assert json.dumps(values) == before


def test_values_that_yaml_makes_and_json_cannot_are_refused() -> None:
    loop: dict[str, Any] = {"instance-id": "i-1"}
    loop["network"] = {"version": 2, "ethernets": {"eth0": loop}}
    for values in (
        loop,
        {1: 2},
        {"instance-id": b"i-1"},
        {"instance-id": "i-1", "network": {"version": 2, "ethernets": {7: {}}}},
        {"instance-id": "i-1", "network": {"version": 2, "ethernets": {None: {"mtu": 1}}}},
        None,
        "text",
        {"instance-id": float("nan")},
    ):
        with pytest.raises(BadDocument):
            from_values(values)


def test_the_most_keys_a_user_may_have_are_taken() -> None:
    key = next(case["line"] for case in read("ssh-keys-good"))
    document = from_values({"instance-id": "i-1", "ssh_authorized_keys": [key] * MAX_KEYS})
    assert isinstance(document.ssh_authorized_keys, list)
    assert len(document.ssh_authorized_keys) == MAX_KEYS


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
NAMES = (
    "instance-id generation local-hostname fqdn uuid users name network version ethernets addresses routes to via mtu"
    " match macaddress nameservers search ssh_authorized_keys eth0 [...] a.b $`"
)
names = st.sampled_from(NAMES.split())
keys = st.one_of(names, st.text(max_size=5))
anything = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, anything, max_size=6))
def test_no_values_make_anything_but_a_document_or_a_bad_document(values: dict[str, Any]) -> None:
    with suppress(BadDocument):
        from_values({"instance-id": "i-1", **values})


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_document_or_a_bad_document(data: bytes) -> None:
    with suppress(BadDocument):
        parse(data)


@settings(max_examples=200)
@given(st.sampled_from(GOOD), st.integers(0, 3000), st.binary(min_size=1, max_size=4))
def test_a_few_bytes_changed_make_a_document_or_a_bad_document(case: Case, at: int, value: bytes) -> None:
    raw = raw_of(case)
    at %= len(raw)
    with suppress(BadDocument):
        parse(raw[:at] + value + raw[at + len(value) :])
