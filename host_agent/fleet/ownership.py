# SPDX-License-Identifier: Apache-2.0
"""Which of the VMs on this host are this host's to provision, and what to do about the others. Told the time and what etcd said.

A VM is this host's while its key in `Layout.owner` was made by this host: the revision of that is the *token*, and whoever makes
the key next has a higher one. A VM that was this host's when etcd was last heard goes on being served, but without a token no
generation is sent to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: A VM that is not here for so long is released for another host to take; a QEMU that restarts has its socket back before.
RELEASE_SECONDS: Final = 2.0
#: It is served on for so long, for a VM that reboots is away for ten seconds.
FORGET_SECONDS: Final = 60.0
#: Between two attempts to have a VM that another host has: that one may be about to let go, or its lease to end.
RETRY_SECONDS: Final = 1.0
#: The same where an operator has to do something first.
REFUSED_SECONDS: Final = 10.0


class Hold:
    """One VM, called *name*: *token* is 0 where it is not ours now, *known* whether our ledger has what is known of it.

    *claims* counts how often it became ours, *arrivals* how often what is known of it was news to our ledger.
    """

    __slots__ = ("arrivals", "by", "claims", "known", "name", "next_try", "refusal", "seen", "token")

    def __init__(self, name: str) -> None:
        self.name, self.token, self.known, self.by, self.refusal = name, 0, False, "", ""
        self.claims = self.arrivals = 0
        self.next_try = self.seen = float("-inf")


class Ownership:
    """Of the VMs on this host, by their keys; those of *held* were its own when it was last at work, and it was *now*."""

    def __init__(self, held: Iterable[str], now: float) -> None:
        self._holds: dict[str, Hold] = {}
        self._looked = now
        for key in held:
            hold = self._holds[key] = Hold(key)
            hold.known, hold.seen = True, now

    def get(self, key: str) -> Hold | None:
        """What is known of the VM *key*, if it is here, or was a moment ago."""
        return self._holds.get(key)

    def see(self, here: Mapping[str, str], now: float) -> list[str]:
        """These VMs are here, by their names; the keys of those that have been away for so long that they are forgotten."""
        self._looked = now
        for key, name in here.items():
            hold = self._holds.get(key)
            if hold is None:
                hold = self._holds[key] = Hold(name)
            hold.name, hold.seen = name, now
        gone = [key for key, hold in self._holds.items() if not hold.token and now - hold.seen >= _patience(hold)]
        for key in gone:
            del self._holds[key]
        return gone

    def drop(self, key: str) -> None:
        """There is no document for it any more: it is released as if it were away, and not served."""
        hold = self._holds.get(key)
        if hold is not None:
            hold.seen, hold.known = float("-inf"), False

    def serving(self) -> dict[str, Hold]:
        """Those that are to be served, with a token or without."""
        return {key: hold for key, hold in self._holds.items() if hold.known}

    def owned(self) -> list[str]:
        """Those that are ours."""
        return [key for key, hold in self._holds.items() if hold.token]

    def to_claim(self, now: float) -> list[str]:
        """Those that are here and not ours, and may be by now."""
        return [
            key for key, hold in self._holds.items()
            if not hold.token and now >= hold.next_try and self._looked - hold.seen < RELEASE_SECONDS
        ]  # fmt: skip

    def to_release(self) -> list[str]:
        """Those that are ours and were not here when it was last looked, or were dropped."""
        return [
            key for key, hold in self._holds.items()
            if hold.token and (not hold.known or self._looked - hold.seen >= RELEASE_SECONDS)
        ]  # fmt: skip

    def claimed(self, key: str, token: int, *, is_news: bool) -> None:
        """It is ours, and our ledger has what is known of it, which may have been news to it."""
        hold = self._holds.get(key)
        if hold is not None:
            hold.token, hold.known, hold.by, hold.refusal = token, True, "", ""
            hold.claims += 1
            hold.arrivals += is_news

    def is_anothers(self, key: str, by: str, now: float) -> None:
        """Another host has it: nothing that we know of it is news to that one."""
        hold = self._holds.get(key)
        if hold is not None:
            hold.token, hold.known, hold.by, hold.next_try = 0, False, by, now + RETRY_SECONDS

    def refused(self, key: str, why: str, now: float) -> None:
        """What is known of it cannot be taken into our ledger, so it is not served from here."""
        hold = self._holds.get(key)
        if hold is not None:
            hold.token, hold.known, hold.refusal, hold.next_try = 0, False, why, now + REFUSED_SECONDS

    def try_later(self, key: str, now: float) -> None:
        """etcd did not answer."""
        hold = self._holds.get(key)
        if hold is not None:
            hold.next_try = now + RETRY_SECONDS

    def lost(self, key: str) -> None:
        """It is not ours any more, as far as etcd is concerned; whether it can be again is to be seen."""
        hold = self._holds.get(key)
        if hold is not None:
            hold.token, hold.next_try = 0, float("-inf")

    def lost_all(self) -> None:
        """The lease is over, and with it everything that was held under it."""
        for key in self._holds:
            self.lost(key)


def _patience(hold: Hold) -> float:
    """For how long it is remembered that is not here."""
    return FORGET_SECONDS if hold.known else RELEASE_SECONDS
