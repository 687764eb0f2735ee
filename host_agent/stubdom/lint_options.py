# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line as its options and their properties, read as QEMU reads it; nothing that is said there is an error here."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Those of QEMU 7.2's and 10's options that have no value (qemu-options.hx).
_ALONE: Final = frozenset((
    "h", "help", "version", "nodefaults", "no-user-config", "nouserconfig", "nographic", "portrait", "sdl", "gtk", "curses",
    "full-screen", "no-frame", "no-quit", "alt-grab", "ctrl-grab", "snapshot", "no-acpi", "no-hpet", "no-fd-bootchk",
    "no-reboot", "no-shutdown", "S", "s", "daemonize", "usb", "enable-kvm", "no-kvm", "xen-attach", "xen-domid-restrict",
    "mem-prealloc", "preconfig", "only-migratable", "singlestep", "win2k-hack", "rtc-td-hack", "semihosting", "old-param",
    "enable-fips", "async-teardown",
))  # fmt: skip
#: What a value begins with that is no property, where QEMU takes a bare word first.
_PART: Final = re.compile(r"((?:[^,]|,,)*)(?:,|$)")


class Option(NamedTuple):
    """``-name value``: *number* is the argument's with the value, counted from 1, or the name's. A bare word has no *name*.

    *value* is None where nothing follows. Bytes are told as the characters of their numbers.
    """

    number: int
    name: str
    value: str | None = None

    @property
    def text(self) -> str:
        """The value, "" where there is none."""
        return self.value or ""

    @property
    def kind(self) -> str:
        """What the value begins with, or its ``type``, ``driver`` or ``qom-type``: which netdev, chardev or device it is."""
        found = properties(self.text)
        named = dict(reversed(found))
        return next((named[key] for key in ("type", "driver", "qom-type", "backend", "") if key in named), "")

    def all(self, *keys: str) -> list[str]:
        """The values of the properties with these *keys*, wherever they stand."""
        return [value for key, value in properties(self.text) if key in keys]


def options(arguments: Sequence[bytes]) -> list[Option]:
    """All that the *arguments* say, in order."""
    words = [argument.decode("latin-1") for argument in arguments]
    return list(_options(words))


def _options(words: list[str]) -> Iterator[Option]:
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-") or word == "-":
            yield Option(at, "", word)
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        if name in _ALONE:
            yield Option(at, name)
        elif at < len(words):
            at += 1
            yield Option(at, name, words[at - 1])
        else:
            yield Option(at, name)


def properties(text: str) -> list[tuple[str, str]]:
    """The properties of an option's value, ``key=value,…`` or JSON; the key is "" of a bare word, and of JSON the innermost."""
    if text.startswith("{"):
        try:
            return list(_of_json(json.loads(text)))
        except (ValueError, RecursionError):
            return []
    found = []
    for part in _PART.findall(text):
        key, equals, value = part.replace(",,", ",").partition("=")
        found.append((key.rpartition(".")[2], value) if equals else ("", key))
    return found[:-1] if found and found[-1] == ("", "") else found


def _of_json(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _of_json(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _of_json(each, key)
    else:
        yield key, value if isinstance(value, str) else json.dumps(value)
