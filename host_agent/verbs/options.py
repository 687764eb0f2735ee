# SPDX-License-Identifier: Apache-2.0
"""The options that several verbs have, with the same names and words everywhere."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from host_agent.install import STATE
from pv_channel import CHANNEL_NAME

ROOT: Final = Path("/")


def state(verb: argparse.ArgumentParser) -> None:
    """``--state``."""
    verb.add_argument("--state", type=Path, default=ROOT / STATE, metavar="DIR", help="keys and ledger (default: %(default)s)")


def channel(verb: argparse.ArgumentParser) -> None:
    """``--channel``."""
    verb.add_argument("--channel", default=CHANNEL_NAME, metavar="NAME", help="the channel's name (default: %(default)s)")


def as_json(verb: argparse._ActionsContainer) -> None:
    """``--json``."""
    verb.add_argument("--json", action="store_true", help="print JSON on standard output instead of a table")


def vm(verb: argparse.ArgumentParser, *, optional: str = "") -> None:
    """The VM that is meant; *optional* says what it means to name none."""
    words = f"a VM's name or uuid{': ' + optional if optional else ''}"
    verb.add_argument("vm", metavar="VM", help=words, **({"nargs": "?"} if optional else {}))  # type: ignore[arg-type]  # argparse's own


def seconds(text: str) -> float:
    """A number of seconds above 0, for ``type=``."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds above 0")
    return value


def generation(text: str) -> int:
    """The number of a generation, for ``type=``."""
    from pv_channel.document import MAX_GENERATION

    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_GENERATION:
        raise argparse.ArgumentTypeError("expected the number of a generation, 1 or more")
    return int(text)


def print_json(values: object) -> None:
    """What ``--json`` prints."""
    print(json.dumps(values, indent=2))
