# SPDX-License-Identifier: Apache-2.0
"""The channel's name as an operator gives it: one that can be a name, and that the registry does not give to somebody else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import BadFile, HostError, shown
from pv_channel.errors import LocalError
from pv_channel.greeting import channel_name
from pv_channel.registry import claim, parse
from pv_channel.text import printable

if TYPE_CHECKING:
    from pv_channel.registry import Record

_FILE: Final = "channel-registry.txt"


def shared_files() -> Path:
    """Where the distribution's files beside its code are: installed below the prefix, or the checkout itself."""
    installed = Path(sys.prefix) / "share" / "pv-channel-agents"
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / _FILE).is_file() else installed


def records() -> list[Record]:
    """What the registry says of who speaks on which channel; raise `BadFile`."""
    path = shared_files() / _FILE
    try:
        return parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, LocalError) as exc:
        raise BadFile(f"{shown(path)}: {printable(exc, 200)}; is the installation complete?") from None


def claimed(name: str) -> bytes:
    """The channel *name* for the wire; raise `HostError` where it cannot be one or belongs to another application."""
    registry = records()
    try:
        claim(registry, name)
        return channel_name(name)
    except LocalError as exc:
        raise HostError(f"--channel {printable(name)}: {exc}") from None
