# SPDX-License-Identifier: Apache-2.0
"""Whose a channel's name is, by channel-registry.txt: ours to speak on, or another application's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from pv_channel.errors import LocalError
from pv_channel.registry import Record, parse

NAME: Final = "channel-registry.txt"
#: Where the wheel puts what is neither code nor a program (pyproject.toml, shared-data).
SHARED: Final = "share/pv-channel-agents"


class BadRegistry(LocalError):  # noqa: N818 -- it says what the file is
    """A registry that was named and cannot be read, or is none."""


def shared(name: str) -> Path | None:
    """The file or folder *name* that the distribution brings: beside the package in a checkout, else where the wheel put it."""
    for path in (Path(__file__).parent.parent / name, Path(sys.prefix) / SHARED / name):
        if path.exists():
            return path
    return None


def records(path: str | None) -> list[Record]:
    """The records of the registry at *path*, by default the distribution's own; raise `BadRegistry` naming file and line."""
    where = shared(NAME) if path is None else Path(path)
    if where is None:
        raise BadRegistry(f"{NAME} is neither beside the program nor in {Path(sys.prefix) / SHARED}; name one by --registry")
    try:
        return parse(where.read_text(encoding="utf-8"))
    except OSError as exc:
        raise BadRegistry(f"{where}: {exc.strerror}; name another with --registry FILE") from exc
    except (LocalError, UnicodeDecodeError) as exc:
        raise BadRegistry(f"{where}: {exc}; correct it, or name another with --registry FILE") from exc
