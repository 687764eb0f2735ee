# SPDX-License-Identifier: Apache-2.0
"""Drive conversations over descriptors: bytes in, bytes out, and the ledger committed before anything is sent."""

from __future__ import annotations

import errno
import os
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from host_agent.channels.connect import unread
from host_agent.errors import LedgerDamaged, LedgerTrouble
from host_agent.talk.confirm import Lookers, Looks
from host_agent.talk.counts import Counts
from host_agent.talk.intake import Intake
from host_agent.talk.streams import Streams
from host_agent.talk.wheel import Wheel
from pv_channel.states import State as End

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from host_agent.documents.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.confirmation import Verdict
    from host_agent.talk.conversation import Conversation

#: Read at once from one VM: several times what an honest guest has under way.
READ_BYTES: Final = 8 * 1024

_ENDS: Final = {
    errno.ECONNRESET: "QEMU reset the connection: the VM is restarting, or its QEMU died",
    errno.EPIPE: "QEMU closed the connection while we wrote",
    errno.EIO: "the terminal hung up: its QEMU is gone",
}
CLOSED: Final = "QEMU closed the connection: the VM is off, restarting or migrating, or its QEMU died"


class Batch:
    """What the streams of one loop share: one epoll, one clock, and what has to be committed and then written.

    That is gathered over one turn of the loop: hundreds of VMs share a commit.
    """

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger, self._loop = ledger, loop
        self._drives: dict[Drive, None] = {}
        self.streams, self.wheel, self.lookers, self.clock = Streams(loop), Wheel(loop), Lookers(), loop.time
        self._trouble: LedgerTrouble | None = None
        #: Why the last commit failed, if it did.
        self.last_trouble: LedgerTrouble | None = None
        #: That the ledger was found to be damaged, until somebody has seen to it.
        self.damage: LedgerDamaged | None = None
        self._scheduled = False
        #: Of all the streams.
        self.counts = Counts()

    def add(self, drive: Drive) -> None:
        """*drive* may have something to write; it is asked once the ledger is committed, later in this turn."""
        self._drives[drive] = None
        self._schedule()

    def write(self, record: Callable[[Ledger], None]) -> None:
        """Put something on record that nothing is sent on account of."""
        try:
            record(self._ledger)
        except LedgerTrouble as exc:
            self.fail(exc)
        self._schedule()

    def fail(self, trouble: LedgerTrouble) -> None:
        """Something could not be recorded, so nothing of this turn can be: SQLite may have rolled all of it back."""
        self._trouble = trouble
        self._mind(trouble)
        self._schedule()

    def flush(self) -> None:
        """Commit, then let everybody write. Where the ledger fails nobody does: those streams end, and are begun anew."""
        self._scheduled = False
        drives, self._drives = self._drives, {}
        trouble, self._trouble = self._trouble, None
        try:
            if trouble is None:
                self._ledger.commit()
            else:
                self._ledger.abandon()
        except LedgerTrouble as exc:
            trouble = exc
            self._mind(exc)
            self._ledger.abandon()
        self.last_trouble = trouble
        self.counts.not_recorded += trouble is not None
        for drive in drives:
            if trouble is None:
                drive.write()
            else:
                drive.end(trouble)

    def close(self) -> None:
        """Commit for the last time."""
        self.flush()
        self.streams.close()

    def _mind(self, trouble: LedgerTrouble) -> None:
        if isinstance(trouble, LedgerDamaged):
            self.damage = trouble

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)


class Owner(Protocol):
    """Whoever has a stream."""

    def begin(self, now: float) -> Conversation:
        """A conversation for it, at its beginning."""

    def over(self, why: str | Exception) -> None:
        """The stream is over, with the reason or with the exception that ended it."""


class Waiting:
    """An owner that waits for the end: `closed` has it. *begin* makes conversations."""

    def __init__(self, begin: Callable[[float], Conversation], closed: asyncio.Future[str]) -> None:
        self.begin, self.closed = begin, closed

    def over(self, why: str | Exception) -> None:
        """Nobody may wait for that any more."""
        if self.closed.done():
            return
        if isinstance(why, Exception):
            self.closed.set_exception(why)
        else:
            self.closed.set_result(why)


class Drive:
    """One conversation of *owner*'s over one descriptor, which it has from now on."""

    __slots__ = (
        "_asleep", "_batch", "_conversation", "_descriptor", "_intake", "_looks", "_open", "_owner", "_rest", "_rests",
        "_slot", "_wakes",
    )  # fmt: skip

    def __init__(self, descriptor: int, batch: Batch, owner: Owner) -> None:
        self._conversation: Conversation | None = owner.begin(batch.clock())
        self._asleep = b""
        self._descriptor, self._batch, self._owner = descriptor, batch, owner
        self._looks: Looks | None = None
        self._intake: Intake | None = None
        self._rest = b""
        self._open, self._rests = True, False
        self._slot, self._wakes = 0, inf
        batch.counts.opened += 1
        batch.counts.streams += 1
        batch.streams.add(descriptor, self)

    @property
    def conversation(self) -> Conversation:
        """The conversation, awake."""
        if self._conversation is None:
            self._conversation = self._owner.begin(self._batch.clock())
            self._conversation.awake(self._asleep)
            self._asleep = b""
        return self._conversation

    def begin(self) -> None:
        """Say what there is to say."""
        self.poke()

    def poke(self) -> None:
        """Do what is due, write what the conversation has to say, and see to its next deadline."""
        self._do(self._due)

    def want(self, wanted: Wanted) -> None:
        """The guest should become *wanted* from now on."""
        self._do(lambda: self.conversation.want(wanted, self._batch.clock()))
        self.poke()

    def again(self) -> None:
        """An operator wants all of it applied again."""
        self._do(lambda: self.conversation.again(self._batch.clock()))
        self.poke()

    def be(self, identity: Identity) -> None:
        """This host is *identity* from now on. A conversation that sleeps is of that identity when it wakes."""
        if self._conversation is not None:
            self._do(lambda: self.conversation.be(identity, self._batch.clock()))
            self.poke()

    def leave(self, why: str) -> None:
        """End the stream of our own accord; bytes that the guest sent and we do not acknowledge would leave it less room."""
        if self._open:
            self.conversation.leave()
            self.write()
            self.end(why)

    def end(self, why: str | Exception) -> None:
        """Close the stream; nothing more is read or written."""
        if not self._open:
            return
        self._open = False
        batch = self._batch
        batch.counts.streams -= 1
        batch.streams.remove(self._descriptor)
        batch.wheel.forget(self._slot, self)
        if self._looks is not None:
            self._looks.end()
        batch.write(lambda _: self.conversation.over(str(why)))
        os.close(self._descriptor)
        self._owner.over(why)

    @property
    def is_live(self) -> bool:
        """Whether a guest answers on it."""
        return self._conversation is None or self._conversation.end.state is End.SEALED

    def backlog(self) -> int:
        """Bytes of ours that the other end of the stream has not read yet."""
        return len(self._rest) + unread(self._descriptor)

    def write(self) -> None:
        """Write what the conversation has to send, as far as the stream takes it; the rest follows by itself."""
        self._do(self._write)

    def readable(self) -> None:
        """Take what came, and no more than this VM's share: whoever says more is not listened to for a while."""
        self._do(self._read)

    def writable(self) -> None:
        """Write the rest."""
        self._do(self._write)

    def wake(self) -> None:
        """Do what is due by now. A guest is not late whose answer waits for us."""
        self._wakes = inf
        if not self._rests:
            self._do(self._read)
        self._do(self._awake)

    def _do(self, step: Callable[[], None]) -> None:
        """Do *step*, if the stream is open; whatever goes wrong in it ends this stream, and whoever has it hears of that."""
        if not self._open:
            return
        try:
            step()
        except OSError as exc:
            self.end(_ENDS.get(exc.errno or 0, f"the stream failed: {exc.strerror}"))
        except LedgerTrouble as exc:
            self._batch.fail(exc)
            self.end(exc)
        except Exception as exc:  # noqa: BLE001 -- a fault in one VM's conversation must not stop another's; its owner hears of it
            self.end(exc)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.end(CLOSED)
            return
        self._batch.counts.received += len(data)
        now = self._batch.clock()
        self.conversation.receive(data, now)
        self._intake = self._intake or Intake()
        if self._intake.took(len(data), now):
            self._batch.streams.rest(self._descriptor)
            self._rests = True
        self._due()

    def _awake(self) -> None:
        if self._rests and self._resumes <= self._batch.clock():
            self._rests = False
            self._batch.streams.resume(self._descriptor, writing=bool(self._rest))
        self._due()

    def _due(self) -> None:
        conversation, now = self.conversation, self._batch.clock()
        if conversation.next_deadline <= now:
            conversation.tick(now, self.backlog())
        to_look_at = conversation.to_look_at()
        if to_look_at is not None:
            self._looks = self._looks or Looks(self._decided, self._batch.lookers)
            self._looks.look(to_look_at)
        self._batch.add(self)
        deadline = conversation.next_deadline
        self._wake_at(min(deadline, self._resumes) if self._rests else deadline)

    @property
    def _resumes(self) -> float:
        """When the stream has rested."""
        return 0.0 if self._intake is None else self._intake.resumes

    def _decided(self, look: asyncio.Future[Verdict]) -> None:
        """A look has come to its end; a fault in it is this stream's."""
        self._do(lambda: self.conversation.decided(look.result()))
        self.poke()

    def _wake_at(self, deadline: float) -> None:
        """Wake at *deadline*. What is set for earlier stays: it finds nothing due and sets itself anew."""
        if self._wakes > deadline:
            wheel = self._batch.wheel
            wheel.forget(self._slot, self)
            self._slot, self._wakes = wheel.wake_at(deadline, self), deadline

    def _write(self) -> None:
        data = self._rest + self.conversation.data_to_send()
        if not data:
            self._fall_asleep()
            return
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            written = 0
        self._batch.counts.sent += written
        had_rest, self._rest = bool(self._rest), data[written:]
        if bool(self._rest) != had_rest:
            self._batch.streams.want_to_write(self._descriptor, wanted=not had_rest)
        if not self._rest:
            self._fall_asleep()

    def _fall_asleep(self) -> None:
        """Where nothing is asked of the guest, and it has not said much lately: ten thousand of us do so nearly all the time."""
        asleep = self.conversation.asleep()
        if asleep is not None:
            self._asleep, self._conversation = asleep, None
            if self._intake is not None and self._intake.is_paid(self._batch.clock()):
                self._intake = None
