# SPDX-License-Identifier: Apache-2.0
"""The service's pulse: what it tells systemd of itself, for as long as its loop turns and its ledger takes what is written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from host_agent.ledger.ledger import Ledger
from host_agent.log.happenings import Happening, noted

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.sd_notify import Notifier
    from host_agent.talk.drive import Batch

log = logging.getLogger("pv-host-agent")

#: `systemctl status` is for people.
STATUS_SECONDS: Final = 1.0
#: The ledger is written to at least this often, to see that it can be.
PROOF_SECONDS: Final = 15.0


class Pulse:
    """Tells *notifier* where the VMs stand, by *summary*, and gives the watchdog a sign of life whenever *batch* could commit."""

    def __init__(self, notifier: Notifier, batch: Batch, summary: Callable[[], str], clock: Callable[[], float]) -> None:
        self._notifier, self._batch, self._summary, self._clock = notifier, batch, summary, clock
        #: Between two beats at most.
        self.every = min(STATUS_SECONDS, notifier.watchdog_seconds or STATUS_SECONDS)
        self._prove_every = min(PROOF_SECONDS, notifier.watchdog_seconds or PROOF_SECONDS)
        self._proven = self._told = clock()
        self._status = ""
        self._trouble = False

    def ready(self) -> None:
        """Everything was looked at for the first time, or after a reload."""
        self._status = self._summary()
        self._notifier.ready(self._status)

    def reloading(self) -> None:
        """Until the next `ready`."""
        self._notifier.reloading()

    def stopping(self) -> None:
        """No more is begun."""
        self._notifier.stopping("leaving the VMs' channels")

    def beat(self) -> None:
        """Do what is due."""
        now = self._clock()
        if now - self._proven >= self._prove_every:
            self._proven = now
            self._prove()
        if now - self._told >= STATUS_SECONDS:
            self._told = now
            self._tell_status()
        for handler in logging.getLogger().handlers:  # the journal may take now what it did not take before
            handler.flush()

    def _prove(self) -> None:
        """Commit something. A ledger that does not take it is said once, and is no sign of life: a new start may mend it."""
        self._batch.write(Ledger.prove)
        self._batch.flush()
        trouble = self._batch.last_trouble
        if trouble is None:
            self._notifier.alive()
            if self._trouble:
                log.info("the ledger can be written again")
        elif not self._trouble:
            log.error("%s; until it can be written nothing is sent to any VM", trouble, extra=noted(Happening.LEDGER_TROUBLE))
        self._trouble = trouble is not None

    def _tell_status(self) -> None:
        status = "the ledger cannot be written; nothing is sent to any VM" if self._trouble else self._summary()
        if status != self._status:
            self._status = status
            self._notifier.status(status)
