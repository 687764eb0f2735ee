# SPDX-License-Identifier: Apache-2.0
"""Files of others that systemd would follow in place of ours: of all that match an interface, the first by name counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.changes.files import MakeLink
from guest_agent.renderers import sections
from guest_agent.renderers.interfaces import NET, driver_name, matching, names_after
from guest_agent.renderers.link import DIRECTORY, PREFIX
from pv_channel.interfaces import Ethernet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig

#: Of two files of one name, the one in the directory that is first here counts (systemd.network(5)).
_DIRECTORIES: Final = (
    DIRECTORY, "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network",
)  # fmt: skip
_MASK: Final = "/dev/null"


class _Subject(NamedTuple):
    """An interface as a ``[Match]`` section sees it. What is not known is empty, and may be anything."""

    names: set[str]
    addresses: set[str]
    driver: str
    kind: str


def masked(network: NetworkConfig, draft: Draft, suffix: str, keys: list[str]) -> list[Change]:
    """What takes the files out of the way that come before ours for *keys* and match; raise `ItemError`, unless the document
    says to overwrite."""
    changes: dict[str, Change] = {}
    for key in keys:
        subject = _subject(key, network, draft.system)
        for path in _earlier(draft, f"{PREFIX}{key}{suffix}"):
            if _matches(draft.text(path), key, subject, suffix):
                draft.conflict(path, f"it is about {key} too and comes before ours; remove it, or let it match less")
                mask = f"{DIRECTORY}/{path.rpartition('/')[2]}"
                changes[mask] = MakeLink(mask, _MASK, owned=True)
    return list(changes.values())


def _earlier(draft: Draft, name: str) -> Iterator[str]:
    """The files in force that come before one called *name* in its place, without ours and without those that are masked."""
    suffix = name[name.rindex(".") :]
    seen: set[str] = set()
    for directory in _DIRECTORIES:
        for other in draft.system.names(directory):
            path = f"{directory}/{other}"
            if other.endswith(suffix) and other < name and not other.startswith(PREFIX) and other not in seen:
                is_mask = draft.system.link(path) == _MASK
                if is_mask and path in draft.before:
                    continue  # it is ours: what it hides is what counts
                seen.add(other)
                if not is_mask:
                    yield path


def _subject(key: str, network: NetworkConfig, system: System) -> _Subject:
    interface = network.all()[key]
    if not isinstance(interface, Ethernet):
        kind = "bond" if key in network.bonds else "bridge" if key in network.bridges else "vlan"
        return _Subject({key}, set(), "", kind)
    names = matching(system, key, interface)
    addresses = {system.text(f"{NET}/{name}/address", 64).strip() for name in names}
    driver = ""
    if interface.match is not msgspec.UNSET:
        addresses |= {str(interface.match.macaddress)} - {str(msgspec.UNSET)}
        driver = "" if interface.match.driver is msgspec.UNSET else driver_name(interface.match.driver)
    named = {key} if interface.match is msgspec.UNSET else set()
    return _Subject({*named, *names, *names_after(system, network, key)}, addresses, driver, "ether")


def _matches(content: str, key: str, subject: _Subject, suffix: str) -> bool:
    found = sections.read(content)
    if suffix == ".netdev":
        return any(pair == ("Name", key) for name, pairs in found if name == "NetDev" for pair in pairs)
    wanted: dict[str, str] = {}
    for name, pairs in found:
        if name == "Match":
            for word, value in pairs:
                wanted[word] = f"{wanted.get(word, '')} {value}".strip() if value else ""
    # Without a word in it, nothing is matched. A condition that cannot be judged from here may be met.
    return bool(wanted) and all(_meets(word, value, subject) for word, value in wanted.items())


def _meets(word: str, value: str, subject: _Subject) -> bool:
    match word:
        case "Name" | "OriginalName":
            return _any(value, subject.names)
        case "MACAddress" | "PermanentMACAddress":
            given = {address.lower().replace("-", ":") for address in value.split()}
            return bool(given & subject.addresses)
        case "Driver":
            return not subject.driver or _any(value, {subject.driver})
        case "Type":
            return _any(value, {subject.kind})
        case "Kind":
            return subject.kind != "ether" and _any(value, {subject.kind})
        case _:
            return True


def _any(value: str, words: set[str]) -> bool:
    """Whether one of *words* fits one of the patterns; a ``!`` before them means none."""
    from fnmatch import fnmatchcase

    inverted = value.startswith("!")
    patterns = value.removeprefix("!").split()
    return any(fnmatchcase(word, pattern) for word in words for pattern in patterns) != inverted
