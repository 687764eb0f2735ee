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
from pv_channel.document import ITEMS, from_values, parse
from pv_channel.errors import BadDocument
from pv_channel.messages import MAX_DOCUMENT_BYTES
from tests.protocol.blocks import Case, read
from tests.protocol.documents import documents

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
    same = (
        "white space and another order",
        "the highest generation",
        "a change that nobody confirms",
        "a change that a connection confirms, of which the guest is told the time",
    )
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


@settings(max_examples=200, deadline=None)
@given(documents)
def test_what_is_sent_parses_to_the_same_document(values: dict[str, Any]) -> None:
    document = from_values(values)
    again = parse(document.encode())
    assert again == document
    assert again.encode() == document.encode()
    assert again.digest() == document.digest()


@settings(max_examples=200, deadline=None)
@given(documents, documents)
def test_two_documents_have_one_digest_exactly_where_they_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    aside = {"generation": 7, "confirm": {}}
    first, second = from_values({**one, **aside}), from_values({**other, **aside})
    assert (first == second) == (first.digest() == second.digest())
    assert from_values(one).digest() == first.digest()


@settings(max_examples=200, deadline=None)
@given(documents, st.data())
def test_a_document_without_one_field_is_another(values: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(values)))
    fewer = {field: value for field, value in values.items() if field != name}
    if name == "instance-id":
        with pytest.raises(BadDocument, match="missing required field `instance-id`"):
            from_values(fewer)
    else:
        whole, less = from_values(values), from_values(fewer)
        assert (whole == less) == (whole.encode() == less.encode())
        assert name not in ("generation", "confirm") or whole.digest() == less.digest()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"path": "/etc/a"}, {"path": "/etc/a", "owner": "root:root", "permissions": "0644", "encoding": "text/plain"}),
        ({"path": "/etc/a", "permissions": "0600"}, {"path": "/etc/a", "permissions": "600", "content": "", "absent": False}),
    ],
)
def test_a_default_that_is_said_is_the_same_as_one_that_is_not(said: dict[str, Any], meant: dict[str, Any]) -> None:
    one, other = (from_values({"instance-id": "i-1", "write_files": [values]}) for values in (said, meant))
    assert one == other
    assert one.encode() == other.encode()
    assert one.digest() == other.digest()


def test_a_bond_s_default_mode_is_the_same_said_or_not() -> None:
    one, other = (
        from_values({"instance-id": "i-1", "network": {"version": 2, "bonds": {"bond0": {"parameters": parameters}}}})
        for parameters in ({}, {"mode": "balance-rr"})
    )
    assert one.digest() == other.digest()


def test_the_smallest_document_says_nothing_more_when_it_is_sent() -> None:
    assert parse(b'{"instance-id":"i-1"}').encode() == b'{"instance-id":"i-1"}'


def test_the_items_are_those_that_can_be_overwritten() -> None:
    assert from_values({"instance-id": "i-1", "overwrite": list(ITEMS)}).overwrite == list(ITEMS)
    assert len(set(ITEMS)) == len(ITEMS)


FORGED = [f"y` - at `${path}" for path in (".users[99][...]", "[...]" * 50_000, ".users[...][...]x", "[99999999999999]")]


@pytest.mark.parametrize("name", FORGED, ids=lambda name: name[:30])
def test_a_name_that_looks_like_a_path_misleads_nobody_but_its_writer(name: str) -> None:
    unknown: list[dict[str, Any]] = [{"users": [], name: 1}, {"users": [{"name": "ada", name: {}}]}]
    for values in unknown:
        with pytest.raises(BadDocument, match="unknown field"):
            from_values({"instance-id": "i-1", **values})
    bad: list[dict[str, Any]] = [{name: 1}, {"instance-id": name, "users": [{}]}, {"write_files": [{"encoding": name}]}]
    for values in bad:
        with pytest.raises(BadDocument) as caught:
            from_values(values)
        assert len(str(caught.value)) <= 600


@pytest.mark.parametrize("field", ["user-data", "timezone", "local-hostname"])
def test_half_a_surrogate_pair_which_yaml_can_make_is_refused(field: str) -> None:
    with pytest.raises(BadDocument):
        from_values({"instance-id": "i-1", field: "a\ud800"})
    half = "\ud800"
    for values in ({"users": [{"name": "ada", "gecos": half}]}, {"write_files": [{"path": "/a", "content": half}]}):
        with pytest.raises(BadDocument):
            from_values({"instance-id": "i-1", **values})


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
NAMES = (
    "instance-id generation local-hostname fqdn uuid users name network version ethernets addresses routes to via mtu"
    " match macaddress nameservers search ssh_authorized_keys eth0 [...] a.b $` groups sudo write_files path content encoding"
    " owner permissions absent ssh_keys ed25519_private ed25519_certificate ca_certs trusted ntp servers timezone locale"
    " bonds bridges vlans interfaces parameters path-cost link id routing-policy from table confirm check tcp command user-data"
    " host_trust authorities hosts revoked"
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
