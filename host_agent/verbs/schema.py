# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent schema`: print the JSON Schema of what operators write, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Print the JSON Schema (2020-12) of a VM's own file as an operator writes it. An editor that knows YAML schemas completes"
        " and checks files that begin with the line '# yaml-language-server: $schema=FILE'."
    )
    verb.add_argument("--layer", action="store_true", help="the schema of defaults and of groups, in place of a VM's own file")


def run(arguments: Namespace) -> int:
    """Print it."""
    from host_agent.documents import schema

    return schema.run(arguments)
