# SPDX-License-Identifier: Apache-2.0
"""The client of etcd's gateway against a fake of it: answers that are late, cut, too long or nonsense, and refused tokens."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.etcd import wire
from host_agent.etcd.client import Etcd, Heard
from host_agent.etcd.errors import (
    Away,
    Compacted,
    EtcdError,
    Garbled,
    NoSuchLease,
    NotAuthenticated,
    Refused,
    Silent,
)
from host_agent.etcd.gateway import MAX_ANSWER_BYTES, Credentials, Gateway
from host_agent.etcd.wire import Compare, Get, Put, Range, below
from tests.host.fake_gateway import Asked, FakeGateway, answer, b64, cut, lines, problem, raw, silence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEY = b"/p/a"
FOUND = {"header": {"revision": "7"}, "kvs": [{"key": b64("/p/a"), "value": b64("hello"), "mod_revision": "5"}], "count": "1"}
CREATED = {"result": {"header": {"revision": "7"}, "watch_id": "1", "created": True}}


def event(value: str, revision: int, **more: object) -> dict[str, Any]:
    kv = {"key": b64("/p/a"), "value": b64(value), "create_revision": "2", "mod_revision": str(revision)}
    return {"result": {"header": {"revision": str(revision)}, "watch_id": "1", "events": [{"kv": kv}], **more}}


def asking(fake: FakeGateway, work: Callable[[Etcd], Awaitable[Any]], **options: Any) -> Any:
    """What *work* makes of the answers of *fake*, or of none where it is not the first that is asked."""

    async def ask() -> Any:
        async with fake:
            before = options.pop("before", [])
            etcd = Etcd(Gateway([*before, fake.endpoint], **{"answer_seconds": 20.0, **options}), silence=0.3)
            try:
                return await work(etcd)
            finally:
                await etcd.close()

    return asyncio.run(ask())


async def heard(etcd: Etcd) -> list[Heard | EtcdError]:
    """What the watch of a key tells, and what ends it."""
    found: list[Heard | EtcdError] = []
    try:
        async for each in etcd.watch([Range(KEY)], [1]):
            found.append(each)  # noqa: PERF401 -- what came before the end is kept
    except EtcdError as exc:
        found.append(exc)
    return found


def test_a_key_is_read_where_it_stands() -> None:
    fake = FakeGateway(kv_range=[answer(FOUND)])
    found = asking(fake, lambda etcd: etcd.get(KEY))
    assert (found.value, found.mod_revision) == (b"hello", 5)
    assert fake.asked[0].body[0]["key"] == b64("/p/a")


def test_an_endpoint_that_is_not_there_is_passed_over_and_not_asked_first_again() -> None:
    fake = FakeGateway(kv_range=[answer(FOUND)])

    async def twice(etcd: Etcd) -> None:
        await etcd.get(KEY)
        assert (await etcd.get(KEY)) is not None

    asking(fake, twice, before=["http://127.0.0.1:1"])
    assert fake.paths() == ["kv/range", "kv/range"]


def test_no_endpoint_that_answers_is_said_with_each_ones_reason() -> None:
    fake = FakeGateway(kv_range=[silence])
    with pytest.raises(Away, match=r"http://127\.0\.0\.1:1: .*; http://127\.0\.0\.1:\d+: no answer within 0\.2 s"):
        asking(fake, lambda etcd: etcd.get(KEY), before=["http://127.0.0.1:1"], answer_seconds=0.2)


@pytest.mark.parametrize("bad", [cut, raw(b"\x00", 503), problem(503, 14, "etcdserver: no leader")])
def test_an_endpoint_that_fails_now_may_do_better_later(bad: Any) -> None:
    with pytest.raises(Away):
        asking(FakeGateway(kv_range=[bad]), lambda etcd: etcd.get(KEY))


@pytest.mark.parametrize("bad", [raw(b""), raw(b"[]"), raw(b'{"kvs": 3}'), raw(b"<html>", 404), raw(b'{"kvs": [{"key": "*"}]}')])
def test_what_is_no_answer_of_the_gateways_is_said_to_be_none(bad: Any) -> None:
    with pytest.raises(Garbled):
        asking(FakeGateway(kv_range=[bad]), lambda etcd: etcd.get(KEY))


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"\x00\xff" * 100_000,
    ],
)
def test_what_is_no_http_is_no_other_exception(data: bytes) -> None:
    async def give(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    fake = FakeGateway(lease_grant=[give])
    with pytest.raises((Away, Garbled)):
        asking(fake, lambda etcd: etcd.grant(5))


def test_an_answer_without_end_is_not_kept() -> None:
    sent = 0

    async def flood(_: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    with pytest.raises(Garbled, match="more than"):
        asking(FakeGateway(kv_range=[flood]), lambda etcd: etcd.get(KEY))
    assert sent < 3 * MAX_ANSWER_BYTES


def test_pages_that_are_too_long_are_asked_for_again_with_fewer_keys() -> None:
    long = raw(b" " * (MAX_ANSWER_BYTES + 1))
    fake = FakeGateway(kv_range=[long, answer({**FOUND, "more": True}), answer({"header": {"revision": "9"}})])
    found = asking(fake, lambda etcd: etcd.read(below(b"/p/")))
    assert ([kv.value for kv in found.kvs], found.revision) == ([b"hello"], 7)
    asked = [(each.body[0]["limit"], each.body[0]["revision"], each.body[0]["key"]) for each in fake.asked]
    assert asked == [("256", "0", b64("/p/")), ("64", "0", b64("/p/")), ("64", "7", b64("/p/a\0"))]


def test_no_proxy_of_the_environment_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert asking(FakeGateway(kv_range=[answer(FOUND)]), lambda etcd: etcd.get(KEY)).value == b"hello"


def test_a_token_is_asked_for_once_shown_and_renewed_when_etcd_does_not_take_it_any_more() -> None:
    invalid = problem(401, 16, "etcdserver: invalid auth token")
    fake = FakeGateway(
        auth_authenticate=[answer({"token": "first"}), answer({"token": "second"})],
        kv_range=[answer(FOUND), invalid, answer(FOUND)],
    )

    async def twice(etcd: Etcd) -> None:
        await etcd.get(KEY)
        await etcd.get(KEY)

    asking(fake, twice, credentials=Credentials("dom0", lambda: "secret"))
    asked = [(each.path, each.token) for each in fake.asked]
    assert asked[:3] == [("auth/authenticate", ""), ("kv/range", "first"), ("kv/range", "first")]
    assert asked[3:] == [("auth/authenticate", ""), ("kv/range", "second")]


def test_many_who_lost_a_token_at_once_ask_for_one() -> None:
    fake = FakeGateway(auth_authenticate=[answer({"token": "t"})], kv_range=[answer(FOUND)])

    async def many(etcd: Etcd) -> None:
        await asyncio.gather(*(etcd.get(KEY) for _ in range(10)))

    asking(fake, many, credentials=Credentials("dom0", lambda: "secret"))
    assert fake.paths().count("auth/authenticate") == 1


def test_a_wrong_password_is_said_without_it() -> None:
    refusal = problem(400, 3, "etcdserver: authentication failed, invalid user ID or password")
    fake = FakeGateway(auth_authenticate=[refusal], kv_range=[answer(FOUND)])
    with pytest.raises(Refused, match="does not take the password of its user dom0") as refused:
        asking(fake, lambda etcd: etcd.get(KEY), credentials=Credentials("dom0", lambda: "secret"))
    assert "secret" not in str(refused.value)


def test_etcd_that_wants_a_user_where_none_is_given_is_said_with_the_cure() -> None:
    with pytest.raises(Refused, match="cure: 'user' and 'password-file'"):
        asking(FakeGateway(kv_range=[problem(400, 3, "etcdserver: user name is empty")]), lambda etcd: etcd.get(KEY))


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        (7, "etcdserver: permission denied", Refused),
        (11, "etcdserver: mvcc: required revision has been compacted", Compacted),
        (5, "etcdserver: requested lease not found", NoSuchLease),
        (8, "etcdserver: mvcc: database space exceeded", Refused),
        (3, "etcdserver: request is too large", Refused),
    ],
)
def test_each_of_etcds_errors_is_the_kind_that_its_caller_treats(code: int, words: str, kind: type[EtcdError]) -> None:
    with pytest.raises(kind, match=words.removeprefix("etcdserver: ")) as raised:
        asking(FakeGateway(kv_txn=[problem(400, code, words)]), lambda etcd: etcd.txn([], [Put(KEY, b"x")]))
    assert type(raised.value) is kind


def test_a_transaction_says_whether_it_was_so_and_what_it_read() -> None:
    responses = [{"response_put": {}}, {"response_range": FOUND}]
    fake = FakeGateway(kv_txn=[answer({"header": {"revision": "9"}, "succeeded": True, "responses": responses})])
    got = asking(fake, lambda etcd: etcd.txn([Compare(KEY, "CREATE", 3)], [Put(KEY, b"x", 4), Get(KEY)]))
    assert (got.succeeded, got.header.revision, got.read[0][0].value) == (True, 9, b"hello")
    asked = fake.asked[0].body[0]
    assert asked["compare"] == [{"key": b64("/p/a"), "target": "CREATE", "result": "EQUAL", "create_revision": "3"}]
    assert asked["success"][0] == {"request_put": {"key": b64("/p/a"), "value": b64("x"), "lease": "4"}}


@pytest.mark.parametrize("kept", [{"result": {"ID": "5"}}, {"result": {"ID": "5", "TTL": "0"}}])
def test_a_lease_without_time_is_over(kept: object) -> None:
    with pytest.raises(NoSuchLease):
        asking(FakeGateway(lease_keepalive=[answer(kept)]), lambda etcd: etcd.keep_alive(5))


def test_a_watch_tells_what_happens_and_that_its_stream_was_cut() -> None:
    fake = FakeGateway(watch=[lines(CREATED, event("one", 8), event("two", 9), then=cut)])
    first, one, two, end = asking(fake, heard)
    assert first == Heard(0, [], 7)
    assert [(each.events[0].kv.value, each.revision) for each in (one, two)] == [(b"one", 8), (b"two", 9)]
    assert isinstance(end, Away)


def test_a_watch_that_is_silent_ends_and_says_so() -> None:
    assert isinstance(asking(FakeGateway(watch=[lines(CREATED, then=silence)]), heard)[-1], Silent)


def test_what_comes_in_pieces_is_told_whole() -> None:
    fake = FakeGateway(watch=[lines(CREATED, event("one", 8, fragment=True), event("two", 8))])
    _, both, _ = asking(fake, heard)
    assert [each.kv.value for each in both.events] == [b"one", b"two"]


def test_a_revision_that_is_compacted_ends_the_watch_as_such() -> None:
    gone = {"result": {"header": {}, "watch_id": "1", "canceled": True, "compact_revision": "40"}}
    assert isinstance(asking(FakeGateway(watch=[lines(CREATED, gone)]), heard)[-1], Compacted)


def test_a_watch_whose_token_is_not_taken_gets_another() -> None:
    gone = {"error": {"grpc_code": 16, "http_code": 401, "message": "etcdserver: invalid auth token"}}
    fake = FakeGateway(auth_authenticate=[answer({"token": "t"})], watch=[lines(gone)])
    assert isinstance(asking(fake, heard, credentials=Credentials("dom0", lambda: "secret"))[-1], Away)
    assert fake.paths() == ["auth/authenticate", "watch", "auth/authenticate"]


def test_a_watch_that_is_not_allowed_is_refused() -> None:
    said = {"watch_id": "-1", "canceled": True, "created": True, "cancel_reason": "etcdserver: permission denied"}
    gone = {"result": {"header": {}, **said}}
    assert isinstance(asking(FakeGateway(watch=[lines(gone)]), heard)[-1], Refused)


def test_a_line_without_end_is_not_kept() -> None:
    async def flood(_: Asked, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()

    assert isinstance(asking(FakeGateway(watch=[lines(CREATED, then=flood)]), heard)[-1], Garbled)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)), st.sampled_from([200, 400, 401, 500, 503]))
def test_no_bytes_of_etcds_are_another_exception(data: bytes, status: int) -> None:
    for read in (lambda: wire.watch_line(data), lambda: wire.decode(data, wire.TxnAnswer), lambda: wire.problem(status, data)):
        try:
            read()
        except EtcdError:
            continue


WORDS = ["header", "revision", "watch_id", "created", "canceled", "events", "kv", "key", "message", "grpc_code"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["result", "error"]), ANYTHING))
def test_no_line_of_a_watch_is_another_exception(value: dict[str, Any]) -> None:
    try:
        found = wire.watch_line(json.dumps(value).encode())
    except EtcdError:
        return
    assert found is None or isinstance(found, (wire.WatchAnswer, EtcdError))


def test_not_authenticated_is_one_of_the_refusals() -> None:
    assert isinstance(wire.problem(401, b'{"code": 16, "error": "etcdserver: invalid auth token"}'), NotAuthenticated)
