# SPDX-License-Identifier: Apache-2.0
"""The words of the ledger: where a VM stands, and the moments of its way there."""

from __future__ import annotations

from typing import Final


class State:
    """The words for where a VM stands now, as `status` shows them."""

    UNREACHABLE: Final = "unreachable"
    GREETING: Final = "greeting"
    REFUSED: Final = "refused"
    KEY_CHANGED: Final = "key-changed"
    KEY_SHARED: Final = "key-shared"
    PROVISIONING: Final = "provisioning"
    READY: Final = "ready"
    #: What is wanted is in force, and an item of it that took longer has failed since.
    DEGRADED: Final = "degraded"
    BAD_DOCUMENT: Final = "bad-document"
    REMOVED: Final = "removed"


class Moment:
    """The words for the steps of a run, as `timeline` shows them: from a channel that was seen to what became of its VM.

    A run also begins with what follows its end on the same channel: another document, or another greeting.
    """

    SEEN: Final = "seen"
    CONNECTED: Final = "connected"
    GREETING: Final = "greeting"
    SEALED: Final = "sealed"
    SENT: Final = "sent"
    #: The guest began to work on an item, which the moment's detail names.
    ITEM: Final = "item"
    UNCONFIRMED: Final = "unconfirmed"
    CONFIRMED: Final = "confirmed"
    REJECTED: Final = "rejected"
    #: The guest's answer; the detail is its outcome.
    ANSWERED: Final = "answered"
    #: It had all of it already.
    IN_FORCE: Final = "in-force"
    #: What was under way has come to its end; the detail names it.
    REPORTED: Final = "reported"
    #: The stream, or the session on it, is over; the detail says why.
    LOST: Final = "lost"
