# SPDX-License-Identifier: Apache-2.0
"""Find the channel, open it, converse, and when the port goes away begin again: for ever, or until one document was answered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from guest_agent.conversation import Conversation, StartOver, WrongTty
from guest_agent.log import INFO
from guest_agent.port import Port, PortAbsent, PortBusy, PortGone
from pv_channel.messages import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from guest_agent.ours import Ours

#: Between two looks for the channel: after a save and restore it is back within half a second; a missing one is no hurry.
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
#: A port that served this long was the right one: its end is an event, not a failure to be slow about.
SERVED_SECONDS: Final = 5.0
#: How long `--once` waits for the host to acknowledge the answer.
LAST_WORDS_SECONDS: Final = 5.0
_FAILED: Final = 1
_FINE: Final = (Outcome.APPLIED, Outcome.UNCHANGED)


class Agent:
    """One guest's side. *ttys* gives the candidates, most likely first; *certain* where the operator named the only one.

    *once*: `run` returns after the first answered document, or after *wait* seconds without a word that the host signed for.
    """

    def __init__(
        self,
        ours: Ours,
        ttys: Callable[[], list[str]],
        *,
        certain: bool,
        once: bool,
        wait: float,
        missing: tuple[type[Exception], ...] = (),
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ours, self._ttys, self._certain = ours, ttys, certain
        self._once, self._wait = once, wait
        self._missing = missing
        self._now, self._sleep = now, sleep
        self._patience = now() + wait
        self._delay = FIRST_DELAY
        self._status: int | None = None

    def run(self) -> int:
        """The exit status, once there is one; without *once* it serves for ever."""
        while True:
            for step in (self._try_candidates, self._pause):
                status = step()
                if status is not None:
                    return status

    def _try_candidates(self) -> int | None:
        log = self._ours.log
        try:
            ttys = self._ttys()
        except self._missing as exc:
            log.once("channel", str(exc), str(exc))
            return None
        for tty in ttys:
            try:
                with Port(tty) as port:
                    return self._converse(port)
            except WrongTty as exc:
                log.once("channel", str(exc), f"{exc}; trying the next tty")
            except PortBusy as exc:
                log.once("port", str(exc), str(exc))
            except PortAbsent as exc:
                if tty == ttys[0]:  # most of the others have nobody behind them for as long as the guest runs
                    log.once("port", str(exc), f"{exc}; looking for the channel elsewhere")
            except (PortGone, StartOver) as exc:
                log.once("port", str(exc), f"{exc}; looking for the channel again")
                if self._status is not None:
                    return self._status
        return None

    def _converse(self, port: Port) -> int:
        """Serve *port* until there is an exit status; raise what `Conversation.step` does."""
        conversation = Conversation(port, self._ours, certain=self._certain)
        self._ours.readiness.port_is_open()
        self._ours.log.once("port", port.path, f"listening on {port.path}", INFO)
        opened = self._now()
        try:
            while not self._is_over(conversation):
                conversation.step(self._due())
        finally:
            self._heed(conversation)
            if conversation.heard is not None or self._now() - opened >= SERVED_SECONDS:
                self._delay = FIRST_DELAY
                self._ours.log.forget("port")
        return _FAILED if self._status is None else self._status

    def _is_over(self, conversation: Conversation) -> bool:
        """Whether *once* is through: answered and acknowledged, or out of patience."""
        self._heed(conversation)
        if not self._once:
            return False
        if self._status is None:
            return self._out_of_patience()
        return not conversation.outstanding or self._now() >= self._patience

    def _heed(self, conversation: Conversation) -> None:
        """Take over what the conversation came to."""
        if self._status is not None:
            return
        if conversation.heard is not None:
            self._patience = max(self._patience, conversation.heard + self._wait)
        if self._once and conversation.result is not None:
            self._status = 0 if conversation.result.outcome in _FINE else _FAILED
            self._patience = self._now() + LAST_WORDS_SECONDS

    def _due(self) -> float:
        """Seconds until something other than the port wants attention."""
        now = self._now()
        due = self._ours.readiness.check(now)
        return min(due, max(self._patience - now, 0.0)) if self._once else due

    def _pause(self) -> int | None:
        """Wait before the next look, longer each time; the exit status when *once* is out of patience."""
        end = self._now() + self._delay
        self._delay = min(self._delay * 2, LONGEST_DELAY)
        while self._now() < end:
            if self._once and self._out_of_patience():
                return _FAILED
            self._sleep(min(self._due(), max(end - self._now(), 0.0)))
        return None

    def _out_of_patience(self) -> bool:
        if self._now() < self._patience:
            return False
        self._ours.log.fail(f"no host that this guest believes gave it a document within {self._wait:g} s")
        return True
