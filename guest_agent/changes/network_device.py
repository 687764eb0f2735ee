# SPDX-License-Identifier: Apache-2.0
"""The change that deletes a network device, forth or back, so that its manager makes one by the files that there are then."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from guest_agent import network_devices
from guest_agent.undo import DeleteDevice, RunBack

if TYPE_CHECKING:
    from guest_agent.system import System
    from guest_agent.undo import Undo


class RemakeDevice(NamedTuple):
    """Delete the device *name* where there is one: when the changes before are made, or (*back*) unmade."""

    name: str
    back: bool = False

    @property
    def follows(self) -> bool:
        """True: files say what is to be there, not the devices."""
        return True

    def describe(self) -> str:
        """The change in one line."""
        return f"{'on failure ' if self.back else ''}run {' '.join(network_devices.argv(self.name))}"

    def show(self, system: System) -> list[str]:
        """The command, where it would run."""
        return [] if self.back or not network_devices.is_there(system, self.name) else [self.describe()]

    def holds(self, system: System) -> bool:  # noqa: ARG002  every Change is asked
        """Always: it has no state of its own."""
        return True

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """The same, on the way back."""
        return DeleteDevice(self.name) if self.back else RunBack([], "")

    def apply(self, system: System) -> None:
        """Delete it; raise `ItemError`."""
        if not self.back and network_devices.is_there(system, self.name):
            network_devices.delete(system, self.name)
