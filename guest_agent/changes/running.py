# SPDX-License-Identifier: Apache-2.0
"""Changes of the running machine: the kernel's hostname, and commands that make services look at their files again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from guest_agent.command import CommandError
from guest_agent.failure import ItemError
from guest_agent.undo import RestoreHostname, RunBack

if TYPE_CHECKING:
    from guest_agent.system import System
    from guest_agent.undo import Undo


class SetHostname(NamedTuple):
    """Give the running kernel *name*."""

    name: str

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"set the hostname {self.name}"

    def show(self, system: System) -> list[str]:
        """The name, and the one before."""
        return [f"set the hostname {self.name} (before: {system.kernel.hostname()})"] if system.live else []

    def holds(self, system: System) -> bool:
        """Whether the kernel has the name, or is not asked."""
        return not system.live or system.kernel.hostname() == self.name

    def capture(self, system: System) -> Undo:
        """The name that the kernel has."""
        return RestoreHostname(system.kernel.hostname())

    def apply(self, system: System) -> None:
        """sethostname(2)."""
        system.kernel.set_hostname(self.name)


class RunCommand(NamedTuple):
    """Run *argv* when the changes before it are made, *undo_argv* when they are unmade; either may be empty.

    It has no state of its own, so it holds always: an item whose other changes hold has nothing to run either.
    It runs on a live machine only, and while *while_exists* is there (empty: always).
    *quiet*: it says what is wrong and ends with status 0, so that a word of its is a failure.
    """

    argv: list[str]
    undo_argv: list[str]
    while_exists: str = ""
    quiet: bool = False

    @property
    def follows(self) -> bool:
        """True."""
        return True

    def describe(self) -> str:
        """The change in one line."""
        return f"run {' '.join(self.argv)}" if self.argv else f"on failure run {' '.join(self.undo_argv)}"

    def show(self, system: System) -> list[str]:
        """The command, where it would run."""
        return [self.describe()] if self.argv and self._runs(system) else []

    def holds(self, system: System) -> bool:  # noqa: ARG002  every Change is asked
        """Always."""
        return True

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """The command that undoes it."""
        return RunBack(self.undo_argv, self.while_exists)

    def apply(self, system: System) -> None:
        """Run it; raise `ItemError` with what it printed where it does not end with status 0."""
        if not self.argv or not self._runs(system):
            return
        try:
            status, output = system.run(self.argv)
        except CommandError as exc:
            raise ItemError("command-failed", str(exc), exc.output) from None
        if status:
            raise ItemError("command-failed", f"'{' '.join(self.argv)}' ended with status {status}", output)
        if self.quiet and output.strip():
            raise ItemError("command-failed", f"'{' '.join(self.argv)}' had something to say", output)

    def _runs(self, system: System) -> bool:
        return system.live and (not self.while_exists or system.exists(self.while_exists))
