# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent schema`: print the JSON Schema of a document, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """It has no arguments."""
    verb.description = (
        "Print the JSON Schema (2020-12) of a document as an operator writes it. An editor that knows YAML schemas completes and"
        " checks documents that begin with the line '# yaml-language-server: $schema=FILE'."
    )


def run(arguments: Namespace) -> int:
    """Print it."""
    from host_agent import schema

    return schema.run(arguments)
