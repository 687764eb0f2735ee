# SPDX-License-Identifier: Apache-2.0
"""Merging as RFC 7396 has it, where a merged value came from, and values printed as YAML."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.documents.merge import merged, nulls, says, source
from host_agent.documents.yaml_text import dump
from host_agent.documents.yaml_values import parse

SCALARS = st.integers(0, 3) | st.sampled_from(["x", "", "y.z"]) | st.lists(st.integers(0, 2), max_size=2)
KEYS = st.sampled_from(["a", "b", "a.b", "c"])
TREES = st.recursive(SCALARS, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
VALUES = st.dictionaries(KEYS, TREES, max_size=3)
PATCHES = st.dictionaries(
    KEYS, st.recursive(SCALARS | st.none(), lambda inner: st.dictionaries(KEYS, inner, max_size=3)), max_size=3
)


def shaped(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Values of one shape: what is a mapping in one of them is a mapping in all, as in documents."""
    inner = {"a": shaped(depth - 1), "b": shaped(depth - 1)} if depth else {}
    return st.fixed_dictionaries({}, optional=inner | {"c": st.integers(0, 3), "d": st.lists(st.integers(0, 2), max_size=2)})


@given(VALUES)
def test_one_layer_is_what_it_says(values: dict[str, Any]) -> None:
    assert merged([values]) == merged([{}, values]) == merged([values, {}]) == values


@given(VALUES, PATCHES)
def test_a_layer_twice_is_that_layer_once(values: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merged([values, patch])
    assert merged([values, patch, patch]) == once
    assert list(nulls(once)) == []


@given(shaped(2), shaped(2), shaped(2))
def test_layers_may_be_merged_from_either_end(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    assert merged([merged([a, b]), c]) == merged([a, merged([b, c])]) == merged([a, b, c])


@given(VALUES, PATCHES)
def test_merging_changes_no_layer(values: dict[str, Any], patch: dict[str, Any]) -> None:
    before = json.dumps([values, patch])
    merged([values, patch])
    assert json.dumps([values, patch]) == before


def test_the_examples_of_rfc_7396_come_out_as_it_says() -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]
    assert [merged([target, patch]) for target, patch, _ in cases] == [result for _, _, result in cases]


def leaves(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """What is no mapping, by its path."""
    found = []
    for name, value in values.items():
        inside = f"{path}.{name}" if path else name
        found += leaves(value, inside) if isinstance(value, dict) else [(inside, value)]
    return found


@given(st.lists(shaped(2), min_size=1, max_size=4))
def test_the_source_of_a_value_is_a_layer_that_says_just_that(layers: list[dict[str, Any]]) -> None:
    for path, value in leaves(merged(layers)):
        at: Any = layers[source(layers, path)]
        for name in path.split("."):
            at = at[name]
        assert at == value
        assert not any(says(higher, path) for higher in layers[source(layers, path) + 1 :])


PLAIN = st.recursive(
    st.text() | st.integers(-(10**9), 10**9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(PLAIN)
def test_what_is_printed_as_yaml_reads_back_as_the_same(values: object) -> None:
    assert parse(dump({"a": values})).values == {"a": values}


@pytest.mark.parametrize(
    "text", ["no", "0o10", "010", "1e3", "~", "null", "2024-01-01", "00:16:3e:00:00:01", "", "a: b", "a\n b\n", "#"]
)
def test_a_string_that_looks_like_something_else_is_quoted(text: str) -> None:
    assert parse(dump({"a": text})).values == {"a": text}
