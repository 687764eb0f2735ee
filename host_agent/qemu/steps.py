# SPDX-License-Identifier: Apache-2.0
"""Steps that are done in order, and undone in the reverse order where one fails or the operator ends it half-way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from host_agent.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Step(Protocol):
    """One of them. Both of its waits are bounded."""

    async def do(self) -> None:
        """Do it; raise `HostError`."""

    async def undo(self) -> None:
        """Take back what `do` did or may have done, which can be nothing; raise `HostError` saying what is left behind."""


class TakenBack(HostError):  # noqa: N818 -- it says what became of the steps
    """A step failed with *cause*. All of them are undone but for what *left* has, a sentence each."""

    def __init__(self, cause: HostError, left: Sequence[str]) -> None:
        super().__init__(f"{cause}; {_ending(left)}")
        self.cause, self.left = cause, tuple(left)


async def take(steps: Sequence[Step], tell: Callable[[str], None]) -> None:
    """Do all *steps*; raise `TakenBack` where one fails. Cancelled, undo them, too, and *tell* how that went."""
    begun: list[Step] = []
    try:
        for step in steps:
            begun.append(step)
            await step.do()
    except HostError as exc:
        raise TakenBack(exc, await _undone(begun)) from exc
    except BaseException:
        tell(f"ended half-way; {_ending(await _undone(begun))}")
        raise


async def _undone(begun: Sequence[Step]) -> list[str]:
    """What could not be."""
    left = []
    for step in reversed(begun):
        try:
            await step.undo()
        except HostError as exc:
            left.append(str(exc))
    return left


def _ending(left: Sequence[str]) -> str:
    return f"not all could be undone: {'; '.join(left)}" if left else "everything was undone"
