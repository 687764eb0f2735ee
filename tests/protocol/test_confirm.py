# SPDX-License-Identifier: Apache-2.0
"""How a network change is confirmed: ends to connect to, and what of it crosses the channel."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.confirm import DEFAULT_SECONDS, Confirm
from pv_channel.document import from_values, parse
from pv_channel.errors import BadDocument


def confirm(**values: Any) -> Confirm:
    return from_values({"instance-id": "i-1", "confirm": values}).confirm


def test_without_a_word_the_guest_looks_itself_and_a_minute_is_waited() -> None:
    assert from_values({"instance-id": "i-1"}).confirm == confirm() == Confirm("guest", 60)
    assert DEFAULT_SECONDS == 60


@pytest.mark.parametrize(
    ("tcp", "endpoint"),
    [
        ("10.0.0.5:22", ("10.0.0.5", 22)),
        ("[FD00::5]:65535", ("fd00::5", 65535)),
        ("web1.example.org:443", ("web1.example.org", 443)),
        ("web1:1", ("web1", 1)),
        ("3com.example.org:22", ("3com.example.org", 22)),
    ],
)
def test_an_end_is_a_host_and_a_port(tcp: str, endpoint: tuple[str, int]) -> None:
    assert confirm(check="tcp", tcp=tcp).endpoint() == endpoint


@given(st.text(alphabet="0123456789.:[]abfw-/ \n", max_size=30))
def test_an_end_is_taken_or_refused_with_what_was_expected(tcp: str) -> None:
    try:
        host, port = confirm(check="tcp", tcp=tcp).endpoint()
    except BadDocument:
        return
    assert tcp.lower().startswith((host[:1], "["))
    assert 1 <= port <= 65535
    assert not set(host) & set("[] \n/")


def test_what_is_the_host_s_business_stays_in_dom0() -> None:
    for values in ({"check": "tcp", "tcp": "10.0.0.5:22"}, {"check": "command", "command": ["/bin/check", "secret"]}):
        document = from_values({"instance-id": "i-1", "confirm": {**values, "within": 30}})
        sent = document.encode()
        assert b"10.0.0.5" not in sent
        assert b"secret" not in sent
        assert parse(sent).confirm == Confirm(values["check"], 30)  # type: ignore[arg-type]  # one of the two
        assert document.confirm.command == values.get("command", msgspec.UNSET)


def test_how_a_change_is_confirmed_makes_no_other_document() -> None:
    one, other = (from_values({"instance-id": "i-1", "confirm": {"check": check}}) for check in ("none", "guest"))
    assert one != other
    assert one.digest() == other.digest()


@pytest.mark.parametrize("command", [[], ["x"] * 65, "true", [1]])
def test_a_command_is_a_list_of_words(command: object) -> None:
    with pytest.raises(BadDocument, match=r"confirm\.command"):
        confirm(check="command", command=command)
