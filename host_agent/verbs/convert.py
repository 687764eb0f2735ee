# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent convert`: turn one format of a network's configuration into another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.documents.formats import FORMATS

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Print a network's configuration in another format: cloud-init's network-config version 1 (v1) or 2 (v2), or OpenStack's"
        " network_data.json (openstack). What the other format cannot say is an error that names its place; nothing is dropped."
    )
    verb.add_argument("file", nargs="?", type=Path, metavar="FILE", help="YAML or JSON (default: standard input)")
    verb.add_argument("--from", dest="source", choices=FORMATS, metavar="FORMAT", help="v1, v2, openstack (default: as it looks)")
    verb.add_argument("--to", dest="target", choices=FORMATS, required=True, metavar="FORMAT", help="v1, v2 or openstack")
    verb.add_argument("--json", action="store_true", help="print JSON instead of YAML")


def run(arguments: Namespace) -> int:
    """Print it."""
    from host_agent.documents import convert

    return convert.run(arguments)
