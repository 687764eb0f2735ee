# SPDX-License-Identifier: Apache-2.0
"""One channel of another application's, of one VM: its program is started when it is there, started again, and ended."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.backends.capabilities import FD
from host_agent.backends.choice import choose
from host_agent.backends.spawn import END_SECONDS, ended_how, spawn
from host_agent.backends.words import Words
from host_agent.channels.endpoint import domid_of
from host_agent.channels.place import News, Place
from host_agent.channels.whereabouts import Nowhere
from host_agent.errors import HostError, shown
from host_agent.log.happenings import Happening
from host_agent.log.teller import Teller
from host_agent.talk.backoff import Backoff
from pv_channel.greeting import uuid_text
from pv_channel.text import printable

if TYPE_CHECKING:

    from host_agent.backends.asking import Answers
    from host_agent.backends.descriptions import Description
    from host_agent.backends.spawn import Program
    from host_agent.channels.endpoint import Domain, Endpoint
    from host_agent.talk.timing import Timing


class Patience(NamedTuple):
    """How long a program is waited for."""

    #: From SIGTERM to SIGKILL.
    end: float = END_SECONDS
    #: One that ran so long works: the next attempt is the first again.
    steady: float = 10.0
    #: Between attempts, at the most.
    again: float = 60.0
    #: Between two looks at the directories of descriptions.
    read_every: float = 5.0


PATIENCE: Final = Patience()


class Shared(NamedTuple):
    """What the channels of other applications have in common: the programs' answers, and whose turn it is to start one."""

    answers: Answers
    turn: asyncio.Lock
    timing: Timing
    patience: Patience


class OtherChannel:
    """The channel *name* of the VM that *domain* is now."""

    def __init__(self, shared: Shared, name: str, domain: Domain) -> None:
        self._shared, self._name, self._clock = shared, printable(name, 130), asyncio.get_running_loop().time
        self._place = Place(shared.timing.missing, shared.timing.nowhere)
        self._candidates: tuple[Description, ...] = ()
        self._is_served, self._is_news = False, True
        self._wake = asyncio.Event()
        self._teller = Teller(domain.name or f"domain {domain.domid}", lambda _: None, self._clock)
        self._teller.about |= {"uuid": uuid_text(domain.uuid)}

    def found(self, where: Endpoint | Nowhere, candidates: tuple[Description, ...]) -> None:
        """The channel is there now, or nowhere; *candidates* serve it, the first to be tried first."""
        now, before = self._clock(), self._place.where
        news = self._place.found(where, now)
        if not isinstance(where, Nowhere):
            self._teller.about |= {"domid": domid_of(where)}
        if news in (News.SEEN, News.GONE):
            self._teller.again()
        if news is not News.NONE or isinstance(before, Nowhere) != isinstance(where, Nowhere) or self._candidates != candidates:
            self._wake.set()
        self._candidates = candidates
        if self._is_served:
            if self._place.mend(now):
                self._tell_put_back()
            if self._place.stale(now, live=True):
                self._wake.set()

    def forget(self) -> None:
        """The channel is not served any more."""
        self._place.forget()

    async def serve(self) -> None:
        """Have it served until cancelled; then its program has ended, too."""
        backoff = Backoff(self._shared.patience.again)
        while True:
            self._wake.clear()
            where = self._place.where
            if isinstance(where, Nowhere):
                self._teller.tell_once(logging.WARNING, self._of_it(where.why), Happening.UNREACHABLE)
                await self._wake.wait()
                continue
            began = self._clock()
            try:
                await self._serve_at(where)
            except HostError as exc:
                self._teller.tell_once(logging.WARNING, self._of_it(str(exc)), Happening.PROGRAM_ENDED)
            self._is_news = self._clock() - began >= self._shared.patience.steady
            if self._is_news:
                backoff.reset()
            await self._wait(backoff.next())

    async def _serve_at(self, where: Endpoint) -> None:
        """One program, from its start to its end; raise `HostError` where none can be started."""
        description = await self._choose()
        async with self._shared.turn:
            await asyncio.sleep(0)  # so that a thousand VMs that come at once do not hold up what else the loop has to do
        words = Words(lambda line: self._teller.tell(logging.INFO, self._of_it(f"{shown(description.binary)} says: {line}")))
        try:
            program = self._start(description, where, words)
            self._is_served = True
            try:
                level = logging.INFO if self._is_news else logging.DEBUG
                self._tell(level, f"{shown(description.binary)} serves it (pid {program.pid})", Happening.PROGRAM_STARTED)
                why = await self._attend(program, description)
            finally:
                self._is_served = False
                await program.end(self._shared.patience.end)
        finally:
            words.close()
        if not program.over.done():
            self._tell(logging.ERROR, f"the kernel does not let go of pid {program.pid}; nothing else is started meanwhile")
            await asyncio.shield(program.over)
        self._say_ended(program, description, why)

    async def _choose(self) -> Description:
        choice = await choose(self._candidates, self._shared.answers.of)
        for _, why in choice.passed_over:
            self._teller.tell_once(logging.WARNING, self._of_it(why), Happening.DESCRIPTION_BAD)
        if choice.taken is None:
            raise HostError("no program for it can be used; 'pv-host-agent backends' says why of each")
        return choice.taken

    def _start(self, description: Description, where: Endpoint, words: Words) -> Program:
        """Start the program, with the channel's stream as its only descriptor beside the first three."""
        try:
            descriptor, put_back = self._place.open(where, self._clock())
            if put_back:
                self._tell_put_back()
            try:
                os.set_blocking(descriptor, True)  # as whoever is handed one expects it
                return spawn(
                    [os.fspath(description.binary), f"{FD}={descriptor}"],
                    output=words.pen, errors=words.pen, keep=[descriptor], environment=self._environment(where),
                )  # fmt: skip
            finally:
                os.close(descriptor)
        finally:
            words.lay_down()

    def _environment(self, where: Endpoint) -> dict[str, str]:
        """Whose channel it is, for a program that serves each VM in its own way."""
        about = self._teller.about
        domid = domid_of(where)
        return {
            "PV_CHANNEL_NAME": self._name, "PV_CHANNEL_VM": about["vm"], "PV_CHANNEL_UUID": about["uuid"],
            "PV_CHANNEL_DOMID": "" if domid is None else str(domid),
        }  # fmt: skip

    async def _attend(self, program: Program, description: Description) -> str:
        """Wait until the program has ended, or is to end; why it is, or ""."""
        program.over.add_done_callback(lambda _: self._wake.set())
        chosen_of = self._candidates
        while True:
            self._wake.clear()
            if program.over.done():
                return ""
            stale = self._place.stale(self._clock(), live=True)
            if stale:
                return stale
            if chosen_of != self._candidates:
                chosen_of = self._candidates
                if await self._choose() != description:
                    return "another program serves it from now on"
            await self._wake.wait()

    def _say_ended(self, program: Program, description: Description, why: str) -> None:
        name = f"{shown(description.binary)} (pid {program.pid})"
        if why:
            self._tell(logging.INFO, f"{name} was ended: {why}", Happening.PROGRAM_ENDED)
        else:
            text = f"{shown(description.binary)} {ended_how(program.over.result())}; it is started again"
            self._teller.tell_once(logging.WARNING, self._of_it(text), Happening.PROGRAM_ENDED)

    def _tell_put_back(self) -> None:
        self._tell(logging.WARNING, "its socket was removed, as a dying QEMU of an earlier life does; it was put back")

    def _tell(self, level: int, text: str, happening: Happening | None = None) -> None:
        self._teller.tell(level, self._of_it(text), happening)

    def _of_it(self, text: str) -> str:
        return f"channel {self._name}: {text}"

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
