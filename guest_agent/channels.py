# SPDX-License-Identifier: Apache-2.0
"""The verb `channels`: each console on the xen bus, its channel's name, its tty as far as one can tell, and whose it is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from guest_agent.channel import Console, consoles, predict
from guest_agent.registry import BadRegistry, records
from guest_agent.xenbus import XenbusError
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from pv_channel.registry import Record


def show(arguments: argparse.Namespace, find: Callable[[], list[Console]] = consoles) -> int:
    """Print the channels; the exit status: 0 also where there are none, 1 where they cannot be told."""
    try:
        rows = describe(find(), records(arguments.registry))
    except (BadRegistry, XenbusError) as exc:
        sys.stderr.write(f"pv-guest-agent: {exc}\n")
        return 1
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if arguments.json else _table(rows))
    return 0


def describe(found: Sequence[Console], registered: Sequence[Record]) -> list[dict[str, str | None]]:
    """One row a console. The tty is a prediction, right where no channel was ever unplugged: only a greeting proves it."""
    ttys = predict(found)
    return [
        {
            "device": f"console-{console.number}",
            "name": console.name,
            "state": console.state or None,
            "tty": f"/dev/hvc{ttys[console.number]}" if console.number in ttys else None,
            "owner": _owner(console.name, registered),
        }
        for console in found
    ]


def _owner(name: str | None, registered: Sequence[Record]) -> str | None:
    if name == CHANNEL_NAME:
        return "this agent"
    return next((record.description for record in registered if record.name == name), None)


def _table(rows: Sequence[dict[str, str | None]]) -> str:
    if not rows:
        return (
            "no channels: this guest has no console on the xen bus besides its primary one.\n"
            "In dom0: does the guest's configuration have a 'channel=' entry? xl 4.17 to 4.20 drop the first one.\n"
        )
    heads = ("device", "state", "tty", "name", "owner")
    lines = [heads, *(tuple(row[head] or "-" for head in heads) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) - 1)]
    return "".join("  ".join([*map(str.ljust, line, widths), line[-1]]) + "\n" for line in lines)
