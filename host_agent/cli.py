# SPDX-License-Identifier: Apache-2.0
"""The command line of pv-host-agent: its verbs, and what is said of all of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from host_agent import VERSION
from host_agent.verbs import VERBS, load

if TYPE_CHECKING:
    from collections.abc import Sequence

_STATUS: Final = "Exit status: 0 done, 1 an error or a guest that is not as it should be, 2 wrong usage."


def parser() -> argparse.ArgumentParser:
    """The parser of everything; *verb* in what it returns names the verb."""
    top = argparse.ArgumentParser(
        prog="pv-host-agent",
        description="Configure Xen guests over their PV channels, and keep what became of them.",
        epilog=_STATUS,
    )
    top.add_argument("--version", action="version", version=f"pv-host-agent {VERSION}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, summary in VERBS.items():
        load(name).describe(verbs.add_parser(name, help=summary, description=_sentence(summary)))
    return top


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments *words*, with the *verb* that they begin with; a wrong usage ends the program with 2."""
    if not words or words[0] not in VERBS:
        return parser().parse_args(words)
    name = words[0]  # the parsers of the other verbs would load all that those need
    verb, module = argparse.ArgumentParser(prog=f"pv-host-agent {name}", description=_sentence(VERBS[name])), load(name)
    module.describe(verb)
    alone: str = getattr(module, "ALONE", "")
    mine, after = [alone] if alone and alone in words else list(words[1:]), []
    if getattr(module, "AFTER", False) and "--" in mine:
        end = mine.index("--")
        mine, after = mine[:end], mine[end + 1 :]
    return verb.parse_args(mine, argparse.Namespace(verb=name, after=after))


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."
