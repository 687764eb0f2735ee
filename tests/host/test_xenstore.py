# SPDX-License-Identifier: Apache-2.0
"""Xenstore's wire and client: every answer finds its request, every error has a kind, and no bytes of the daemon's surprise."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.errors import HostError
from host_agent.xenstore import wire
from host_agent.xenstore.client import PATHS, Client, socket_paths
from host_agent.xenstore.connection import MAX_IN_FLIGHT, Connection
from host_agent.xenstore.errors import (
    Again,
    Exists,
    Forbidden,
    Garbled,
    Invalid,
    Lost,
    NoEntry,
    Refused,
    TooBig,
    XenstoreError,
)
from host_agent.xenstore.wire import Event, Message, MessageReader, Operation, Permission
from tests.host import fake_xenstored as fake
from tests.host.fake_xenstored import FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

HEADER = struct.Struct("=IIII")
MESSAGES = st.lists(
    st.builds(
        Message, st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.binary(max_size=80)
    ),
    max_size=6,
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeXenstored]:
    with FakeXenstored(tmp_path / "xenstored") as running:
        yield running


def on(daemon: FakeXenstored, story: Callable[[Client], Awaitable[None]], **options: float) -> None:
    """Run *story* with a client of *daemon*."""

    async def run() -> None:
        async with await Client.connect([daemon.path], **options) as store:  # type: ignore[arg-type]  # as the test says
            await story(store)

    asyncio.run(run())


def written(message: Message) -> bytes:
    return HEADER.pack(message.operation, message.request, message.transaction, len(message.payload)) + message.payload


# -- the wire


@given(MESSAGES, st.data())
def test_messages_are_the_same_however_the_stream_is_cut(messages: list[Message], data: st.DataObject) -> None:
    stream = b"".join(written(message) for message in messages)
    assert MessageReader().feed(stream) == messages
    by_byte = MessageReader()
    assert [found for byte in stream for found in by_byte.feed(bytes([byte]))] == messages
    cut = data.draw(st.integers(0, len(stream)))
    in_two = MessageReader()
    assert in_two.feed(stream[:cut]) + in_two.feed(stream[cut:]) == messages


@given(st.binary(max_size=200))
def test_garbage_is_messages_or_garbled(data: bytes) -> None:
    try:
        for message in MessageReader().feed(data):
            assert len(message.payload) <= len(data)
    except Garbled:
        return


@pytest.mark.parametrize(
    "parse", [wire.strings, wire.event, wire.error_word, wire.permissions, wire.number, wire.part, wire.answer]
)
@given(data=st.one_of(st.binary(max_size=60), st.text("0123456789nrwbEINVALTF\0/", max_size=40).map(str.encode)))
def test_any_payload_is_understood_or_garbled(parse: Callable[[bytes], object], data: bytes) -> None:
    try:
        parse(data)
    except Garbled:
        return


def test_a_message_longer_than_any_can_be_is_garbled_before_it_is_buffered() -> None:
    with pytest.raises(Garbled):
        MessageReader().feed(HEADER.pack(2, 1, 0, wire.MAX_REPLY_BYTES + 1))


def test_payloads_mean_what_the_protocol_says() -> None:
    assert wire.strings(b"a\0b\0") == ["a", "b"]
    assert wire.strings(b"") == []
    assert wire.event(b"/libxl/7\0token\0") == Event("/libxl/7", "token")
    assert wire.permissions(b"n0\0r7\0") == [Permission("n", 0), Permission("r", 7)]
    assert wire.number(b"4294967295\0") == 0xFFFFFFFF
    assert wire.part(b"12\0a\0b\0\0") == wire.Part(b"12", b"a\0b\0", last=True)
    assert wire.part(b"12\0a\0b\0") == wire.Part(b"12", b"a\0b\0", last=False)
    assert wire.part(b"12\0\0") == wire.Part(b"12", b"", last=True)


@pytest.mark.parametrize("path", ["", "relative", "/a//b", "/a/", "/a\0b", "/ä", "/a b", "/" + "x" * 3072, "/a\n"])
def test_a_path_that_no_node_can_have_is_refused_here(daemon: FakeXenstored, path: str) -> None:
    async def story(store: Client) -> None:
        with pytest.raises(Invalid):
            await store.read(path)

    on(daemon, story)
    assert not daemon.requests


def test_a_payload_that_the_daemon_would_hang_up_on_is_refused_here(daemon: FakeXenstored) -> None:
    async def story(store: Client) -> None:
        with pytest.raises(TooBig):
            await store.write("/a", b"x" * 4094)
        await store.write("/a", b"x" * 4093)
        assert len(await store.read("/a")) == 4093

    on(daemon, story)


# -- asking


def test_values_listings_and_owners(daemon: FakeXenstored) -> None:
    daemon.write("/local/domain/7/name", "web1")
    daemon.write("/local/domain/7/data", bytes(range(256)), owner=7)

    async def story(store: Client) -> None:
        assert await store.read("/local/domain/7/name") == b"web1"
        assert await store.read("/local/domain/7/data") == bytes(range(256))
        assert await store.directory("/local/domain/7") == ["name", "data"]
        assert await store.directory("/local/domain/7/name") == []
        assert await store.permissions("/local/domain/7/data") == [Permission("n", 7)]
        assert not await store.is_introduced(7)
        daemon.introduce(7)
        assert await store.is_introduced(7)

    on(daemon, story)


def test_each_error_has_its_kind_and_names_the_path(daemon: FakeXenstored) -> None:
    kinds = {"ENOENT": NoEntry, "EACCES": Forbidden, "EINVAL": Invalid, "EEXIST": Exists, "EAGAIN": Again, "EIO": Refused}
    for word in kinds:
        daemon.refusing[f"/{word}"] = word
    daemon.refusing["/odd"] = "nothing like an error"

    async def story(store: Client) -> None:
        for word, kind in kinds.items():
            with pytest.raises(Refused, match=f"/{word}: {word}") as caught:
                await store.read(f"/{word}")
            assert type(caught.value) is kind
            assert (caught.value.word, caught.value.path) == (word, f"/{word}")
        assert not store.closed
        with pytest.raises(Lost):
            await store.read("/odd")
        assert store.closed

    on(daemon, story)


def test_a_listing_longer_than_a_message_comes_in_parts(daemon: FakeXenstored) -> None:
    for domid in range(1, 2001):
        daemon.write(f"/local/domain/{domid}")

    async def story(store: Client) -> None:
        assert await store.directory("/local/domain") == [str(domid) for domid in range(2001)]
        assert daemon.requests[fake.DIRECTORY_PART] > 1

    on(daemon, story)


def test_a_long_listing_that_changes_meanwhile_is_begun_anew(daemon: FakeXenstored) -> None:
    names = [f"node-{number}" for number in range(1000)]
    for name in names:
        daemon.write(f"/many/{name}")
    parts = []

    def change(operation: int, path: str) -> None:
        if operation == fake.DIRECTORY_PART:
            parts.append(path)
            if len(parts) == 2:
                daemon.rm("/many/node-0")

    daemon.before = change

    async def story(store: Client) -> None:
        assert await store.directory("/many") == names[1:]
        daemon.before = lambda operation, path: daemon.write("/other")  # so that it never holds still
        with pytest.raises(Again):
            await store.directory("/many")

    on(daemon, story)


def test_many_questions_at_once_are_answered_each_and_wait_their_turn(daemon: FakeXenstored) -> None:
    for number in range(500):
        daemon.write(f"/n/{number}", number)

    async def story(store: Client) -> None:
        values = await asyncio.gather(*(store.read(f"/n/{number}") for number in range(500)))
        assert values == [b"%d" % number for number in range(500)]

    on(daemon, story)
    assert 1 < daemon.most_at_once <= MAX_IN_FLIGHT


def test_answers_in_another_order_find_their_questions() -> None:
    ours, theirs = socket.socketpair()
    with theirs:

        async def story() -> None:
            _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, sock=ours)
            questions = [asyncio.create_task(connection.ask(Operation.READ, b"/%d\0" % n, f"/{n}")) for n in range(3)]
            while connection.closed or not (data := await asyncio.to_thread(theirs.recv, 65536)):
                pass
            asked = MessageReader().feed(data)
            while len(asked) < 3:
                asked += MessageReader().feed(await asyncio.to_thread(theirs.recv, 65536))
            theirs.sendall(written(Message(Operation.READ, 999, 0, b"to nobody")))
            for message in reversed(asked):
                theirs.sendall(written(message._replace(payload=b"answer to " + message.payload)))
            assert await asyncio.gather(*questions) == [b"answer to /%d\0" % n for n in range(3)]
            connection.close()

        asyncio.run(story())


def test_a_question_that_was_given_up_leaves_the_others_alone(daemon: FakeXenstored) -> None:
    daemon.write("/a", "1")
    daemon.delay = 0.05

    async def story(store: Client) -> None:
        given_up = asyncio.create_task(store.read("/a"))
        await asyncio.sleep(0.01)
        given_up.cancel()
        assert await store.read("/a") == b"1"
        assert not store.closed

    on(daemon, story)


# -- a daemon that is no good


def test_where_there_is_no_xen_one_sentence_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(HostError, match=r"^no xenstore at .*/nowhere: this is not a Xen dom0, or xenstored is not running$"):
            await Client.connect([tmp_path / "nowhere", tmp_path / "nor-here"])
        (tmp_path / "file").touch()
        with pytest.raises(Lost, match="not a Xen dom0"):
            await Client.connect([tmp_path / "file"])
        with pytest.raises(Lost, match="cannot be reached: AF_UNIX path too long"):
            await Client.connect([tmp_path / ("x" * 200)])

    asyncio.run(story())


def test_the_second_place_is_tried_where_the_first_has_no_daemon(daemon: FakeXenstored, tmp_path: Path) -> None:
    async def story() -> None:
        async with await Client.connect([tmp_path / "nowhere", daemon.path]) as store:
            assert await store.directory("/libxl") == []

    asyncio.run(story())


def test_a_daemon_whose_queue_is_full_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "xenstored"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as before:
        listener.bind(os.fspath(path))
        listener.listen(0)
        before.connect(os.fspath(path))

        async def story() -> None:
            connecting = asyncio.create_task(Client.connect([path]))
            await asyncio.sleep(0.1)
            assert not connecting.done()
            listener.accept()[0].close()
            store = await connecting
            assert not store.closed
            store.close()

        asyncio.run(story())


def test_a_daemon_that_does_not_answer_is_given_up(daemon: FakeXenstored) -> None:
    daemon.silent = True

    async def story(store: Client) -> None:
        with pytest.raises(Lost, match=r"did not answer within 0\.05 s"):
            await store.read("/a")
        assert store.closed
        with pytest.raises(Lost, match="did not answer"):
            await store.read("/b")

    on(daemon, story, answer_seconds=0.05)


def test_everybody_who_waits_hears_that_the_daemon_is_gone(daemon: FakeXenstored) -> None:
    daemon.silent = True

    async def story(store: Client) -> None:
        waiting = [asyncio.create_task(store.read(f"/{number}")) for number in range(100)]
        events = asyncio.create_task(store.wait_for_events())
        while daemon.requests[fake.READ] < MAX_IN_FLIGHT:
            await asyncio.sleep(0.01)
        daemon.cut()
        outcomes = await asyncio.gather(*waiting, events, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Lost}
        assert store.closed

    on(daemon, story)


@pytest.mark.parametrize(
    "garbage",
    [
        HEADER.pack(2, 1, 0, 0xFFFFFFFF),
        b"\xff" * 100,
        HEADER.pack(15, 0, 0, 3) + b"/ab",
        HEADER.pack(3, 1, 0, 4) + b"not ",
    ],
    ids=["a length", "noise", "an event without a token", "an answer to something else"],
)
def test_garbage_of_the_daemon_ends_the_connection_with_a_word_on_it(daemon: FakeXenstored, garbage: bytes) -> None:
    daemon.silent = True

    async def story(store: Client) -> None:
        asking = asyncio.create_task(store.read("/a"))
        while not daemon.requests[fake.READ]:
            await asyncio.sleep(0.01)
        daemon.say(garbage)
        with pytest.raises(Lost, match=r"xenstored (announced|sent|answered)"):
            await asking
        assert store.closed

    on(daemon, story)


@given(st.lists(st.binary(max_size=120), max_size=4))
def test_whatever_the_daemon_sends_only_our_errors_come_out(chunks: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with theirs:

        async def story() -> None:
            _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, sock=ours)
            asking = asyncio.create_task(connection.ask(Operation.GET_PERMS, b"/a\0", "/a"))
            await asyncio.sleep(0)
            for chunk in chunks:
                connection.data_received(chunk)
            connection.close()
            try:
                wire.permissions(await asking)
            except XenstoreError:
                return

        asyncio.run(story())


# -- watches


def test_a_watch_tells_what_changes_below_it_until_it_is_taken_back(daemon: FakeXenstored) -> None:
    async def story(store: Client) -> None:
        await store.watch("/libxl", "ours")
        await store.wait_for_events()
        assert store.take_events().events == [Event("/libxl", "ours")]
        assert store.take_events().events == []
        daemon.write("/libxl/7/type", "pv")
        daemon.write("/elsewhere", "x")
        daemon.introduce(7)
        await store.wait_for_events()
        assert store.take_events().events == [Event("/libxl/7/type", "ours")]
        with pytest.raises(Exists):
            await store.watch("/libxl", "ours")
        await store.watch("@introduceDomain", "born")
        await store.unwatch("/libxl", "ours")
        with pytest.raises(NoEntry):
            await store.unwatch("/libxl", "ours")
        daemon.write("/libxl/8/type", "pv")
        daemon.introduce(8)
        assert await store.is_introduced(8)
        events, missed = store.take_events()
        assert (events, missed) == ([Event("@introduceDomain", "born")] * 2, False)

    on(daemon, story)


def test_what_nobody_fetches_is_dropped_and_said_to_be(daemon: FakeXenstored) -> None:
    async def story(store: Client) -> None:
        await store.watch("/libxl", "ours")
        for number in range(50):
            daemon.write(f"/libxl/{number}", "x")
        await store.read("/libxl/49")
        events, missed = store.take_events()
        assert (len(events), missed) == (10, True)
        daemon.write("/libxl/1", "y")
        await store.wait_for_events()
        assert store.take_events() == ([Event("/libxl/1", "ours")], False)

    on(daemon, story, max_events=10)


# -- writing


def test_nodes_are_written_made_owned_and_removed(daemon: FakeXenstored) -> None:
    async def story(store: Client) -> None:
        await store.mkdir("/local/domain/7/device/console/3")
        await store.write("/local/domain/7/device/console/3/name", b"org.example.new")
        await store.set_permissions("/local/domain/7/device/console/3", [Permission("n", 7), Permission("r", 0)])
        assert await store.permissions("/local/domain/7/device/console/3") == [Permission("n", 7), Permission("r", 0)]
        await store.rm("/local/domain/7/device")
        with pytest.raises(NoEntry):
            await store.read("/local/domain/7/device/console/3/name")

    on(daemon, story)


async def removed_in_vain(store: Client, path: str, *, lose: bool = False) -> None:
    async with store.transaction() as nodes:
        await nodes.rm(path)
        if lose:
            store.close()
        raise RuntimeError("a fault")


def test_a_transaction_comes_true_at_once_or_not_at_all(daemon: FakeXenstored) -> None:
    async def story(store: Client) -> None:
        await store.watch("/hot", "ours")
        await store.wait_for_events()
        store.take_events()
        async with store.transaction() as nodes:
            await nodes.write("/hot/a", b"1")
            await nodes.write("/hot/b", b"2")
            assert await nodes.directory("/hot") == ["a", "b"]
            with pytest.raises(NoEntry):
                await store.directory("/hot")
        assert await store.directory("/hot") == ["a", "b"]
        assert [event.path for event in store.take_events().events] == ["/hot/a", "/hot/b"]
        with pytest.raises(RuntimeError, match="a fault"):
            await removed_in_vain(store, "/hot/a")
        assert await store.read("/hot/a") == b"1"

    on(daemon, story)
    assert daemon.requests[fake.START] == daemon.requests[fake.END] == 2


def test_a_transaction_that_met_another_says_again_and_repeats_nothing(daemon: FakeXenstored) -> None:
    async def written_too_late(store: Client) -> None:
        async with store.transaction() as nodes:
            await nodes.write("/hot/a", b"1")
            daemon.write("/hot/a", "somebody else's")

    async def story(store: Client) -> None:
        with pytest.raises(Again):
            await written_too_late(store)
        assert await store.read("/hot/a") == b"somebody else's"

    on(daemon, story)
    assert daemon.requests[fake.WRITE] == 1


def test_a_block_that_fails_when_the_connection_is_lost_tells_its_own_error(daemon: FakeXenstored) -> None:
    async def story(store: Client) -> None:
        with pytest.raises(RuntimeError, match="a fault"):
            await removed_in_vain(store, "/a", lose=True)

    on(daemon, story)


def test_the_socket_is_where_libxenstore_looks_for_it() -> None:
    assert socket_paths({}) == (Path("/run/xenstored/socket"), Path("/var/run/xenstored/socket"))
    assert socket_paths({"XENSTORED_RUNDIR": "/r"}) == (Path("/r/socket"),)
    assert socket_paths({"XENSTORED_RUNDIR": "/r", "XENSTORED_PATH": "/p"}) == (Path("/p"),)
    assert PATHS
