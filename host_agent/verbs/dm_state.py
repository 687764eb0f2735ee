# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent dm save` and `dm restore`: a device model's state out of its stubdomain, and into another."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from host_agent.verbs import dm_domains, options
from host_agent.verbs.dm_qmp import way, way_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

#: Libxl's for a stubdomain to come up; and for a state to pass, which takes a fraction of a second.
READY_SECONDS: Final = 30.0
STATE_SECONDS: Final = 60.0
#: What console 1 is inside.
FILENAME: Final = "/dev/hvc1"


def describe_save(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Have the VM's QEMU write the state of its devices to console 1 of its stubdomain, read it there, and write it to FILE,"
        " mode 600, whole or not at all. The guest's memory is not in it: that is the hypervisor's. A VM that runs goes on."
    )
    dm_domains.describe(verb, "FILE")
    verb.add_argument("--stop", action="store_true", help="stop the VM first, and leave it stopped, as libxl does")
    what = "what QEMU writes to inside: console 1 (default: %(default)s)"
    verb.add_argument("--filename", default=FILENAME, metavar="PATH", help=what)
    how_long = "for QEMU to write it (default: %(default)g)"
    verb.add_argument("--save-timeout", type=options.seconds, default=STATE_SECONDS, metavar="S", help=how_long)
    way(verb)
    options.as_json(verb)
    status = "Exit status: 0 the file is there; 1 it is not, and an old one is untouched; 2 wrong usage."
    verb.epilog = f"FILE '-' is standard output. {status}"
    verb.set_defaults(do=_save)


def describe_restore(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Send FILE, which 'dm save' wrote, into console 2 of a stubdomain whose QEMU was given -incoming"
        " '$STUBDOM_RESTORE_INCOMING_ARG', and wait until it has taken it. Nothing is sent before pv-stubdom-launch has said"
        " (at /local/domain/S/device-model/T/restore) that the console is raw: what came earlier would be lost or spoilt."
    )
    dm_domains.describe(verb, "FILE")
    for option, seconds, words in (
        ("--ready-timeout", READY_SECONDS, "for the launcher to be ready"),
        ("--send-timeout", STATE_SECONDS, "for QEMU to take it"),
        ("--start-timeout", READY_SECONDS, "for QEMU to be up with it"),
    ):
        verb.add_argument(option, type=options.seconds, default=seconds, metavar="S", help=f"{words} (default: %(default)g)")
    way(verb)
    options.as_json(verb)
    verb.epilog = (
        "FILE '-' is standard input. Where a part of it was sent, the stubdomain has to be started anew. Exit status: 0 QEMU has"
        " all of it; 1 it has not; 2 wrong usage."
    )
    verb.set_defaults(do=_restore)


def _save(arguments: Namespace) -> int:
    from host_agent import file_or_pipe
    from host_agent.qemu.until_signalled import run as until_signalled
    from host_agent.stubdom import state_file

    (name,) = dm_domains.words(arguments, 1)
    if arguments.json and name == file_or_pipe.PIPE:
        arguments.wrong_usage("--json and '-' both want standard output")
    state_file.check_writable(name)
    start = time.monotonic()
    state = until_signalled(_saved(arguments))
    state_file.write(name, state)
    _tell(arguments, name, f"{len(state):,} bytes saved in {time.monotonic() - start:.1f} s", {"bytes": len(state)})
    return 0


async def _saved(arguments: Namespace) -> bytes:
    from host_agent.stubdom.save import Wish, save

    wish = Wish(arguments.filename, arguments.stop, arguments.save_timeout)
    async with dm_domains.found(arguments) as (store, places, pair):
        return await save(store, places, pair, way_of(arguments), wish, dm_domains.tell)


def _restore(arguments: Namespace) -> int:
    from host_agent.qemu.until_signalled import run as until_signalled
    from host_agent.stubdom import state_file

    (name,) = dm_domains.words(arguments, 1)
    state = state_file.read(name)
    start = time.monotonic()
    status = until_signalled(_restored(arguments, state))
    said = f"{len(state):,} bytes restored in {time.monotonic() - start:.1f} s; the VM is {status}"
    _tell(arguments, "", said, {"bytes": len(state), "status": status})
    return 0


async def _restored(arguments: Namespace, state: bytes) -> str:
    from host_agent.stubdom.restore import Wish, restore

    wish = Wish(arguments.ready_timeout, arguments.send_timeout, arguments.start_timeout)
    async with dm_domains.found(arguments) as (store, places, pair):
        return await restore(store, places, pair, way_of(arguments), wish, state, dm_domains.tell)


def _tell(arguments: Namespace, name: str, sentence: str, values: dict[str, Any]) -> None:
    if arguments.json:
        options.print_json(values)
    else:
        print(sentence, file=sys.stderr if name == "-" else sys.stdout)
