# SPDX-License-Identifier: Apache-2.0
"""Serve one channel of one VM, as `serve` serves many: on the stream that is given, or at a path for as long as we are let."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from host_agent.channels.connect import connect_socket
from host_agent.channels.peer import check_client, expected
from host_agent.errors import BadFile, HostError, Unreachable, shown
from host_agent.ledger.standing import Moment, State
from host_agent.log.happenings import Happening
from host_agent.log.teller import Teller
from host_agent.log.telling import telling
from host_agent.sd_notify import Notifier
from host_agent.talk.backoff import Backoff
from host_agent.talk.conversation import Conversation
from host_agent.talk.drive import Batch, Drive, Waiting
from host_agent.talk.notices import What
from host_agent.talk.silence import Silence
from host_agent.talk.timing import DEFAULT, Timing
from pv_channel.states import State as End

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.backends.given_socket import Given
    from host_agent.documents.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.notices import Notice

#: Between two looks whether anybody answers on the stream.
LOOK_SECONDS: Final = 1.0


class OneChannel:
    """The channel *name* of the VM that *read* says what it shall become, by whoever *identify* says we are.

    Both are asked now, when they may raise `HostError`, and again at SIGHUP, when what cannot be read leaves all as it is.
    """

    def __init__(
        self, read: Callable[[], Wanted], name: bytes, identify: Callable[[], Identity], ledger: Ledger, timing: Timing = DEFAULT
    ) -> None:
        self._read, self._identify = read, identify
        self.wanted, self._identity = read(), identify()
        self._name, self._ledger, self._timing = name, ledger, timing
        self._drive: Drive | None = None
        self._silence: Silence | None = None

    async def serve(self, where: Path | Given) -> None:
        """Until SIGTERM or SIGINT, or the end of the stream that was given.

        Raise `HostError` where there is no stream to begin with, or the ledger fails.
        """
        loop = asyncio.get_running_loop()
        self._clock, self._stop = loop.time, asyncio.Event()
        self._batch = Batch(self._ledger, loop)
        self._teller = Teller(self.wanted.name, self._record, self._clock)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._read_again)
        self._want_on_record()
        try:
            await (self._at_path(where) if isinstance(where, Path) else self._on_given(where))
        finally:
            self._batch.close()

    async def _at_path(self, path: Path) -> None:
        """At first there has to be a stream; from then on the VM may come and go."""
        who, backoff = expected(None), Backoff()
        await self._converse(connect_socket(path, who), shown(path))
        while not self._stop.is_set():
            await self._wait(backoff.next())
            try:
                descriptor = connect_socket(path, who)
            except Unreachable as exc:
                self._stand(str(exc))
                continue
            if await self._converse(descriptor, shown(path)):
                backoff.reset()

    async def _on_given(self, given: Given) -> None:
        if not given.listens:
            await self._converse(given.end.detach(), given.name)
            return
        with given.end:
            descriptor = await self._accepted(given)
        if descriptor is not None:
            await self._converse(descriptor, given.name)

    async def _accepted(self, given: Given) -> int | None:
        """The first client of the listener that may be there; None where we are to end first."""
        Notifier().ready(f"waiting for a connection to {given.name}")
        loop = asyncio.get_running_loop()
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while True:
                accepting = asyncio.create_task(loop.sock_accept(given.end))
                await asyncio.wait((accepting, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not accepting.done():
                    accepting.cancel()
                    await asyncio.gather(accepting, return_exceptions=True)
                    return None
                end, _ = accepting.result()
                try:
                    check_client(given.name, end, expected(None))
                    return end.detach()
                except Unreachable as exc:
                    end.close()
                    self._stand(str(exc), logging.ERROR, Happening.SQUATTED)
        finally:
            stopped.cancel()

    async def _converse(self, descriptor: int, name: str) -> bool:
        """One stream from its beginning to its end, or ours; whether the guest answered on it."""
        self._teller.tell(logging.INFO, f"its channel is at {name}", Happening.SEEN)
        self._write(lambda ledger: ledger.seen(self.wanted.key, None, name))
        self._write(lambda ledger: ledger.moment(self.wanted.key, Moment.CONNECTED, name))
        self._silence = Silence(Path(name), self._timing, self._clock())
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._drive = drive = Drive(descriptor, self._batch, Waiting(self._begin, closed))
        drive.begin()
        Notifier().ready(f"serving {self._teller.about['vm']} at {name}")
        try:
            while not closed.done() and not self._stop.is_set():
                await self._wait(LOOK_SECONDS, closed)
                if not closed.done():
                    self._look(drive)
        finally:
            self._drive = None
            drive.leave("told to end")
        self._stand(closed.result())
        return drive.conversation.was_sealed

    def _begin(self, now: float) -> Conversation:
        return Conversation(
            self.wanted, self._name, self._identity, self._ledger, self._hear, now=now, timing=self._timing
        )

    def _look(self, drive: Drive) -> None:
        """Say it where nobody answers."""
        live = drive.conversation.end.state is End.SEALED
        if self._silence is None or live:
            return
        stands = self._silence.look(drive.backlog(), drive.conversation.end, self._clock())
        if stands is not None:
            self._stand(stands[1], happening=Happening.SILENT, state=stands[0])

    async def _wait(self, seconds: float, *also: asyncio.Future[str]) -> None:
        """For so long, or until we are to end or one of *also* is done."""
        stopped = asyncio.create_task(self._stop.wait())
        waits: list[asyncio.Future[Any]] = [stopped, *also]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    def _hear(self, notice: Notice) -> None:
        if self._silence is not None and notice.what is not What.GREETING:
            self._silence.heard(self._clock(), over=notice.what is What.LOST)
        self._teller.hear(telling(notice, self.wanted))

    def _read_again(self) -> None:
        """SIGHUP: what the VM shall become, and who we are, may be others now."""
        try:
            identity, wanted = self._identify(), self._read()
            if wanted.key != self.wanted.key:
                raise BadFile(f"the document is for {shown(wanted.key)} now; cure: another backend program for that VM")
        except HostError as exc:
            self._teller.tell(logging.ERROR, f"{exc}; what was read before stays in force", Happening.DOCUMENT_BAD)
            return
        self.wanted, self._identity = wanted, identity
        self._teller.again()
        self._want_on_record()
        if self._drive is not None:
            self._drive.be(identity)
            self._drive.want(wanted)

    def _want_on_record(self) -> None:
        wanted, number = self.wanted, self.wanted.document.generation
        self._write(
            lambda ledger: ledger.want(wanted.key, wanted.name, number if isinstance(number, int) else None, wanted.digest)
        )

    def _stand(
        self, why: str, level: int = logging.INFO, happening: Happening = Happening.UNREACHABLE, state: str = State.UNREACHABLE
    ) -> None:
        self._teller.tell_once(level, why, happening)
        self._write(lambda ledger: ledger.stand(self.wanted.key, state, why))

    def _record(self, text: str) -> None:
        self._write(lambda ledger: ledger.event(self.wanted.key, text))

    def _write(self, record: Callable[[Ledger], None]) -> None:
        self._batch.write(record)
