# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent backends run`: start the vhost-user program of a type, and end it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.backends.descriptions import Description


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    from host_agent.backends.capabilities import QEMU_TYPES

    types = ", ".join(sorted(QEMU_TYPES))
    verb.description = (
        "Start the vhost-user program of a type: the first in QEMU's directories (see 'backends --vhost-user') that has the"
        " features asked for. It runs until it ends, or this command is ended, which ends it: by SIGTERM, and by SIGKILL after"
        " a few seconds. What comes after '--' is the program's own."
    )
    feature = "one that it has to have, as its --print-capabilities says; may be repeated"
    directory = "look there for description files instead; may be repeated, from general to specific"
    verb.add_argument("type", choices=sorted(QEMU_TYPES), metavar="TYPE", help=f"one of {types}")
    verb.add_argument("--socket-path", type=Path, required=True, metavar="PATH", help="where it is to listen for QEMU")
    verb.add_argument("--feature", action="append", default=[], metavar="NAME", dest="features", help=feature)
    verb.add_argument("--directory", type=Path, action="append", metavar="DIR", help=directory)
    verb.usage = "pv-host-agent backends run TYPE --socket-path PATH [--feature NAME] [--directory DIR] [-- ARGUMENT ...]"
    verb.epilog = (
        "A line on standard output says when it listens, and its pid. Exit status: the program's own, or 1 where there is none"
        " or it cannot be started; 2 wrong usage; 130 or 143 after Ctrl-C or SIGTERM."
    )


def run(arguments: Namespace) -> int:
    """Until it ends, or a signal ends it."""
    import os

    from host_agent.backends.by_type import Device
    from host_agent.backends.by_type import run as run_device
    from host_agent.backends.descriptions import Convention
    from host_agent.backends.directories import directories, look
    from host_agent.qemu import until_signalled

    device = Device(arguments.type, arguments.socket_path.absolute(), arguments.features, arguments.after)
    paths = arguments.directory or directories(Convention.VHOST_USER, os.environ, os.geteuid())
    found = look([path.absolute() for path in paths], Convention.VHOST_USER)
    status = until_signalled.run(run_device(device, found, lambda what, pid: _say(what, pid, device.socket)))
    return status if status >= 0 else 128 - status


def _say(description: Description, pid: int, path: Path) -> None:
    from host_agent.errors import shown

    print(f"{shown(description.binary)} (pid {pid}) listens at {shown(path)}", flush=True)
