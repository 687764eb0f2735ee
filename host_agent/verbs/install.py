# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent install`: put the systemd unit and the directories in place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.errors import shown
from host_agent.install import install
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.add_argument("--root", type=Path, default=options.ROOT, metavar="DIR", help="install below DIR (default: %(default)s)")


def run(arguments: Namespace) -> int:
    """Say each path that was made, and what to do next."""
    for path in install(arguments.root):
        print(f"made {shown(path)}")
    print("next: pv-host-agent keys init")
    print("      journalctl --update-catalog; systemctl daemon-reload; systemctl enable --now pv-host-agent")
    return 0
