# SPDX-License-Identifier: Apache-2.0
"""The verb `seal`: make a prepared machine a template. It shows what it will do, asks, and may be stopped and repeated."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from guest_agent import VERSION
from guest_agent.changes.running import RunCommand
from guest_agent.failure import ItemError
from guest_agent.identity import BadTrust
from guest_agent.provision import Provisioner
from guest_agent.sealing import checks, identity, network, pins
from guest_agent.sealing.step import Part, lines, remembered
from guest_agent.state import DIRECTORY, JOURNAL, Busy, Store
from guest_agent.system import System
from pv_channel.text import printable

if TYPE_CHECKING:
    import argparse

_FAILED: Final = 1
_USAGE: Final = 2
_MAX_LINE: Final = 400
#: systemd runs, and can be asked to stop something.
_SYSTEMD: Final = "/run/systemd/system"
#: What would write again what was removed: the agent where its host speaks, and the service that saves a seed at shutdown.
_STOP: Final = ("pv-guest-agent@*.service", "systemd-random-seed.service")


def seal(arguments: argparse.Namespace, system: System | None = None) -> int:
    """Seal the machine under the arguments' root; the exit status."""
    try:
        return _Sealing(system or System(arguments.root), arguments).run()
    except (BadTrust, ItemError, Busy) as exc:
        return _complain(str(exc))
    except OSError as exc:
        return _complain(f"{exc}; sealing needs root. What is done is done: repeat it when this is mended")


class _Sealing:
    def __init__(self, system: System, arguments: argparse.Namespace) -> None:
        self._system, self._arguments = system, arguments
        self._store = Store(system)

    def run(self) -> int:
        """Look, show, ask, and do it."""
        problems = self._problems()
        if problems:
            for problem in problems:
                _complain(problem)
            return _complain("nothing was changed")
        parts = self._needed()
        self._show(parts)
        if not parts:
            _say(f"Nothing is left to do: this is a template.{' Shut it down now.' * self._system.live}")
            return 0
        if self._arguments.dry_run:
            _say("A dry run: nothing was changed.")
            return 0
        refused = self._ask()
        if refused is not None:
            return refused
        self._carry_out()
        return 0

    def _problems(self) -> list[str]:
        found = checks.problems(self._system)
        trust = pins.trusted(self._system, self._arguments.trust)
        if trust.pinned and not trust.believed:
            found.append("all that is pinned is revoked: clones would believe nobody. Pin somebody else with --trust LINE")
        if not trust.pinned and not self._arguments.first_use:
            found.append(
                "nothing is pinned: clones would believe the first host that speaks. Pin one with --trust LINE, which "
                "'pv-host-agent keys show' prints, or accept that with --first-use"
            )
        return found

    def _needed(self) -> list[Part]:
        """The parts with the steps that are not done yet; none where only commands are left."""
        found = []
        for part in self._parts():
            steps = [step for step in part.steps if not step.holds(self._system)]
            if steps:
                found.append(Part(part.title, steps))
        if not found or not self._system.live:
            return found
        stop = [RunCommand(["systemctl", "stop", unit], [], _SYSTEMD) for unit in _STOP]
        return [Part("services that would write again", [*stop]), *found]

    def _parts(self) -> list[Part]:
        found = [Part("whom clones believe", pins.steps(self._system, self._arguments.trust))]
        if self._arguments.network:
            found.append(Part("others who configure the network", network.steps(self._system)))
        owned = remembered(self._system)
        return [*found, *identity.parts(self._system, owned, logs=self._arguments.logs)]

    def _show(self, parts: list[Part]) -> None:
        if self._store.exists(JOURNAL):
            _say("An unfinished document will be undone first, which may add to this list.")
        for part in parts:
            _say(f"{part.title}:")
            for step in part.steps:
                for line in lines(step, self._system):
                    _say(f"  {line}")
        for note in checks.notes(self._system, clear_network=self._arguments.network, logs=self._arguments.logs):
            _say(f"note: {note}")
        for path in identity.changed_by_others(self._system, remembered(self._system)):
            _say(f"note: {path} stays: somebody has changed it since a document made it")

    def _ask(self) -> int | None:
        """None for yes, else the exit status."""
        if self._arguments.yes:
            return None
        if not sys.stdin.isatty():
            _complain("sealing cannot be undone, and without a terminal nobody can be asked: say --yes, or look with --dry-run")
            return _USAGE
        sys.stdout.write("This cannot be undone. Type 'yes' to seal: ")
        sys.stdout.flush()
        if sys.stdin.readline().strip() == "yes":
            return None
        return _complain("nothing was changed")

    def _carry_out(self) -> None:
        system = self._system
        if self._store.exists(JOURNAL):
            said = Provisioner(system, VERSION).recover()
            if self._store.exists(JOURNAL):
                raise ItemError("rollback-failed", said or "an unfinished document cannot be undone")
        parts = self._needed()
        if system.live:  # before the lock, which a busy agent holds
            stops, parts = parts[:1], parts[1:]
            self._apply(stops)
        with self._store.lock() if system.exists(DIRECTORY) else nullcontext():
            self._apply(parts)
        if system.live:
            _say("Sealed. Shut this machine down now, and start it as a template's clone only: it has no identity any more.")
        else:
            _say("Sealed.")

    def _apply(self, parts: list[Part]) -> None:
        for part in parts:
            for step in part.steps:
                step.apply(self._system)
            _say(f"done: {part.title}")


def _say(text: str) -> None:
    sys.stdout.write(f"{printable(text, _MAX_LINE)}\n")


def _complain(text: str) -> int:
    sys.stderr.write(f"pv-guest-agent: {text}\n")
    return _FAILED
