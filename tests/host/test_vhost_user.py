# SPDX-License-Identifier: Apache-2.0
"""The vhost-user device of ours: what it serves a guest, and that no front-end can have an exception or a descriptor of it."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_agent.backends.vhost_user_device import FEATURES, Device
from host_agent.backends.vhost_user_message import HEADER, MAX_PAYLOAD, Request, encode_number
from host_agent.backends.vhost_user_rng import main
from tests.host.front_end import AVAILABLE, BUFFERS, GUEST, MEMORY_BYTES, NEXT, SIZE, USER, WRITE, FrontEnd, content


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def ask_for_ever(front_end: FrontEnd) -> None:
    """And read no answer."""
    while True:
        front_end.say(Request.GET_FEATURES)


def test_a_guests_buffers_are_filled_and_it_is_told() -> None:
    with FrontEnd() as front_end:
        front_end.run()
        front_end.descriptor(0, GUEST + BUFFERS, 64)
        front_end.offer(0)
        assert front_end.used(1) == [(0, 64)]
        assert front_end.buffer(BUFFERS, 65) == b"r" * 64 + b"\0"


def test_a_chain_is_filled_to_its_end_and_a_long_one_in_part() -> None:
    with FrontEnd() as front_end:
        front_end.run()
        front_end.descriptor(3, GUEST + BUFFERS, 10, WRITE | NEXT, 5)
        front_end.descriptor(5, GUEST + BUFFERS + 0x100, 20)
        front_end.descriptor(6, GUEST + BUFFERS + 0x200, 700_000)
        front_end.offer(3, 6)
        assert front_end.used(2) == [(3, 30), (6, 65536)]
        assert front_end.buffer(BUFFERS + 0x100, 20) == b"r" * 20


def test_what_was_made_available_before_the_queue_ran_is_served_when_it_does() -> None:
    with FrontEnd() as front_end:
        front_end.descriptor(0, GUEST + BUFFERS, 8)
        front_end.offer(0)
        front_end.run()
        assert front_end.used(1) == [(0, 8)]


def test_a_queue_goes_round_and_says_where_it_stands_when_it_is_stopped() -> None:
    with FrontEnd() as front_end:
        front_end.run()
        front_end.descriptor(1, GUEST + BUFFERS, 4)
        for count in range(1, SIZE + 3):
            front_end.offer(1)
            front_end.used(count)
        assert front_end.ask(Request.GET_VRING_BASE, struct.pack("=2I", 0, 0)) == struct.pack("=2I", 0, SIZE + 2)
        front_end.offer(1)
        front_end.sync()
        assert len(front_end.used(SIZE + 2)) == SIZE + 2


def test_a_guest_that_wants_no_interrupt_gets_none() -> None:
    with FrontEnd() as front_end:
        front_end.run()
        front_end.descriptor(0, GUEST + BUFFERS, 8)
        front_end.offer(0)
        front_end.used(1)
        front_end.sync()
        with suppress(BlockingIOError):
            os.eventfd_read(front_end.call)  # what told of the first
        os.pwrite(front_end.memory, struct.pack("<HHH", 1, 2, 0), AVAILABLE)
        os.pwrite(front_end.memory, struct.pack("<H", 0), AVAILABLE + 6)
        os.eventfd_write(front_end.kick, 1)
        while front_end.buffer(0x3002, 2) != b"\2\0":
            front_end.sync()
        front_end.sync()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(front_end.call)


def test_a_word_that_it_was_done_is_given_where_it_is_asked_for() -> None:
    with FrontEnd() as front_end:
        front_end.negotiate()
        front_end.say(Request.SET_VRING_NUM, struct.pack("=2I", 0, SIZE), flags=1 | 8)
        assert front_end.reply(Request.SET_VRING_NUM) == encode_number(0)


def test_a_front_end_that_leaves_ends_the_session_and_leaves_nothing_open() -> None:
    before = descriptors()
    with FrontEnd() as front_end:
        front_end.run()
        assert front_end.ended() == "the front-end has left"
    assert descriptors() == before


def bad(request: int, payload: bytes = b"", *more: int, flags: int = 1) -> tuple[int, bytes, tuple[int, ...], int]:
    return request, payload, more, flags


#: -1 stands for a descriptor of the guest's memory, -2 for one of /dev/null.
HOSTILE = {
    "an unknown request": bad(99),
    "a version of another time": bad(Request.GET_FEATURES, flags=2),
    "a reply that nobody asked for": bad(Request.GET_FEATURES, flags=5),
    "a message without an end": (Request.GET_FEATURES, b"x" * (MAX_PAYLOAD + 1), (), 1),
    "features that were not offered": bad(Request.SET_FEATURES, encode_number(FEATURES | 2)),
    "protocol features that were not offered": bad(Request.SET_PROTOCOL_FEATURES, encode_number(1)),
    "a number that is cut short": bad(Request.SET_FEATURES, b"xyz"),
    "memory without a descriptor": bad(Request.SET_MEM_TABLE, struct.pack("=2I4Q", 1, 0, GUEST, 4096, USER, 0)),
    "descriptors without memory": bad(Request.SET_MEM_TABLE, struct.pack("=2I", 0, 0), -1),
    "memory that is longer than its file": bad(
        Request.SET_MEM_TABLE, struct.pack("=2I4Q", 1, 0, GUEST, MEMORY_BYTES + 4096, USER, 0), -1
    ),
    "memory of a size that overflows": bad(
        Request.SET_MEM_TABLE, struct.pack("=2I4Q", 1, 0, GUEST, 2**64 - 1, USER, 2**64 - 1), -1
    ),
    "memory without bytes": bad(Request.SET_MEM_TABLE, struct.pack("=2I4Q", 1, 0, GUEST, 0, USER, 0), -1),
    "memory of a device": bad(Request.SET_MEM_TABLE, struct.pack("=2I4Q", 1, 0, GUEST, 4096, USER, 0), -2),
    "more regions than a message has": bad(Request.SET_MEM_TABLE, struct.pack("=2I", 9, 0), -1),
    "a table that is cut short": bad(Request.SET_MEM_TABLE, b"1234"),
    "a second queue": bad(Request.SET_VRING_NUM, struct.pack("=2I", 1, 8)),
    "a queue of no entries": bad(Request.SET_VRING_NUM, struct.pack("=2I", 0, 0)),
    "a queue of three entries": bad(Request.SET_VRING_NUM, struct.pack("=2I", 0, 3)),
    "a queue of too many entries": bad(Request.SET_VRING_NUM, struct.pack("=2I", 0, 65536)),
    "a kick that is no eventfd": bad(Request.SET_VRING_KICK, encode_number(0), -2),
    "a call that is no eventfd": bad(Request.SET_VRING_CALL, encode_number(0), -1),
    "a kick that is not there": bad(Request.SET_VRING_KICK, encode_number(0)),
    "a kick that was not to be there": bad(Request.SET_VRING_KICK, encode_number(0x100), -2),
    "a kick of another queue": bad(Request.SET_VRING_KICK, encode_number(7), -2),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_has_no_place_in_the_protocol_ends_the_session_and_leaves_nothing_open(hostile: str) -> None:
    before = descriptors()
    request, payload, which, flags = HOSTILE[hostile]
    null = os.open(os.devnull, os.O_RDWR)
    with FrontEnd() as front_end:
        front_end.negotiate()
        front_end.say(request, payload, [front_end.memory if each == -1 else null for each in which], flags=flags)
        assert front_end.broken() not in ("", "the front-end has left")
    os.close(null)
    assert descriptors() == before


@pytest.mark.parametrize(
    "queue",
    [
        lambda f: f.descriptor(0, GUEST + MEMORY_BYTES, 8),
        lambda f: f.descriptor(0, GUEST + MEMORY_BYTES - 4, 8),
        lambda f: f.descriptor(0, 0, 8),
        lambda f: f.descriptor(0, 2**64 - 4, 8),
        lambda f: f.descriptor(0, GUEST + BUFFERS, 8, 0),
        lambda f: f.descriptor(0, GUEST + BUFFERS, 8, WRITE | 4),
        lambda f: f.descriptor(0, GUEST + BUFFERS, 8, WRITE | NEXT, 0),
        lambda f: f.descriptor(0, GUEST + BUFFERS, 8, WRITE | NEXT, 60000),
    ],
    ids=["outside", "half outside", "nowhere", "round the end", "for reading", "indirect", "a circle", "beyond the table"],
)
def test_a_queue_that_is_none_ends_the_session(queue: object) -> None:
    before = descriptors()
    with FrontEnd() as front_end:
        front_end.run()
        assert callable(queue)
        queue(front_end)
        front_end.offer(0)
        assert front_end.broken()
    assert descriptors() == before


def test_an_available_ring_that_runs_away_ends_the_session() -> None:
    with FrontEnd() as front_end:
        front_end.run()
        os.pwrite(front_end.memory, struct.pack("<HH", 0, SIZE + 1), AVAILABLE)
        os.eventfd_write(front_end.kick, 1)
        assert "available entries" in front_end.broken()


def test_a_queue_that_was_placed_nowhere_ends_the_session() -> None:
    with FrontEnd() as front_end:
        front_end.negotiate()
        front_end.events()
        front_end.say(Request.SET_VRING_ENABLE, struct.pack("=2I", 0, 1))
        assert "nobody has said the place of" in front_end.broken()


def test_a_front_end_that_reads_no_answers_is_left() -> None:
    with FrontEnd() as front_end:
        with pytest.raises(ConnectionError):
            ask_for_ever(front_end)
        assert front_end.ended().startswith(("the front-end takes no answer", "the front-end does not read"))


def test_more_descriptors_than_a_message_has_are_all_closed() -> None:
    before = descriptors()
    with FrontEnd() as front_end:
        front_end.say(Request.GET_FEATURES, b"", [front_end.memory] * 9)
        assert "more than 8 descriptors" in front_end.broken()
    with FrontEnd() as front_end:
        for _ in range(3):  # with parts of one message
            socket.send_fds(front_end.end, [b"x"], [front_end.memory] * 4)
        assert "more than 8 descriptors" in front_end.broken()
    assert descriptors() == before


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=60),
                st.builds(
                    lambda request, flags, payload: HEADER.pack(request, flags, len(payload)) + payload,
                    st.integers(0, 40),
                    st.sampled_from([1, 1, 1, 9]),
                    st.binary(max_size=48) | st.just(bytes(8)) | st.just(bytes(40)),
                ),
            ),
            st.lists(st.integers(0, 2), max_size=3),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_any_bytes_with_any_descriptors_are_no_exception_and_leave_nothing_open(sent: list[tuple[bytes, list[int]]]) -> None:
    before = descriptors()
    ours, its = socket.socketpair()
    memory, event = os.memfd_create("guest"), os.eventfd(0, os.EFD_NONBLOCK)
    os.truncate(memory, 8192)
    kinds = [memory, event, ours.fileno()]
    for data, which in sent:
        socket.send_fds(ours, [data or b"\0"], [kinds[each] for each in which])
    ours.shutdown(socket.SHUT_WR)
    with its:
        assert Device(its, content).serve()
    ours.close()
    os.close(memory)
    os.close(event)
    assert descriptors() == before


def test_the_program_says_what_it_is_whatever_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--fd=nonsense", "--print-capabilities", "--bogus"]) == 0
    assert '"type": "rng"' in capsys.readouterr().out
