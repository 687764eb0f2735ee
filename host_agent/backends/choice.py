# SPDX-License-Identifier: Apache-2.0
"""Which program it is to be, of those that are described: the first that is there, says what it is, and can what is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from host_agent.errors import HostError, shown
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from host_agent.backends.capabilities import Capabilities
    from host_agent.backends.descriptions import Description


class Choice(NamedTuple):
    """The program that was taken, or None; and which were passed over before it, each with a sentence that says why."""

    taken: Description | None
    passed_over: tuple[tuple[Description, str], ...] = ()


async def choose(
    candidates: Iterable[Description], ask: Callable[[Path], Awaitable[Capabilities]], features: Iterable[str] = ()
) -> Choice:
    """The first of *candidates*, whom *ask* asks for its capabilities, that is what its file says and has all *features*."""
    passed_over: list[tuple[Description, str]] = []
    for candidate in candidates:
        why = await why_not(candidate, ask, features)
        if not why:
            return Choice(candidate, tuple(passed_over))
        passed_over.append((candidate, why))
    return Choice(None, tuple(passed_over))


async def why_not(
    candidate: Description, ask: Callable[[Path], Awaitable[Capabilities]], features: Iterable[str] = ()
) -> str:
    """Why it is not this one, or ""."""
    try:
        capabilities = await ask(candidate.binary)
    except HostError as exc:
        return f"{shown(candidate.path)}: {exc}"
    if capabilities.type != candidate.type:
        says = f"{shown(candidate.binary)} says that its type is {printable(capabilities.type, 130)}"
        return f"{shown(candidate.path)}: {says}, and not {printable(candidate.type, 130)}"
    missing = sorted(set(features) - set(capabilities.features))
    if missing:
        return f"{shown(candidate.path)}: {shown(candidate.binary)} has no {printable(', '.join(missing), 200)}"
    return ""


def by_channel(descriptions: Iterable[Description]) -> dict[str, tuple[Description, ...]]:
    """For each channel's name those that serve it, the first to be tried first."""
    found: dict[str, tuple[Description, ...]] = {}
    for description in descriptions:
        for name in description.channels:
            found[name] = (*found.get(name, ()), description)
    return found
