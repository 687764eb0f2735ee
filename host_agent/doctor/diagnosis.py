# SPDX-License-Identifier: Apache-2.0
"""What a diagnosis is: a name, what it means, what cures it, and a pure function that recognises it in the evidence."""

from __future__ import annotations

from enum import IntEnum
from shlex import quote
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

Of = TypeVar("Of")


class Layer(IntEnum):
    """What a diagnosis is about, the most fundamental first: where one does not work, those after it cannot."""

    HOST = 0
    DOCUMENT = 1
    DOMAIN = 2
    CHANNEL = 3
    QEMU = 4
    SOCKET = 5
    CLIENT = 6
    KERNEL = 7
    AGENT = 8
    TRUST = 9
    OUTCOME = 10


#: What is on record of a guest that did answer stays true, whatever is wrong with its channel now.
_ON_RECORD: Final = (Layer.TRUST, Layer.OUTCOME)


class Seen(NamedTuple):
    """A diagnosis applies: the verdict as a sentence, what shows it, and what stands in the cure for its words in braces."""

    verdict: str
    evidence: tuple[str, ...]
    words: tuple[tuple[str, str], ...] = ()


class Diagnosis(NamedTuple, Generic[Of]):
    """*look* recognises it in the evidence `Of` a host or a VM; *explains* are the layers whose findings follow from it."""

    name: str
    layer: Layer
    meaning: str
    cure: str
    look: Callable[[Of], Seen | None]
    explains: tuple[Layer, ...] = ()


class Finding(NamedTuple):
    """A diagnosis that applies to *vm*, or to the host itself where that is "". *explains* are others that follow from it."""

    vm: str
    name: str
    verdict: str
    evidence: tuple[str, ...]
    cure: str
    explains: tuple[str, ...] = ()


def beyond(layer: Layer) -> tuple[Layer, ...]:
    """The layers that cannot work where *layer* does not."""
    return tuple(each for each in Layer if each > layer and each not in _ON_RECORD)


class About(NamedTuple):
    """Whom a finding is about: a VM, and the domain that it is, or "" for the host itself."""

    vm: str = ""
    domain: str = ""


def finding(name: str, cure: str, about: About, seen: Seen, explains: tuple[str, ...] = ()) -> Finding:
    """What the operator is told: whatever somebody else has named is made safe to print here, and in the cure safe to paste."""
    named = (("vm", about.vm), ("domain", about.domain or about.vm), *seen.words)
    words = {word: quote(printable(value, 200)) for word, value in named}
    return Finding(
        printable(about.vm, 200),
        name,
        printable(seen.verdict, 500),
        tuple(printable(line, 500) for line in seen.evidence),
        cure.format_map(words),
        tuple(printable(each, 250) for each in explains),
    )


class _Upper(dict[str, str]):
    def __missing__(self, word: str) -> str:
        return word.upper()


def in_general(cure: str) -> str:
    """A diagnosis's cure where nothing was found: the words that stand for something are in capitals."""
    return cure.format_map(_Upper())
