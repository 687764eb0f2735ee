# SPDX-License-Identifier: Apache-2.0
"""The options that several verbs have, with the same names and words everywhere."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.install import DOCUMENTS, STATE
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from host_agent.documents.layers import Choice

ROOT: Final = Path("/")
#: Where a dom0 of a fleet has the fleet's file.
FLEET: Final = ROOT / "etc/pv-host-agent/fleet.yaml"


def state(verb: argparse.ArgumentParser) -> None:
    """``--state``."""
    verb.add_argument("--state", type=Path, default=ROOT / STATE, metavar="DIR", help="keys and ledger (default: %(default)s)")


def documents(verb: argparse.ArgumentParser) -> None:
    """``--documents``, for a verb that takes files: None where it is not given; see `layers_by`."""
    words = f"the directory of the VMs' documents, beside which defaults and groups are (default: {ROOT / DOCUMENTS})"
    verb.add_argument("--documents", type=Path, metavar="DIR", help=words)


def layers_by(arguments: argparse.Namespace) -> Choice:
    """What lies below a file, by ``--documents``: given, it is for every file, else for those that lie in the default one."""
    from host_agent.documents.layers import Choice

    given: Path | None = arguments.documents
    return Choice(given or ROOT / DOCUMENTS, everywhere=given is not None)


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
