# SPDX-License-Identifier: Apache-2.0
"""One VM that is served: connect, converse, and begin again, for as long as there is a document for it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.answer import why
from host_agent.backoff import Backoff
from host_agent.connect import connect_socket
from host_agent.conversation import Conversation
from host_agent.drive import Batch, Drive
from host_agent.errors import LedgerTrouble, Unreachable
from host_agent.notices import What
from host_agent.standing import State
from host_agent.teller import Teller
from pv_channel.messages import Outcome
from pv_channel.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger import Ledger
    from host_agent.notices import Notice, Settlement
    from host_agent.sockets import Socket
    from host_agent.timing import Timing

#: What may come again and again without anything having changed, and is said once.
_LEVEL: Final = {
    What.LOST: logging.WARNING, What.REFUSED: logging.WARNING, What.KEY_CHANGED: logging.ERROR, What.KEY_SHARED: logging.ERROR,
}  # fmt: skip


class Dom0(NamedTuple):
    """What all VMs of this host share."""

    channel: bytes
    identity: Identity
    ledger: Ledger
    batch: Batch
    timing: Timing


class Served:
    """The VM that *wanted* names, at the socket *path*."""

    def __init__(self, dom0: Dom0, wanted: Wanted, path: Path) -> None:
        self.wanted = wanted
        self.path = path
        self._socket: Socket | None = None
        self._dom0 = dom0
        self._drive: Drive | None = None
        self._wake = asyncio.Event()
        self._stands = ""
        self.teller = Teller(wanted.name, self._record, asyncio.get_running_loop().time)

    def want(self, wanted: Wanted) -> None:
        """The VM should become *wanted* from now on."""
        self.wanted = wanted
        self.teller.again()
        if self._drive is not None:
            self._drive.want(wanted)

    def socket_is(self, socket: Socket) -> None:
        """The VM's socket is this one; where it is a new one, do not wait any longer to try it."""
        if socket != self._socket:
            self.path, self._socket = socket.path, socket
            self._wake.set()

    async def serve(self) -> None:
        """Serve until cancelled. Only a fault of ours comes out as another exception."""
        backoff = Backoff()
        while True:
            self._wake.clear()
            try:
                if await self._converse():
                    backoff.reset()
            except (Unreachable, LedgerTrouble) as exc:
                self._stand(str(exc), logging.INFO if isinstance(exc, Unreachable) else logging.ERROR)
            await self._wait(backoff.next())

    async def _converse(self) -> bool:
        """One stream from its beginning to its end; whether the guest answered on it."""
        drive = Drive(connect_socket(self.path), self._dom0.batch, self._begin)
        self._drive = drive
        try:
            reason = await drive.closed
        finally:
            self._drive = None
            drive.leave("no longer served")
        self._stand(reason, logging.INFO)
        return drive.conversation.was_sealed

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _begin(self, now: float) -> Conversation:
        dom0 = self._dom0
        return Conversation(
            self.wanted, dom0.channel, dom0.identity, dom0.ledger, self._hear, now=now, timing=dom0.timing
        )

    def _hear(self, notice: Notice) -> None:
        self._stands = ""
        if notice.settlement is not None:
            self.teller.tell(*_of_settlement(notice.text, notice.settlement))
        elif notice.reported is not None:
            failed = any(item.outcome is Outcome.FAILED for item in notice.reported)
            self.teller.tell(logging.WARNING if failed else logging.INFO, notice.text)
        elif notice.what in (What.UNCONFIRMED, What.CONFIRMED, What.REJECTED):
            self.teller.tell(logging.WARNING if notice.what is What.REJECTED else logging.INFO, notice.text)
        elif notice.what in (What.MET, What.SENDING):
            self.teller.again()
            self.teller.tell(logging.INFO, notice.text)
        elif notice.what in _LEVEL:
            self.teller.tell_once(_LEVEL[notice.what], notice.text)

    def _stand(self, detail: str, level: int) -> None:
        """There is no stream to the VM, because of *detail*; on record where that is news."""
        self.teller.tell_once(level, detail)
        if self._stands != detail:
            self._stands = detail
            self._dom0.batch.write(lambda ledger: ledger.stand(self.wanted.key, State.UNREACHABLE, detail))

    def _record(self, text: str) -> None:
        self._dom0.batch.write(lambda ledger: ledger.event(self.wanted.key, text))


def _of_settlement(text: str, settlement: Settlement) -> tuple[int, str]:
    under_way = f"; under way: {', '.join(printable(item, 40) for item in settlement.pending)}" if settlement.pending else ""
    if settlement.good:
        return logging.INFO, text + under_way
    return logging.WARNING, f"{text}: {why(settlement)}"
