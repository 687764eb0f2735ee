# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent backends`: which program would serve what, and why; start one by its type; check one."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.backends.descriptions import Convention
    from host_agent.backends.listing import Judged
    from host_agent.verbs import Verb

#: What comes after ``--`` is the program's own.
AFTER: Final = True
#: What can be done with a program beside listing it, each in a file of its own.
_WHATS: Final = {
    "run": "start the vhost-user program of a type, and end it",
    "check": "try a program against each sentence of QEMU's backend program conventions",
}
_MORE: Final = """
Other applications' channels are served by their own programs, one for each channel, which 'serve' starts when a VM with that
channel runs. Which program serves which channel is said by files NAME.json in /usr/share/pv-host-agent/backends,
/etc/pv-host-agent/backends, and for others than root $XDG_CONFIG_HOME/pv-host-agent/backends: {"description": TEXT,
"type": WORD, "binary": PATH, "channels": [CHANNEL, ...]}. A file in a later directory takes the place of one of its name in an
earlier one, and hides it if it is empty; files are tried in the order of their names. A program is asked for its capabilities
here, as 'serve' asks.
"""


def describe(verb: ArgumentParser) -> None:
    """Its arguments, and those of what can be done with programs."""
    verb.epilog = _MORE
    vhost_user = "list the programs of QEMU's own directories, which are devices of vhost-user; they are only read"
    directory = "look there instead; may be repeated, from general to specific"
    verb.add_argument("--vhost-user", action="store_true", help=vhost_user)
    verb.add_argument("--directory", type=Path, action="append", metavar="DIR", help=directory)
    options.channel(verb)
    options.as_json(verb)
    whats = verb.add_subparsers(dest="what", metavar="WHAT")
    for name, summary in _WHATS.items():
        _load(name).describe(whats.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."))


def run(arguments: Namespace) -> int:
    """Print what is described, and which VM's channel is served by what; or do what was said."""
    return _list(arguments) if arguments.what is None else _load(arguments.what).run(arguments)


def _load(name: str) -> Verb:
    return cast("Verb", import_module(f"{__name__}_{name}"))


def _list(arguments: Namespace) -> int:
    import asyncio

    from host_agent.backends.descriptions import Convention
    from host_agent.backends.listing import file_values

    convention = Convention.VHOST_USER if arguments.vhost_user else Convention.CHANNELS
    directories = _directories(arguments, convention)
    files = asyncio.run(_judged(directories, convention))
    values: dict[str, Any] = {"directories": [str(each) for each in directories], "files": [file_values(one) for one in files]}
    trouble = "" if arguments.vhost_user else _add_channels(values, files, arguments.channel)
    if arguments.json:
        options.print_json(values)
    else:
        _show(values)
    if trouble:
        print(f"pv-host-agent: {trouble}", file=sys.stderr)
    return 1 if trouble else 0


def _directories(arguments: Namespace, convention: Convention) -> list[Path]:
    import os

    from host_agent.backends.directories import directories

    return arguments.directory or directories(convention, os.environ, os.geteuid())


async def _judged(directories: list[Path], convention: Convention) -> list[Judged]:
    from host_agent.backends.asking import Answers
    from host_agent.backends.directories import look
    from host_agent.backends.listing import judged

    return await judged(look(directories, convention), Answers())


def _add_channels(values: dict[str, Any], files: list[Judged], ours: str) -> str:
    """Add the VMs' channels; why they are not known, or ""."""
    import asyncio

    from host_agent.backends.listing import channel_served
    from host_agent.channels.discovery import survey
    from host_agent.channels.listing import channels
    from host_agent.errors import HostError
    from host_agent.xenstore.client import socket_paths

    try:
        found = channels(asyncio.run(survey(socket_paths())), ours)
    except HostError as exc:
        return f"{exc}; the channels of VMs are left out"
    values["channels"] = [channel_served(channel, files, ours) for channel in found]
    return ""


def _show(values: dict[str, Any]) -> None:
    from host_agent.backends.listing import CHANNELS, FILES, rows_of_channels, rows_of_files
    from host_agent.views.table import show

    if values["files"]:
        show(FILES, rows_of_files(values["files"]), less=("features",))
    else:
        print(f"no file describes a program in {', '.join(values['directories'])}")
    if values.get("channels"):
        print()
        show(CHANNELS, rows_of_channels(values["channels"]))
    elif "channels" in values:
        print("no running domain has a channel")
