# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent check`: say what is wrong with documents, before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.document_file import read
from host_agent.errors import BadFile, shown

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a document, YAML or JSON")


def run(arguments: Namespace) -> int:
    """One line per file: what is wrong with it, or that it is good."""
    status = 0
    for path in arguments.files:
        try:
            read(path)
        except BadFile as exc:
            status = 1
            print(exc)
        else:
            print(f"{shown(path)}: ok")
    return status
