# SPDX-License-Identifier: Apache-2.0
"""The state table: which input takes which role from which state to which. The code follows it, PROTOCOL.md prints it."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import Final

from pv_channel.errors import LocalError


class _Word(Enum):
    """A word of the table. Members are single objects, so identity hashes them: the table is read once for each line."""

    __hash__ = object.__hash__


class Role(_Word):
    """The host is the initiator; the guest never speaks before it is spoken to."""

    HOST = "host"
    GUEST = "guest"


class State(_Word):
    """Where one end of a stream stands."""

    IDLE = "idle"
    GREETING = "greeting"
    SILENT = "silent"
    ANSWERED = "answered"
    SEALED = "sealed"
    RENEWING = "renewing"


class Input(_Word):
    """What can happen to one end."""

    #: The host sends its greeting, the first time or again.
    GREET = "greet"
    #: The host reads a guest's answer that completes the handshake.
    ANSWER = "answer"
    #: The guest reads a greeting that it believes.
    GREETING = "greeting"
    #: The guest opens the first line of the session that it answered: now it knows that the host holds its key.
    FIRST_LINE = "first line"
    #: A line of the live session opens.
    LINE = "line"
    #: The guest cannot open what claims to be that first line, or finds it out of order.
    FALSE_START = "false start"
    #: A refusal instead of an answer, or a greeting that is refused: said, counted, and nothing changes.
    REFUSAL = "refusal"
    #: A bad tag, a gap, a message that is none, an unknown session, silence: the live session is over.
    DOUBT = "doubt"


TABLE: Final = MappingProxyType(
    {
        (Role.HOST, State.IDLE, Input.GREET): State.GREETING,
        (Role.HOST, State.GREETING, Input.GREET): State.GREETING,
        (Role.HOST, State.GREETING, Input.ANSWER): State.SEALED,
        (Role.HOST, State.GREETING, Input.REFUSAL): State.GREETING,
        (Role.HOST, State.GREETING, Input.DOUBT): State.IDLE,
        (Role.HOST, State.SEALED, Input.LINE): State.SEALED,
        (Role.HOST, State.SEALED, Input.DOUBT): State.IDLE,
        (Role.GUEST, State.SILENT, Input.GREETING): State.ANSWERED,
        (Role.GUEST, State.SILENT, Input.REFUSAL): State.SILENT,
        (Role.GUEST, State.ANSWERED, Input.GREETING): State.ANSWERED,
        (Role.GUEST, State.ANSWERED, Input.REFUSAL): State.ANSWERED,
        (Role.GUEST, State.ANSWERED, Input.FIRST_LINE): State.SEALED,
        (Role.GUEST, State.ANSWERED, Input.FALSE_START): State.SILENT,
        (Role.GUEST, State.SEALED, Input.LINE): State.SEALED,
        (Role.GUEST, State.SEALED, Input.GREETING): State.RENEWING,
        (Role.GUEST, State.SEALED, Input.REFUSAL): State.SEALED,
        (Role.GUEST, State.SEALED, Input.DOUBT): State.SILENT,
        (Role.GUEST, State.RENEWING, Input.LINE): State.RENEWING,
        (Role.GUEST, State.RENEWING, Input.GREETING): State.RENEWING,
        (Role.GUEST, State.RENEWING, Input.REFUSAL): State.RENEWING,
        (Role.GUEST, State.RENEWING, Input.FIRST_LINE): State.SEALED,
        (Role.GUEST, State.RENEWING, Input.FALSE_START): State.SEALED,
        (Role.GUEST, State.RENEWING, Input.DOUBT): State.ANSWERED,
    }
)


def after(role: Role, state: State, happened: Input) -> State:
    """The next state; raise `LocalError` for what cannot happen in *state*."""
    try:
        return TABLE[role, state, happened]
    except KeyError:
        raise LocalError(f"a {role.value} that is {state.value} has no '{happened.value}'") from None
