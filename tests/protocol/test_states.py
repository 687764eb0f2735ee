# SPDX-License-Identifier: Apache-2.0
"""Every row of the state table happens to real ends, and nothing happens that is no row."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from pv_channel import guest, host
from pv_channel.errors import LocalError
from pv_channel.line import finish, header
from pv_channel.messages import Ping, Pong
from pv_channel.states import TABLE, Input, Role, State, after
from tests.protocol.ends import Pair, make_host

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES = {
    Role.HOST: {State.IDLE, State.GREETING, State.SEALED},
    Role.GUEST: {State.SILENT, State.ANSWERED, State.SEALED, State.RENEWING},
}


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> set[tuple[Role, State, Input]]:
    """Every row that the ends took since the test began."""
    rows: set[tuple[Role, State, Input]] = set()

    def watching(role: Role, state: State, happened: Input) -> State:
        rows.add((role, state, happened))
        return after(role, state, happened)

    for end in (host, guest):
        monkeypatch.setattr(end, "after", watching)
    return rows


def answered() -> Pair:
    pair = Pair()
    pair.host.greet()
    pair.run()
    return pair


def renewing() -> Pair:
    """A guest in a live session that another host process greets; the pair's host is the new one."""
    pair = Pair().shake_hands()
    pair.new_host(1)
    pair.host.greet()
    pair.collect()
    pair.carry()
    return pair


GUEST_IN = {
    State.SILENT: Pair,
    State.ANSWERED: answered,
    State.SEALED: lambda: Pair().shake_hands(),
    State.RENEWING: renewing,
}


def greeted(pair: Pair) -> None:
    other = make_host(7)
    other.greet()
    pair.guest.receive(other.data_to_send())


def misgreeted(pair: Pair) -> None:
    other = make_host(8, uuid=bytes(16))
    other.greet()
    pair.guest.receive(other.data_to_send())


def first_line(pair: Pair) -> None:
    pair.run()
    pair.host.send(Ping(1))
    pair.run()


def false_start(pair: Pair) -> None:
    waiting = pair.guest._answered
    assert waiting is not None
    pair.guest.receive(finish(header(b">", *waiting.transport.ids, 1, 0), bytes(20)))


def live_line(pair: Pair) -> None:
    """The next line of the session that the guest has, whichever host process is on the pair."""
    live = pair.guest._live
    assert live is not None
    sealing = live._receiving
    head = header(b">", *live.ids, live.last_heard + 1, 0)
    pair.guest.receive(finish(head, type(sealing).encrypt_with_ad(sealing, head, b"")))


def live_doubt(pair: Pair) -> None:
    live = pair.guest._live
    assert live is not None
    pair.guest.receive(finish(header(b">", *live.ids, live.last_heard + 1, 0), bytes(20)))


GUEST_INPUTS: dict[Input, Callable[[Pair], None]] = {
    Input.GREETING: greeted,
    Input.REFUSAL: misgreeted,
    Input.FIRST_LINE: first_line,
    Input.FALSE_START: false_start,
    Input.DOUBT: live_doubt,
}
GUEST_ROWS = [row for row in TABLE if row[0] is Role.GUEST]


@pytest.mark.parametrize("row", GUEST_ROWS, ids=lambda row: f"{row[1].value}-{row[2].value}")
def test_each_row_of_the_guest_happens_to_a_guest(row: tuple[Role, State, Input], walked: set[Any]) -> None:
    _, state, happened = row
    pair = GUEST_IN[state]()
    assert pair.guest.state is state
    walked.clear()
    if happened is Input.LINE:
        hear_a_line(pair, walked)
    else:
        GUEST_INPUTS[happened](pair)
    assert row in walked
    assert pair.guest.state is TABLE[row]


def hear_a_line(pair: Pair, walked: set[Any]) -> None:
    """A line of the live session; in RENEWING it comes from the old host, which is still alive."""
    if pair.guest.state is State.SEALED:
        pair.host.send(Ping(1))
        pair.run()
        return
    pair = Pair().shake_hands()
    old, pair.host = pair.host, make_host(1)
    pair.host.greet()
    pair.guest.receive(pair.host.data_to_send())
    walked.clear()
    old.send(Ping(1))
    pair.guest.receive(old.data_to_send())
    assert pair.guest.state is State.RENEWING


def test_each_row_of_the_host_happens_to_a_host(walked: set[Any]) -> None:
    pair = Pair()
    pair.host.greet()
    pair.host.greet()
    pair.host.abandon("silence")
    refusing = Pair(make_host(uuid=bytes(16)))
    refusing.host.greet()
    refusing.run()
    pair.shake_hands()
    pair.guest.send(Pong(1))
    pair.run()
    pair.host.abandon("silence")
    assert walked >= {row for row in TABLE if row[0] is Role.HOST}


@pytest.mark.parametrize(("role", "state", "happened"), list(product(Role, State, Input)))
def test_what_is_no_row_is_a_local_error_and_what_is_stays_among_the_role_s_states(
    role: Role, state: State, happened: Input
) -> None:
    if (role, state, happened) in TABLE:
        assert state in ROLES[role]
        assert after(role, state, happened) in ROLES[role]
    else:
        with pytest.raises(LocalError, match=role.value):
            after(role, state, happened)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TABLE[Role.HOST, State.IDLE, Input.DOUBT] = State.IDLE  # type: ignore[index]  # that is the point
