# SPDX-License-Identifier: Apache-2.0
"""Where in a document something is wrong: found with few conversions, each of no more than the part that is meant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pv_channel.document import Document, from_values
from pv_channel.errors import BadDocument
from pv_channel.interfaces import MAX_INTERFACES
from pv_channel.located import located
from tests.protocol.documents import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

WRONG: dict[str, Any] = {"mtu": 1}


def counting(wrong: str, message: str) -> tuple[list[Any], Callable[[object], str]]:
    """A conversion that fails with *message* where *wrong* is in the values, and the values that it was given."""
    given: list[Any] = []

    def fails(values: object) -> str:
        given.append(json.loads(json.dumps(values)))
        return message if f'"{wrong}"' in json.dumps(values) else ""

    return given, fails


@pytest.mark.parametrize("at", [0, 1, 31, 62, 63])
def test_one_of_many_keys_is_found_by_halves_without_looking_at_the_rest_of_the_document(at: int) -> None:
    ethernets = {f"e{number}": dict(WRONG) if number == at else {} for number in range(MAX_INTERFACES)}
    values = {"users": ["much"] * 1000, "instance-id": "i-1", "network": {"version": 2, "ethernets": ethernets}}
    before = json.dumps(values)
    message = "Expected `int` >= 68 - at `$.network.ethernets[...].mtu`"
    given, fails = counting(f"e{at}", message)
    assert located(values, message, fails) == (f"network.ethernets.e{at}.mtu", "Expected `int` >= 68")
    assert len(given) <= 6
    assert all("users" not in part for part in given)
    assert json.dumps(values) == before


def test_a_key_of_a_mapping_within_a_mapping_is_found() -> None:
    path_cost = {f"e{number}": 0 if number == 5 else 1 for number in range(8)}
    bridges = {f"br{number}": {"interfaces": list(path_cost), "parameters": {"path-cost": path_cost}} for number in (3,)}
    ethernets: dict[str, Any] = {name: {} for name in path_cost}
    with pytest.raises(BadDocument) as caught:
        from_values({"instance-id": "i-1", "network": {"version": 2, "ethernets": ethernets, "bridges": {"br0": {}} | bridges}})
    assert caught.value.path == "network.bridges.br3.parameters.path-cost.e5"


def test_the_wrong_one_is_found_where_something_else_is_wrong_too() -> None:
    values = {"instance-id": 7, "nonsense": 1, "network": {"version": 2, "ethernets": {"e0": {}, "e1": dict(WRONG), "e2": {}}}}
    message = "Expected `int` >= 68 - at `$.network.ethernets[...].mtu`"

    def fails(part: object) -> str:
        try:
            from_values(part)
        except BadDocument as exc:
            return message if "68" in exc.problem else str(exc)
        return ""

    assert located(values, message, fails)[0] == "network.ethernets.e1.mtu"


def test_the_largest_documents_are_taken_and_refused_alike() -> None:
    users = [{"name": f"u{number}", "ssh_authorized_keys": [KEYS[0]] * 30} for number in range(200)]
    ethernets = {f"e{number}": {"addresses": [f"10.{number}.{other}.5/24" for other in range(128)]} for number in range(64)}
    values: dict[str, Any] = {"instance-id": "i-1", "users": users, "network": {"version": 2, "ethernets": ethernets}}
    assert isinstance(from_values(values), Document)
    ethernets["e63"] |= WRONG
    with pytest.raises(BadDocument, match=r"network\.ethernets\.e63\.mtu"):
        from_values(values)


@pytest.mark.parametrize(
    ("message", "path", "problem"),
    [
        ("", "", ""),
        ("Expected `object`, got `array`", "", "Expected `object`, got `array`"),
        ("Object contains unknown field `a\nb` - at `$.users[0]`", "users[0].a\\nb", "unknown field"),
        ("x - at `$.users[9][...]`", "users[9].?", "x"),
        ("x - at `$[...][...][...][...][...]`", "users.?.?[...][...]", "x"),
        ("x" * 1000, "", "x" * 297 + "..."),
        ("got '$6$salt$hash'", "", "got '(a secret)'"),
        ("got '-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl' and so on", "", "got '(a secret)"),
        ("x - at `$.a.$6$salt$hash.b`", "a.(a secret)", "x"),
        ("costs $5 or $6", "", "costs $5 or $6"),
    ],
)
def test_any_message_makes_a_path_and_a_problem(message: str, path: str, problem: str) -> None:
    assert located({"users": []}, message, lambda _: "") == (path, problem)
