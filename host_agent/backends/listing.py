# SPDX-License-Identifier: Apache-2.0
"""What there is to say of backend programs: what became of each description file, which program serves which channel, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.backends.choice import by_channel, why_not
from host_agent.backends.directories import Fate
from host_agent.channels.listing import channel_values
from host_agent.errors import shown
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from host_agent.backends.asking import Answers
    from host_agent.backends.capabilities import Capabilities
    from host_agent.backends.descriptions import Description
    from host_agent.backends.directories import File, Found
    from host_agent.channels.listing import Channel

FILES: Final = ("file", "is", "type", "serves", "program", "features", "why")
CHANNELS: Final = ("domid", "vm", "channel", "program", "connected", "why")
#: What a taken file is whose program is not to be used.
UNUSABLE: Final = "unusable"
_TEXT, _WORD = 1000, 130


class Judged(NamedTuple):
    """A file, and of the program that it describes what that says of itself, or *why* it is not to be used."""

    file: File
    why: str = ""
    capabilities: Capabilities | None = None

    @property
    def word(self) -> str:
        """What became of it, in a word."""
        return UNUSABLE if self.why and self.file.fate is Fate.TAKEN else self.file.fate.value


async def judged(found: Found, answers: Answers) -> list[Judged]:
    """Every file; the programs of those that are taken were asked."""
    return [await _judge(file, answers) for file in found.files]


def file_values(judged: Judged) -> dict[str, Any]:
    """A file as ``--json`` prints it."""
    description, capabilities = judged.file.description, judged.capabilities
    return {
        "file": shown(judged.file.path),
        "is": judged.word,
        "type": "" if description is None else printable(description.type, _WORD),
        "serves": [] if description is None else list(description.channels),
        "program": "" if description is None else shown(description.binary),
        "features": [] if capabilities is None else capabilities.features,
        "description": "" if description is None else printable(description.about, _TEXT),
        "why": printable(judged.why, _TEXT),
    }


def channel_served(channel: Channel, files: Sequence[Judged], ours: str) -> dict[str, Any]:
    """Which program is to serve *channel*, as ``--json`` prints it; *ours* is the name of this agent's own."""
    values = channel_values(channel)
    program, why = _served(channel.console.name, files, ours)
    kept = {key: values[key] for key in ("domid", "vm", "uuid", "console", "channel", "path", "connected")}
    return kept | {"program": program, "why": why}


def rows_of_files(values: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Files as rows of the table whose header is `FILES`."""
    return [
        (
            one["file"], one["is"], one["type"], _but(one["serves"], one["type"]), one["program"], ", ".join(one["features"]),
            one["why"],
        )
        for one in values
    ]  # fmt: skip


def rows_of_channels(values: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Channels as rows of the table whose header is `CHANNELS`."""
    return [
        (
            str(one["domid"]), one["vm"], one["channel"], one["program"] or "-",
            ", ".join(f"{each['command']}[{each['pid']}]" for each in one["connected"]), one["why"],
        )
        for one in values
    ]  # fmt: skip


async def _judge(file: File, answers: Answers) -> Judged:
    if file.description is None:
        return Judged(file, file.why)
    why = await why_not(file.description, answers.of)
    return Judged(file, why, None if why else await answers.of(file.description.binary))


def _served(name: str, files: Sequence[Judged], ours: str) -> tuple[str, str]:
    """The program that serves the channel *name*, and why it is that one, or why there is none."""
    if name == ours:
        return "", "ours: 'pv-host-agent serve' speaks on it itself"
    why_of = {one.file.path: one.why for one in files}
    candidates = by_channel(one.file.description for one in files if one.file.description is not None).get(name, ())
    if not candidates:
        return "", "no file says of a program that it serves this"
    for candidate in candidates:
        if not why_of[candidate.path]:
            return shown(candidate.binary), f"{shown(candidate.path)} is the first that serves it and can be used"
    return "", f"none of its programs can be used: {_all(candidates)}"


def _all(candidates: Iterable[Description]) -> str:
    return ", ".join(shown(candidate.path) for candidate in candidates)


def _but(names: list[str], word: str) -> str:
    """*names*, unless they say no more than *word*."""
    return "" if names == [word] else ", ".join(names)
