# SPDX-License-Identifier: Apache-2.0
"""The change of a file of sudo rules, which visudo judges before it is in force: one bad line may cost everybody their sudo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import files
from guest_agent.changes.files import WriteFile
from guest_agent.changes.running import RunCommand
from guest_agent.system import split

if TYPE_CHECKING:
    from guest_agent.system import System

VISUDO: Final = "/usr/sbin/visudo"


class WriteSudoers(WriteFile):
    """A `WriteFile` whose content the machine's own visudo, where it is live and has one, finds good first."""

    __slots__ = ()

    def apply(self, system: System) -> None:
        """Replace the file; raise `ItemError` with what visudo says of it."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            old = files.read(opened, name)

            def judge(temporary: str) -> None:
                if system.exists(VISUDO):
                    RunCommand(["visudo", "-c", "-f", system.file(f"{parent}/{temporary}")], []).apply(system)

            new = files.new_file(self.content, 0o440 if self.mode is None else self.mode)
            files.replace(opened, name, msgspec.structs.replace(new, label=old.label if old else b""), judge)
