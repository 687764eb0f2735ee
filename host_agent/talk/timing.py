# SPDX-License-Identifier: Apache-2.0
"""How long the host waits for what; every wait has its number here."""

from __future__ import annotations

from typing import Final, NamedTuple


class Timing(NamedTuple):
    """Seconds. The defaults are for VMs on the same machine whose guest may be booting."""

    #: Between the first greetings: a guest that is up answers within milliseconds, one that opens its tty now a little later.
    first_greetings: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    #: Then, for as long as it takes: a guest that boots waits at most this long.
    greeting_every: float = 5.0
    #: However often a guest makes us greet anew.
    between_greetings: float = 0.1
    #: A refusal lasts until a person does something about it.
    after_refusal: float = 30.0
    #: From a document, or from the last word of progress, to the result: a guest may run slow commands for an item.
    result: float = 120.0
    #: From a document to its result, however much progress is told.
    result_at_most: float = 1800.0
    #: Between questions to a guest that works on a document: one that died of it and runs again is met again soon.
    while_working: float = 10.0
    #: From an answer to the first question whether the guest is there: its addresses come up a little later.
    first_ping: float = 5.0
    #: Between questions whether the guest is there.
    ping_every: float = 30.0
    #: From such a question to its answer.
    pong: float = 20.0
    #: Between two looks at the directories of documents and sockets; a thousand files take a few milliseconds.
    look_every: float = 1.0
    #: At least this long, however often xenstore changes.
    between_looks: float = 0.05
    #: At the start, for xenstore to be read: what is found afterwards begins the same streams anew.
    first_survey: float = 5.0
    #: A socket that is missing for so long is not just being made anew.
    missing: float = 1.0
    #: A domain that has no channel for so long is not just being made: the toolstack writes its nodes one by one.
    nowhere: float = 10.0
    #: From a greeting that nobody reads to saying so: a QEMU reads at once where its guest has got as far as the channel.
    unread: float = 5.0
    #: From the first greeting on a stream to saying that no guest answers: for one to boot.
    answer: float = 30.0


DEFAULT: Final = Timing()
