# SPDX-License-Identifier: Apache-2.0
"""The guests as the chaos has them: each a relay in the place of its QEMU, and an agent that the nursery starts and kills."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from chaos.guest import AMBUSH, make_root
from chaos.nursery import guest_home
from lab.relay import TO_HOST_RING, Relay

_TOP: Final = Path(__file__).parents[1]


class Herd:
    """*count* guests below *work*, with a socket each, ``vmN.sock``, in *sockets*."""

    def __init__(self, work: Path, sockets: Path, count: int) -> None:
        self.work, self.count = work, count
        self.relays = [Relay(sockets / f"{name_of(number)}.sock") for number in range(count)]
        self._listening = [True] * count
        self._running = ExitStack()
        #: What no guest may do, and one did.
        self.faults: list[str] = []

    def begin(self) -> None:
        """All guests run."""
        for number, relay in enumerate(self.relays):
            make_root(guest_home(self.work, number))
            self._running.enter_context(relay)
        with (self.work / "nursery.log").open("ab") as log:
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "chaos.nursery", str(self.work)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, cwd=_TOP,
            )  # fmt: skip
        self._running.callback(self._end_nursery)
        self._answer()
        for number in range(self.count):
            self.start(number)

    def start(self, number: int) -> None:
        """The agent runs; where it did not, on a tty as an hvc is on its first open."""
        if self._do("look", number) == "dead":
            self.relays[number].cook()
            self._do("start", number, self.relays[number].tty)

    def kill(self, number: int) -> None:
        """The agent is gone from one instruction to the next."""
        self._do("kill", number)

    def ambush(self, number: int, seconds: float) -> None:
        """The agent will be gone so long after it has begun to carry out its next document."""
        self._ambush(number).write_text(str(seconds), encoding="ascii")

    def relieve(self, number: int) -> None:
        """It will not, and if it is gone it runs again."""
        self._ambush(number).unlink(missing_ok=True)
        self.start(number)

    def freeze(self, number: int) -> None:
        """The guest does not run."""
        self._do("freeze", number)

    def thaw(self, number: int) -> None:
        """It does again."""
        self._do("thaw", number)

    def vanish(self, number: int, *, leave_file: bool = False) -> None:
        """The guest's QEMU is gone."""
        self._listening[number] = False
        self.relays[number].vanish(leave_file=leave_file)

    def listen(self, number: int) -> None:
        """It has one again."""
        if not self._listening[number]:
            self._listening[number] = True
            self.relays[number].listen()

    def stall(self, number: int) -> None:
        """The guest's QEMU takes nothing from the ring."""
        self.relays[number].stop_reading()

    def unstall(self, number: int) -> None:
        """It does again. At 2,048 bytes the guest's vCPU would have hung."""
        filled = self.relays[number].in_ring
        if filled > TO_HOST_RING:
            self.faults.append(f"{name_of(number)}: {filled} bytes in a ring that takes {TO_HOST_RING}")
        self.relays[number].read_again()

    def end(self) -> None:
        """None of it is left."""
        self._running.close()

    def _end_nursery(self) -> None:
        """It kills all guests when there are no more commands."""
        self._nursery.communicate()

    def _ambush(self, number: int) -> Path:
        return guest_home(self.work, number) / AMBUSH

    def _do(self, command: str, number: int, *tty: str) -> str:
        assert self._nursery.stdin is not None
        print(command, number, *tty, file=self._nursery.stdin, flush=True)
        answer = self._answer()
        if answer not in ("lives", "dead"):
            self.faults.append(f"{name_of(number)}: its agent {answer}; see {guest_home(self.work, number)}")
            return "dead"
        return answer

    def _answer(self) -> str:
        assert self._nursery.stdout is not None
        answer = self._nursery.stdout.readline().strip()
        if not answer:
            raise SystemExit(f"chaos: the nursery is gone; see {self.work / 'nursery.log'}")
        return answer


def name_of(number: int) -> str:
    """What the host calls a guest."""
    return f"vm{number}"
