# SPDX-License-Identifier: Apache-2.0
"""What happens when, and to whom: made from a seed alone, so that the same seed is the same run.

How far guests and service have got by then is the machine's: what only a certain moment shows takes a few runs of its seed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How often something begins to happen to one of the guests, whichever, for each forty of them.
PER_SECOND: Final = 4.0
_FORTY: Final = 40
#: The service is killed, stopped and restarted in this part of a run; then its memory is watched.
RESTARTS_UNTIL: Final = 0.4
#: Between two things that happen to it, and to etcd.
SERVICE_EVERY: Final = (2.0, 6.0)
ETCD_EVERY: Final = (6.0, 14.0)
#: After an end, before another begins with the same guest.
REST_SECONDS: Final = 0.5


class Event(NamedTuple):
    """At *at* seconds from the beginning *what* happens, to the guest of that number if it is one's, *amount* of it."""

    at: float
    what: str
    guest: int = -1
    amount: int = 0


#: What begins, what ends it, how long it lasts, and how often it is chosen among the others.
_TROUBLES: Final = (
    ("change", "", (0.0, 0.0), 40),
    ("change-bit-by-bit", "", (0.0, 0.0), 6),
    ("spoil", "change", (1.5, 4.0), 4),
    ("kill", "start", (0.0, 3.0), 10),
    ("ambush", "relieve", (3.0, 5.0), 8),
    ("freeze", "thaw", (0.5, 8.0), 6),
    ("stall", "unstall", (0.5, 8.0), 6),
    ("vanish", "listen", (0.2, 4.0), 6),
    ("leave-socket", "listen", (0.2, 4.0), 3),
    ("power-off", "power-on", (0.5, 5.0), 6),
    ("cut", "", (0.0, 0.0), 10),
    ("noise", "", (0.0, 0.0), 5),
    ("flood", "", (2.0, 2.0), 3),
    ("intrude", "withdraw", (0.5, 2.0), 2),
)
_OF_THE_SERVICE: Final = (
    ("kill-service", "start-service", (0.0, 2.0), 12),
    ("end-service", "start-service", (0.0, 1.0), 2),
)
_AT_ANY_TIME: Final = (("freeze-service", "thaw-service", (0.5, 4.0), 2), ("reload-service", "", (0.0, 0.0), 2))
_OF_ETCD: Final = (("kill-etcd", "start-etcd", (1.0, 6.0), 3), ("freeze-etcd", "thaw-etcd", (0.5, 4.0), 2))
#: A flood is so many KiB, and an ambush strikes after so many of ten microseconds.
_AMOUNT: Final = (8, 512)
#: How often documents change many at once, and how long before a kill of the service: it takes up those that are a second old.
_BURST: Final = 0.04
_BEFORE_KILL: Final = (1.0, 2.2)

_Kind = tuple[str, str, tuple[float, float], int]


def script(seed: int, seconds: float, guests: int, *, etcd: bool = False) -> list[Event]:
    """All that happens within *seconds*, in its order; what begins ends within them, too."""
    source = random.Random(f"chaos {seed}")
    events = [*_to_guests(source, seconds, guests), *_to_the_service(source, seconds, guests)]
    if etcd:
        events += _to_etcd(source, seconds)
    return sorted(events, key=lambda event: event.at)


def _to_guests(source: random.Random, seconds: float, guests: int) -> Iterator[Event]:
    free = [0.0] * guests
    now = 0.0
    while (now := now + source.expovariate(PER_SECOND * guests / _FORTY)) < seconds:
        many = source.random() < _BURST
        kind = _TROUBLES[0] if many else _chosen(source, _TROUBLES)
        for guest in source.sample(range(guests), k=guests // 10 if many else 1):
            if free[guest] <= now:
                ending = list(_one(source, kind, now, seconds, guest))
                free[guest] = ending[-1].at + kind[2][1] * (not kind[1]) + REST_SECONDS
                yield from ending


def _to_the_service(source: random.Random, seconds: float, guests: int) -> Iterator[Event]:
    now = 0.0
    while (now := now + source.uniform(*SERVICE_EVERY)) < seconds:
        kind = _chosen(source, _AT_ANY_TIME + (_OF_THE_SERVICE if now < seconds * RESTARTS_UNTIL else ()))
        if kind in _OF_THE_SERVICE:
            before = max(now - source.uniform(*_BEFORE_KILL), 0.0)
            yield from (Event(before, "change", guest) for guest in source.sample(range(guests), k=guests // 8))
        ending = list(_one(source, kind, now, seconds, -1))
        now = ending[-1].at
        yield from ending


def _to_etcd(source: random.Random, seconds: float) -> Iterator[Event]:
    now = 0.0
    while (now := now + source.uniform(*ETCD_EVERY)) < seconds:
        ending = list(_one(source, _chosen(source, _OF_ETCD), now, seconds, -1))
        now = ending[-1].at
        yield from ending


def _one(source: random.Random, kind: _Kind, now: float, seconds: float, guest: int) -> Iterator[Event]:
    begins, ends, lasts, _ = kind
    yield Event(now, begins, guest, source.randint(*_AMOUNT))
    if ends:
        yield Event(min(now + source.uniform(*lasts), seconds), ends, guest)


def _chosen(source: random.Random, kinds: tuple[_Kind, ...]) -> _Kind:
    return source.choices(kinds, [kind[3] for kind in kinds])[0]
