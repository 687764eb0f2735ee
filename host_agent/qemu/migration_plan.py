# SPDX-License-Identifier: Apache-2.0
"""What is wanted of a migration: where to, how, and within which limits; and what both ends have to be switched to for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.qemu.migration_channel import MigMode

if TYPE_CHECKING:
    from host_agent.qemu.migration_route import Route

RETURN_PATH: Final = "return-path"
#: Capabilities that somebody has to go on with after QEMU has begun, which nobody here does.
_NOT_OURS: Final = frozenset({"postcopy-ram", "pause-before-switchover", "background-snapshot", "x-colo"})


class Plan(NamedTuple):
    """What is wanted. *listen* is the route as the destination has it, where that is another than *to*."""

    to: Route
    listen: Route | None = None
    mode: MigMode = MigMode.NORMAL
    #: Capabilities to switch on at both ends.
    switches: frozenset[str] = frozenset()
    #: Bytes in a second; milliseconds that the VM may stand still; seconds for all of it.
    bandwidth: int | None = None
    downtime: int | None = None
    timeout: float | None = None

    @property
    def states(self) -> dict[str, bool]:
        """What is to be on, or off, at both ends.

        With a return path the source hears whether all arrived, before it gives its VM up. Over a pipe there is none, and
        QEMU would wait for its end for ever.
        """
        answers = self.to.answers
        return dict.fromkeys(sorted(self.switches), True) | ({} if answers is None else {RETURN_PATH: answers})

    @property
    def parameters(self) -> dict[str, object]:
        """What is to be set at the source, but for the mode."""
        wanted = {"max-bandwidth": self.bandwidth, "downtime-limit": self.downtime}
        return {name: value for name, value in wanted.items() if value is not None}

    def check(self, *, asks_both: bool) -> None:
        """Raise `HostError` for what no QEMU is asked for here."""
        odd = sorted(self.switches & _NOT_OURS)
        if odd:
            raise HostError(f"{odd[0]}: with this capability a migration has to be gone on with by hand; cure: leave it out")
        if self.mode is MigMode.CPR_EXEC:
            raise HostError("cpr-exec: in this mode QEMU replaces itself and its monitors; cure: cpr-transfer, or cpr-reboot")
        if self.mode is MigMode.CPR_TRANSFER and asks_both:
            raise HostError("cpr-transfer: the other QEMU has no monitor before it has the VM; cure: leave --incoming-qmp out")
