# SPDX-License-Identifier: Apache-2.0
"""Drive conversations over descriptors: bytes in, bytes out, one timer each, and the ledger committed before anything is sent."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Final

from host_agent.channels.connect import unread
from host_agent.errors import LedgerDamaged, LedgerTrouble
from host_agent.talk.confirm import Looks
from host_agent.talk.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.documents.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.confirmation import Verdict
    from host_agent.talk.conversation import Conversation

#: Read at once from one VM, so that one that floods does not keep the others waiting.
READ_BYTES: Final = 16 * 1024

_ENDS: Final = {
    errno.ECONNRESET: "QEMU reset the connection: the VM is restarting, or its QEMU died",
    errno.EPIPE: "QEMU closed the connection while we wrote",
    errno.EIO: "the terminal hung up: its QEMU is gone",
}
CLOSED: Final = "QEMU closed the connection: the VM is off, restarting or migrating, or its QEMU died"


class Batch:
    """What has to be committed and then written, gathered over one turn of the loop: a thousand VMs share a commit."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger, self._loop = ledger, loop
        self._drives: set[Drive] = set()
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
        self._drives.add(drive)
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
        drives, self._drives = self._drives, set()
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

    def _mind(self, trouble: LedgerTrouble) -> None:
        if isinstance(trouble, LedgerDamaged):
            self.damage = trouble

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)


class Drive:
    """One conversation over one descriptor, which it owns.

    `closed` is done when the stream is over: with the reason, or with the exception that ended it.
    """

    def __init__(self, descriptor: int, batch: Batch, begin: Callable[[float], Conversation]) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.conversation = begin(self._loop.time())
        self._descriptor, self._batch = descriptor, batch
        self._counts = batch.counts
        self._counts.opened += 1
        self._counts.streams += 1
        self._looks = Looks(self._decided)
        self._timer: asyncio.TimerHandle | None = None
        self._rest = b""
        self._open = True
        self._loop.add_reader(descriptor, self._guarded, self._readable)
        self.poke()

    def poke(self) -> None:
        """Do what is due, write what the conversation has to say, and see to its next deadline."""
        if self._open:
            self._guarded(self._due)

    def want(self, wanted: Wanted) -> None:
        """The guest should become *wanted* from now on."""
        if self._open:
            self._guarded(lambda: self.conversation.want(wanted, self._loop.time()))
            self.poke()

    def again(self) -> None:
        """An operator wants all of it applied again."""
        if self._open:
            self._guarded(lambda: self.conversation.again(self._loop.time()))
            self.poke()

    def be(self, identity: Identity) -> None:
        """This host is *identity* from now on."""
        if self._open:
            self._guarded(lambda: self.conversation.be(identity, self._loop.time()))
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
        self._counts.streams -= 1
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._looks.end()
        if self._timer is not None:
            self._timer.cancel()
        self._batch.write(lambda _: self.conversation.over(str(why)))
        os.close(self._descriptor)
        if self.closed.done():  # cancelled, with the task that waited for it
            return
        if isinstance(why, Exception):
            self.closed.set_exception(why)
        else:
            self.closed.set_result(why)

    def backlog(self) -> int:
        """Bytes of ours that the other end of the stream has not read yet."""
        return len(self._rest) + unread(self._descriptor)

    def write(self) -> None:
        """Write what the conversation has to send, as far as the stream takes it; the rest follows by itself."""
        if self._open:
            self._guarded(self._write)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do *step*; whatever goes wrong in it ends this stream, and the task that waits for `closed` hears of it."""
        try:
            step()
        except OSError as exc:
            self.end(_ENDS.get(exc.errno or 0, f"the stream failed: {exc.strerror}"))
        except LedgerTrouble as exc:
            self._batch.fail(exc)
            self.end(exc)
        except Exception as exc:  # noqa: BLE001 -- a fault in one VM's conversation must not stop another's; the task raises it
            self.end(exc)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.end(CLOSED)
            return
        self._counts.received += len(data)
        self.conversation.receive(data, self._loop.time())
        self._due()

    def _due(self) -> None:
        conversation, now = self.conversation, self._loop.time()
        if conversation.next_deadline <= now:
            conversation.tick(now, self.backlog())
        to_look_at = conversation.to_look_at()
        if to_look_at is not None:
            self._looks.look(to_look_at)
        self._batch.add(self)
        self._set_timer(conversation.next_deadline)

    def _decided(self, look: asyncio.Future[Verdict]) -> None:
        """A look has come to its end; a fault in it is this stream's."""
        if self._open:
            self._guarded(lambda: self.conversation.decided(look.result()))
            self.poke()

    def _set_timer(self, deadline: float) -> None:
        """Wake at *deadline*. A timer that is set for earlier stays: it finds nothing due and sets itself anew."""
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._guarded(self._due)

    def _write(self) -> None:
        data = self._rest + self.conversation.data_to_send()
        if not data:
            return
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            written = 0
        self._counts.sent += written
        had_rest, self._rest = bool(self._rest), data[written:]
        if self._rest and not had_rest:
            self._loop.add_writer(self._descriptor, self._guarded, self._write)
        elif had_rest and not self._rest:
            self._loop.remove_writer(self._descriptor)
