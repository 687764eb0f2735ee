# SPDX-License-Identifier: Apache-2.0
"""Why a guest may not have answered, from what was seen of its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.errors import shown
from host_agent.ledger.standing import State

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.talk.timing import Timing
    from pv_channel.session import Host


class Silence:
    """What to say, as time passes, of a stream to *path* on which no guest has answered since *now*."""

    __slots__ = ("_broken", "_path", "_read", "_said_unread", "_since", "_timing")

    def __init__(self, path: Path, timing: Timing, now: float) -> None:
        self._path, self._timing, self._since = path, timing, now
        self._read = self._said_unread = self._broken = False

    def heard(self, now: float, *, over: bool) -> None:
        """A guest was heard; *over* is whether that is over again, and silence begins anew."""
        self._broken, self._since, self._read = not over, now, False

    def look(self, backlog: int, end: Host, now: float) -> tuple[str, str] | None:
        """Where the VM stands and why, where that is to be said; *backlog* is how much of ours lies unread.

        A QEMU that has read one greeting serves us: what lies there later is for a guest that does not read.
        """
        if self._broken:
            return None
        if backlog and not self._read:
            self._said_unread = now - self._since >= self._timing.unread
            return (State.UNREACHABLE, unread(self._path)) if self._said_unread else None
        if not self._read:
            self._read, self._since = True, now
        if now - self._since >= self._timing.answer:
            return State.GREETING, f"no guest has answered for {self._timing.answer:g} s: {seen(end)}"
        return (State.GREETING, "the guest has not answered yet") if self._said_unread else None


def seen(end: Host) -> str:
    """What came instead of an answer."""
    if end.counters.echoes:
        return "only our own greeting came back: the guest's tty is open in its first state, and no agent reads it"
    if end.counters.garbage or end.overlong:
        return "what came is not our protocol: another program (a getty?) has the guest's tty"
    if end.counters.stale:
        return "only lines of an earlier session came"
    return "nothing came at all"


def unread(path: Path) -> str:
    """Our greeting lies where we put it."""
    return (
        f"connected, but QEMU does not read: another program holds the channel (ss -xp | grep {shown(path)}: QEMU serves one,"
        " others queue), or the VM is paused, or has not booted as far as its channel"
    )


def to_look_at(path: Path) -> str:
    """What an operator can look at where no answer came over the stream at *path*."""
    return (
        "Look at: does pv-guest-agent run in the guest; does the guest have the channel"
        " (xl before 4.18.5, 4.19.2 or 4.20.1 drops the first 'channel=' entry: pv-guest-agent channels lists them);"
        f" does another program, such as 'serve', hold the socket (ss -xp | grep {shown(path)}): QEMU serves one, others queue"
    )
