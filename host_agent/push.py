# SPDX-License-Identifier: Apache-2.0
"""Give one VM one document, wait for its answer, and say what happened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.channels.connect import open_stream
from host_agent.channels.peer import SQUATTED
from host_agent.errors import Unreachable, shown
from host_agent.talk.answer import item_values, result_values, why
from host_agent.talk.backoff import Backoff
from host_agent.talk.conversation import Conversation
from host_agent.talk.drive import Batch, Drive, Waiting
from host_agent.talk.notices import GOOD, Notice, What
from host_agent.talk.silence import seen, to_look_at
from host_agent.talk.timing import DEFAULT, Timing
from host_agent.who import operator
from pv_channel.planned import problem
from pv_channel.planned import values as planned_values
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.channels.endpoint import Endpoint
    from host_agent.documents.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.notices import Settlement
    from pv_channel.messages import Planned

#: Kinds of `Unreachable` that waiting does not cure.
_HOPELESS: Final = frozenset({"forbidden", "too-long", "no-socket", "no-pty", SQUATTED})
#: A refusal or a quarrel over a key stays; a person must act.
_FINAL: Final = {What.REFUSED, What.KEY_CHANGED, What.KEY_SHARED}
#: What an operator may want to read later of a push.
_ON_RECORD: Final = {What.UNCONFIRMED, What.CONFIRMED, What.REJECTED, What.REPORTED, What.FACTS, What.NOT_AGAIN}
#: How a dry run ends where the document can come into force.
PLANNED: Final = "planned"


class Ending(NamedTuple):
    """How a push ended: one word, a sentence with what to do next where it went wrong, and the answer if there was one."""

    outcome: str
    text: str
    settlement: Settlement | None = None
    planned: Planned | None = None

    @property
    def good(self) -> bool:
        """Whether the guest now is what it should become, as far as is known; or, on a dry run, can become that."""
        return self.outcome in (*GOOD, PLANNED)

    def values(self, wanted: Wanted, seconds: float) -> dict[str, Any]:
        """For JSON."""
        settlement = self.settlement
        answer: dict[str, Any] = {}
        if self.planned is not None:
            answer = planned_values(self.planned)
        elif settlement is not None:
            answer = {} if settlement.result is None else result_values(settlement.result)
            answer["items"] = item_values(settlement.items)
        empty = {"reason": "", "path": "", "detail": "", "milliseconds": 0, "items": [], "host-keys": []}
        return {
            "vm": printable(wanted.name, 200),
            "key": printable(wanted.key, 200),
            "outcome": self.outcome,
            "error": "" if self.good else self.text,
            "instance-id": wanted.document.instance_id,
            "generation": 0 if settlement is None else settlement.generation,
            "seconds": round(seconds, 3),
            **empty,
            **answer,
        }


class Manner(NamedTuple):
    """How to push. *dry_run*: only ask what it would take. *wait*: until no item is under way any more."""

    dry_run: bool = False
    wait: bool = True


_ORDINARY: Final = Manner()


class Push:
    """One document on its way to one VM."""

    def __init__(
        self, endpoint: Endpoint, wanted: Wanted, channel: bytes, identity: Identity, ledger: Ledger,
        tell: Callable[[str], None], timing: Timing = DEFAULT, manner: Manner = _ORDINARY,
    ) -> None:  # fmt: skip
        self._endpoint, self._wanted, self._channel = endpoint, wanted, channel
        self._identity, self._ledger, self._tell, self._timing = identity, ledger, tell, timing
        self._manner = manner
        self._told = ""
        self._drive: Drive | None = None
        self._settlement: Settlement | None = None

    async def run(self, timeout: float) -> Ending:
        """Do it within *timeout* seconds; raise `LedgerTrouble` where nothing can be recorded, and so nothing may be sent."""
        loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = loop.create_future()
        trying = asyncio.create_task(self._try_on())
        waited: set[asyncio.Future[Any]] = {trying, self._ending}
        try:
            await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if trying.done():
                trying.result()
            if self._ending.done():
                return self._ending.result()
            return Ending("timeout", self._what_to_look_at(timeout), self._settlement)
        finally:
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)

    async def _try_on(self) -> None:
        """Connect and converse, again and again, until there is an ending."""
        loop = asyncio.get_running_loop()
        batch, backoff = Batch(self._ledger, loop), Backoff()
        while not self._ending.done():
            try:
                descriptor = open_stream(self._endpoint)
            except Unreachable as exc:
                self._say(str(exc))
                if exc.word in _HOPELESS:
                    self._ending.set_result(Ending("unreachable", str(exc)))
            else:
                self._say(f"connected to {shown(self._endpoint.path)}")
                self._say(await self._converse(descriptor, batch))
            await asyncio.sleep(backoff.next())

    async def _converse(self, descriptor: int, batch: Batch) -> str:
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._drive = drive = Drive(descriptor, batch, Waiting(self._begin, closed))
        drive.begin()
        try:
            return await closed
        finally:
            batch.flush()
            drive.leave("done")

    def _begin(self, now: float) -> Conversation:
        return Conversation(
            self._wanted, self._channel, self._identity, self._ledger, self._hear, now=now, timing=self._timing,
            who=f"push by {operator()}", dry_run=self._manner.dry_run,
        )  # fmt: skip

    def _hear(self, notice: Notice) -> None:
        if notice.what in _ON_RECORD:
            self._ledger.event(self._wanted.key, notice.text)
        if notice.what in _FINAL:
            outcome = "refused" if notice.what is What.REFUSED else notice.what.value
            self._end(Ending(outcome, notice.text))
        elif notice.planned is not None:
            self._end(_of_plan(notice.planned, notice.text))
        elif notice.settlement is not None:
            before = self._settlement
            if before is not None and before.generation == notice.settlement.generation:  # the session was lost meanwhile
                self._settle(before.knowing(list(notice.settlement.reported)))
            else:
                self._settle(notice.settlement)
        else:
            self._say(notice.text)
            if notice.reported is not None and self._settlement is not None:
                self._settle(self._settlement.knowing(notice.reported))

    def _settle(self, settlement: Settlement) -> None:
        """End with that, unless something of it is under way that is to be waited for."""
        self._settlement = settlement
        name, under_way = f"generation {settlement.generation}", ", ".join(printable(item, 40) for item in settlement.pending)
        if under_way and self._manner.wait:
            self._say(f"{name}: {settlement.outcome}; waiting for {under_way}")
            return
        text = f"{name}: {settlement.outcome}"
        if settlement.result is None:
            text += "; it was in force already, and nothing " + ("would be sent" if self._manner.dry_run else "was sent")
        if under_way:
            text += f"; under way: {under_way}"
        elif not settlement.good:
            text = ": ".join(part for part in (text, why(settlement)) if part)
        self._end(Ending(settlement.outcome, text, settlement))

    def _end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._tell(text)

    def _what_to_look_at(self, timeout: float) -> str:
        """Why there may have been no answer, from what was seen of the stream."""
        if self._settlement is not None:
            under_way = ", ".join(printable(item, 40) for item in self._settlement.pending)
            return (
                f"generation {self._settlement.generation} is {self._settlement.outcome}, and under way after {timeout:g} s:"
                f" {under_way}; 'push' of the same document again, or 'serve', hears what becomes of it"
            )
        if self._drive is None:
            return f"no connection in {timeout:g} s: {self._told}"
        conversation = self._drive.conversation
        if conversation.was_sealed:
            return f"the guest answered, then gave no result within {timeout:g} s: see pv-guest-agent's journal in the guest"
        return f"no answer in {timeout:g} s, {seen(conversation.end)}. {to_look_at(self._endpoint.path)}"


def _of_plan(planned: Planned, text: str) -> Ending:
    return Ending(planned_values(planned)["outcome"], problem(planned) or text, planned=planned)
