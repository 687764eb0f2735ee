# SPDX-License-Identifier: Apache-2.0
"""What is said once sealed: strict, bounded, and refused in a few printable words."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.document import ITEMS
from pv_channel.errors import Malformed
from pv_channel.line import finish, header
from pv_channel.messages import (
    MAX_ADDRESSES,
    MAX_CHECKS,
    MAX_CONFIRM_SECONDS,
    MAX_DETAIL,
    MAX_GUEST_MESSAGE_BYTES,
    MAX_HOST_KEYS,
    MAX_LOG_LINE,
    MAX_LOG_LINES,
    MAX_STEP,
    Check,
    Confirm,
    Facts,
    Hello,
    ItemResult,
    Outcome,
    Ping,
    Plan,
    Planned,
    PlannedItem,
    Pong,
    Progress,
    Provision,
    Reject,
    Report,
    Result,
    Unconfirmed,
    decode_from_guest,
    decode_from_host,
    decode_hello,
    encode,
)
from pv_channel.session import FromGuest, FromHost, Lost
from pv_channel.states import State
from tests.protocol.ends import PROVISION, Pair

if TYPE_CHECKING:
    from collections.abc import Callable

ITEM = ItemResult("ssh-keys", Outcome.FAILED, "no-such-user", "there is no user ada", ["line 1", "line 2"])
RESULT = Result(3, Outcome.ROLLED_BACK, [ITEM], ["ssh-ed25519 AAAA"], "item-failed", "users[0]", "a sentence", 120)


PLANNED = Planned(
    3, [PlannedItem("hostname", steps=["-old", "+new"]), PlannedItem("users", "conflict", "owned by cloud-init")], cut=True
)
CHECKS = [Check("link", True), Check("gateway", False, "10.0.0.1 does not answer")]
REPORT = Report(3, [ItemResult("user-data", Outcome.APPLIED), ITEM])
FROM_HOST = [Ping(0), Ping(2**53), PROVISION, Plan(PROVISION.document), Confirm(3), Reject(3), Reject(3, "ssh does not answer")]
FACTS = Facts("Debian GNU/Linux 12", "6.1.0-56-amd64", "web1", "b" * 36, ["10.0.0.5/24", "2001:db8::5/64"], ["ssh-ed25519 AAAA"])
FROM_GUEST = [
    Pong(1),
    Pong(1, Facts()),
    Pong(1, FACTS),
    Pong(1, Facts(addresses=["a" * 64] * MAX_ADDRESSES, host_keys=["k" * 2048] * MAX_HOST_KEYS)),
    Progress(1, "network"),
    RESULT,
    Result(0, Outcome.REFUSED),
    Result(3, Outcome.APPLIED, [ItemResult("user-data", Outcome.PENDING)]),
    PLANNED,
    Planned(0, reason="bad-document", path="users[0]", detail="a sentence"),
    Unconfirmed(3, 60, CHECKS),
    Unconfirmed(3, 0),
    Unconfirmed(3, MAX_CONFIRM_SECONDS, [Check("link", True, "d" * MAX_DETAIL)] * MAX_CHECKS),
    REPORT,
]


@pytest.mark.parametrize("message", FROM_HOST)
def test_what_the_host_says_is_what_is_heard(message: Any) -> None:
    assert decode_from_host(encode(message)) == message


@pytest.mark.parametrize("message", FROM_GUEST)
def test_what_the_guest_says_is_what_is_heard(message: Any) -> None:
    assert decode_from_guest(encode(message)) == message


def test_the_hello_is_what_is_heard() -> None:
    hello = Hello("0.1.0", 3, "i-1", "a" * 32)
    assert decode_hello(encode(hello)) == hello


def test_messages_are_written_with_these_names() -> None:
    assert json.loads(encode(RESULT)) == {
        "type": "result", "generation": 3, "outcome": "rolled-back", "host-keys": ["ssh-ed25519 AAAA"], "reason": "item-failed",
        "path": "users[0]", "detail": "a sentence", "milliseconds": 120,
        "items": [
            {
                "item": "ssh-keys", "outcome": "failed", "reason": "no-such-user", "detail": "there is no user ada",
                "log": ["line 1", "line 2"],
            }
        ],
    }  # fmt: skip
    assert encode(Ping(7)) == b'{"type":"ping","n":7}'
    assert encode(Confirm(3)) == b'{"type":"confirm","generation":3}'
    assert encode(Reject(3, "why")) == b'{"type":"reject","generation":3,"detail":"why"}'
    assert json.loads(encode(PLANNED)) == {
        "type": "planned", "generation": 3, "cut": True,
        "items": [
            {"item": "hostname", "steps": ["-old", "+new"]},
            {"item": "users", "reason": "conflict", "detail": "owned by cloud-init"},
        ],
    }  # fmt: skip
    assert json.loads(encode(Unconfirmed(3, 60, CHECKS[1:]))) == {
        "type": "unconfirmed", "generation": 3, "seconds": 60,
        "checks": [{"name": "gateway", "good": False, "detail": "10.0.0.1 does not answer"}],
    }  # fmt: skip
    assert json.loads(encode(Hello("0.1.0", 3, "i", "d"))) == {
        "agent": "0.1.0",
        "generation": 3,
        "instance-id": "i",
        "digest": "d",
    }


def test_the_fullest_result_fits_the_guest_s_limit() -> None:
    log = ["l" * MAX_LOG_LINE] * MAX_LOG_LINES
    logs = {item: [] if item == "host-trust" else log for item in ITEMS}  # which runs no program
    items = [ItemResult(item, Outcome.FAILED, "y" * 40, "d" * MAX_DETAIL, logs[item]) for item in ITEMS]
    fullest = Result(2**53, Outcome.ROLLED_BACK, items, ["k" * 800] * 5, "z" * 40, "p" * MAX_DETAIL, "d" * MAX_DETAIL, 2**53)
    assert len(encode(fullest)) < MAX_GUEST_MESSAGE_BYTES


def test_the_fullest_list_of_checks_fits_the_guest_s_limit_in_any_script() -> None:
    checks = [Check("x" * 40, False, "\\" * MAX_DETAIL)] * MAX_CHECKS
    assert len(encode(Unconfirmed(2**53, MAX_CONFIRM_SECONDS, checks))) < MAX_GUEST_MESSAGE_BYTES


BAD_FROM_HOST = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"7",
    b'"ping"',
    b"{",
    b'{"type":"ping"}',
    b'{"n":1}',
    b'{"type":"pong","n":1}',
    b'{"type":"PING","n":1}',
    b'{"type":"ping","n":-1}',
    b'{"type":"ping","n":1.5}',
    b'{"type":"ping","n":"1"}',
    b'{"type":"ping","n":true}',
    b'{"type":"ping","n":1,"m":2}',
    b'{"type":"ping","n":9007199254740993}',
    b'{"type":"ping","n":1} x',
    b'{"type":"provision"}',
    b'{"type":"provision","document":}',
    b'{"type":"ping","n":1e400}',
    b'{"type":"p\xffng","n":1}',
    b'{"type":"ping","\xff":1}',
    b"\xff",
    b"\xef\xbb\xbf{}",
    b"[" * 5000,
    b'{"type":' * 5000,
    b'{"type":"ping","n":' + b"1" * 5000 + b"}",
    b"\0",
    b'{"type":"ping","n":1}\0',
    b'{"type":"plan"}',
    b'{"type":"plan","document":}',
    b'{"type":"confirm"}',
    b'{"type":"confirm","generation":0}',
    b'{"type":"confirm","generation":1,"detail":"x"}',
    b'{"type":"reject","generation":-1}',
    b'{"type":"reject","generation":1,"detail":"' + b"x" * (MAX_DETAIL + 1) + b'"}',
    b'{"type":"unconfirmed","generation":1,"seconds":5}',
    b'{"type":"report","generation":1,"items":[]}',
]
_RESULT_START = b'{"type":"result","generation":1,"outcome":"applied",'
_ITEM_START = b'"items":[{"item":"a","outcome":"applied",'
BAD_FROM_GUEST = [
    b"",
    b"{}",
    b'{"type":"ping","n":1}',
    b'{"type":"provision","document":{}}',
    b'{"type":"pong"}',
    b'{"type":"pong","n":1,"facts":null}',
    b'{"type":"pong","n":1,"facts":{"users":[]}}',
    b'{"type":"pong","n":1,"facts":{"os":"' + b"x" * 129 + b'"}}',
    b'{"type":"pong","n":1,"facts":{"addresses":"10.0.0.5"}}',
    b'{"type":"pong","n":1,"facts":{"addresses":["' + b"1" * 65 + b'"]}}',
    b'{"type":"pong","n":1,"facts":{"addresses":[' + b'"a",' * MAX_ADDRESSES + b'"a"]}}',
    b'{"type":"pong","n":1,"facts":{"host-keys":[' + b'"k",' * MAX_HOST_KEYS + b'"k"]}}',
    b'{"type":"confirm","generation":1}',
    b'{"type":"planned"}',
    b'{"type":"planned","generation":-1}',
    b'{"type":"planned","generation":1,"cut":1}',
    b'{"type":"planned","generation":1,"items":[{"item":"a","steps":["' + b"x" * (MAX_STEP + 1) + b'"]}]}',
    b'{"type":"planned","generation":1,"items":[{"item":"a","outcome":"applied"}]}',
    b'{"type":"planned","generation":1,"items":[' + b",".join([b'{"item":"a"}'] * 65) + b"]}",
    b'{"type":"unconfirmed","generation":0,"seconds":5}',
    b'{"type":"unconfirmed","generation":1}',
    b'{"type":"unconfirmed","generation":1,"seconds":-1}',
    b'{"type":"unconfirmed","generation":1,"seconds":3601}',
    b'{"type":"unconfirmed","generation":1,"seconds":5,"checks":[{"name":"link"}]}',
    b'{"type":"unconfirmed","generation":1,"seconds":5,"checks":[{"name":"a b","good":true}]}',
    b'{"type":"unconfirmed","generation":1,"seconds":5,"checks":['
    + b",".join([b'{"name":"a","good":true}'] * (MAX_CHECKS + 1))
    + b"]}",
    b'{"type":"report","generation":1}',
    b'{"type":"report","generation":0,"items":[]}',
    b'{"type":"report","generation":1,"items":[{"item":"user-data"}]}',
    b'{"type":"progress","generation":0,"item":"x"}',
    b'{"type":"progress","generation":1,"item":""}',
    b'{"type":"progress","generation":1,"item":"a b"}',
    b'{"type":"progress","generation":1,"item":"x\\n"}',
    b'{"type":"progress","generation":1,"item":"\\u001b[31m"}',
    b'{"type":"progress","generation":1,"item":"' + b"x" * 41 + b'"}',
    b'{"type":"result","generation":1,"outcome":"fine"}',
    b'{"type":"result","outcome":"applied"}',
    _RESULT_START + b'"reason":"Not A Word"}',
    _RESULT_START + b'"reason":"x\\n"}',
    _RESULT_START + b'"detail":"' + b"x" * 401 + b'"}',
    _RESULT_START + b'"host-keys":[' + b'"k",' * MAX_HOST_KEYS + b'"k"]}',
    _RESULT_START + b'"host-keys":["' + b"k" * 2049 + b'"]}',
    _RESULT_START + _ITEM_START + b'"log":["' + b"x" * 201 + b'"]}]}',
    _RESULT_START + _ITEM_START + b'"log":[' + b'"",' * 20 + b'""]}]}',
    _RESULT_START + b'"items":[' + b'{"item":"a","outcome":"applied"},' * 64 + b'{"item":"a","outcome":"applied"}]}',
    _RESULT_START + b'"detail":"\xff"}',
    _RESULT_START + b'"\\u001b[2J\xc3\x28":1}',
    _RESULT_START + b'"' + b"x" * 60_000 + b'":1}',
    _RESULT_START + b'"\\u202e\\u001b]0;x\\u0007":1}',
]
BAD_HELLOS = [
    b"",
    b"{}",
    b"[]",
    b'{"agent":1}',
    b'{"agent":"' + b"x" * 33 + b'"}',
    b'{"agent":"a","generation":-1}',
    b'{"agent":"a","x":1}',
    b'{"agent":"\xff"}',
    b'{"agent":"a","instance-id":"' + b"x" * 129 + b'"}',
    b'{"agent":"a","digest":"' + b"x" * 65 + b'"}',
]
BAD = [(decode_from_host, bad) for bad in BAD_FROM_HOST] + [(decode_from_guest, bad) for bad in BAD_FROM_GUEST]


def _name(value: Callable[[bytes], object] | bytes) -> str:
    return str(value) if isinstance(value, bytes) else value.__name__


@pytest.mark.parametrize(("decode", "bad"), [*BAD, *((decode_hello, bad) for bad in BAD_HELLOS)], ids=_name)
def test_what_is_no_message_is_malformed_in_a_few_printable_words(decode: Callable[[bytes], object], bad: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        decode(bad)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@given(st.binary(max_size=100))
def test_no_bytes_make_anything_but_a_message_or_malformed(data: bytes) -> None:
    for decode in (decode_from_host, decode_from_guest, decode_hello):
        with suppress(Malformed):
            decode(data)


def seal_for_host(pair: Pair, said: bytes) -> bytes:
    """A line of the pair's guest, sealed as its own are, that says exactly *said*."""
    live = pair.guest._live
    assert live is not None
    live.queue(said)
    return live.data_to_send()


@pytest.mark.parametrize("bad", BAD_FROM_GUEST, ids=str)
def test_a_sealed_message_that_is_none_ends_the_session_and_raises_nothing(bad: bytes) -> None:
    pair = Pair().shake_hands()
    events = pair.host.receive(seal_for_host(pair, bad)) if len(bad) < 1000 else []
    if len(bad) >= 1000:
        live = pair.guest._live
        assert live is not None
        live.queue(bad)
        pair.run()
        events = pair.host_heard
    assert any(isinstance(event, Lost) and event.reason.isprintable() and len(event.reason) < 300 for event in events)
    assert pair.host.state is State.IDLE


@pytest.mark.parametrize("bad", BAD_FROM_HOST, ids=str)
def test_a_sealed_message_to_the_guest_that_is_none_ends_the_session_and_raises_nothing(bad: bytes) -> None:
    pair = Pair().shake_hands()
    transport = pair.host._transport
    assert transport is not None
    transport.queue(bad)
    pair.run()
    assert any(isinstance(event, Lost) for event in pair.guest_heard)
    assert pair.guest.state is State.SILENT


@pytest.mark.parametrize("plaintext", [b"x", b"+", b"*{}", b"\0", b"\n", b"-", b"+\0"[:1]])
def test_a_sealed_payload_of_the_wrong_shape_ends_the_session(plaintext: bytes) -> None:
    pair = Pair().shake_hands()
    live = pair.guest._live
    assert live is not None
    head = header(b"<", *live.ids, live._last_sent + 1, live.last_heard)
    events = pair.host.receive(finish(head, live._sending.encrypt_with_ad(head, plaintext)))
    assert [type(event) for event in events] == [Lost]


@pytest.mark.parametrize("message", FROM_HOST)
def test_what_the_host_says_arrives_over_a_session(message: Any) -> None:
    pair = Pair().shake_hands()
    pair.host.send(message)
    pair.run()
    assert [event.message for event in pair.guest_heard if isinstance(event, FromHost)][-1] == message


@pytest.mark.parametrize("message", FROM_GUEST, ids=lambda message: type(message).__name__)
def test_what_the_guest_says_arrives_over_a_session(message: Any) -> None:
    pair = Pair().shake_hands()
    pair.guest.send(message)
    pair.run()
    assert [event.message for event in pair.host_heard if isinstance(event, FromGuest)] == [message]


def test_a_document_inside_is_taken_as_it_stands() -> None:
    raw = b'{ "instance-id" : "i-1", "x": [1,2 ,3] }'
    message = decode_from_host(b'{"type":"provision","document":' + raw + b"}")
    assert isinstance(message, Provision)
    assert bytes(message.document) == raw
    assert encode(Provision(msgspec.Raw(raw))).endswith(raw + b"}")
    planned = decode_from_host(b'{"type":"plan","document":' + raw + b"}")
    assert isinstance(planned, Plan)
    assert bytes(planned.document) == raw
