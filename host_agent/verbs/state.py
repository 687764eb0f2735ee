# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent state`: carry what this host knows of a VM to where the VM goes, beside `xl save` or with its QEMU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.qemu.vmstate_broker import Stage

_STATUS = "Exit status: 0 done; 1 it is not, and why; 2 wrong usage."


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Carry what is on record of a VM (the pinned key of its guest, what it has become; no private key, no document) to the"
        " host that the VM goes to: in a file or a pipe beside 'xl save' and 'xl migrate', whose QEMU has no dbus-vmstate, or"
        " with the VM by a QEMU that has. What other programs have for the VM (org.qemu.VMState1 on its bus) goes along."
    )
    verb.epilog = _STATUS
    what = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    _describe_save(what.add_parser("save", help="write the VM's state, and its helpers', as one bundle", epilog=_STATUS))
    _describe_load(what.add_parser("load", help="take a bundle into the ledger, and give the helpers theirs", epilog=_STATUS))
    _describe_helper(what.add_parser("helper", help="be the helper that a QEMU's dbus-vmstate asks, until ended", epilog=_STATUS))


def run(arguments: Namespace) -> int:
    """Save, load, or help."""
    return {"save": _save, "load": _load, "helper": _helper}[arguments.what](arguments)


def _describe_save(save: ArgumentParser) -> None:
    save.description = "Ask each helper of the VM for its state, add the ledger's, and write all of it as one bundle, mode 600."
    options.vm(save)
    save.add_argument("file", metavar="FILE", help="the file to write, all at once or not at all; '-' is standard output")
    _describe_common(save)
    save.set_defaults(wrong_usage=save.error)


def _describe_load(load: ArgumentParser) -> None:
    load.description = (
        "Load a bundle: this ledger then knows the VM's guest by the key that was pinned where it came from, so the bundle must"
        " come by a way that nobody else can write to. What is newer here stays; another key that is pinned here is not replaced."
    )
    options.vm(load)
    load.add_argument("file", metavar="FILE", help="the bundle; '-' is standard input")
    force = "take the bundle's word against this ledger's: another pinned key, a quarrel over the key, newer news"
    load.add_argument("--force", action="store_true", help=force)
    _describe_common(load)


def _describe_common(verb: ArgumentParser) -> None:
    verb.add_argument("--bus", metavar="ADDRESS", help="the VM's D-Bus bus with its helpers (default: only the ledger's state)")
    ids = "the ids that have to be there, and no others, as in QEMU's id-list (default: all that are)"
    verb.add_argument("--id-list", metavar="ID[,ID]", help=ids)
    options.state(verb)
    options.as_json(verb)


def _describe_helper(helper: ArgumentParser) -> None:
    helper.description = (
        "Wait in line for org.qemu.VMState1 and answer the VM's QEMU, and root, alone. Prints the arguments for that QEMU once it"
        " may be started. Ends with SIGTERM or SIGINT, or with the bus."
    )
    options.vm(helper)
    where = helper.add_mutually_exclusive_group(required=True)
    where.add_argument("--bus", metavar="ADDRESS", help="a bus that is there, of this VM alone")
    own = "start a bus of this VM's own, and keep its socket and configuration in DIR, mode 700"
    where.add_argument("--directory", type=Path, metavar="DIR", help=own)
    incoming = "the VM is to come here: its state is loaded into the ledger when it does"
    helper.add_argument("--incoming", action="store_true", help=incoming)
    helper.add_argument("--qemu-uid", type=_number, metavar="UID", help="the user of the VM's QEMU, where that is not root")
    helper.add_argument("--qemu-pid", type=_number, metavar="PID", help="the process of the VM's QEMU, where it is known")
    options.state(helper)


def _save(arguments: Namespace) -> int:
    from host_agent import file_or_pipe
    from host_agent.qemu import bundle_file, vmstate_broker
    from host_agent.qemu.until_signalled import run as until_signalled
    from host_agent.qemu.vmstate_peers import LEDGER_ID
    from pv_channel.text import printable

    if arguments.json and arguments.file == file_or_pipe.PIPE:
        arguments.wrong_usage("--json and '-' both want standard output")
    parts = until_signalled(vmstate_broker.gather(_stage(arguments)))
    bundle_file.write(arguments.file, parts)
    if LEDGER_ID not in (part.id for part in parts):
        print(f"pv-host-agent: {printable(arguments.vm)}: of the ledger nothing goes along", file=sys.stderr)
    if arguments.json:
        values = [{"id": printable(part.id, 255), "bytes": len(part.state)} for part in parts]
        options.print_json({"vm": printable(arguments.vm, 200), "parts": values})
        return 0
    for part in parts:
        print(f"{printable(part.id, 255)}: {len(part.state):,} bytes saved", file=_for_people(arguments))
    return 0


def _load(arguments: Namespace) -> int:
    from host_agent import who
    from host_agent.ledger.travel import Manner
    from host_agent.qemu import bundle_file, vmstate_broker
    from host_agent.qemu.until_signalled import run as until_signalled
    from pv_channel.text import printable

    parts = bundle_file.read(arguments.file)
    manner = Manner(who.operator(), force=arguments.force)
    done = until_signalled(vmstate_broker.hand_out(_stage(arguments), parts, manner))
    if arguments.json:
        options.print_json({"vm": printable(arguments.vm, 200), "parts": done})
        return 0
    for text in done:
        print(f"{printable(arguments.vm, 200)}: {text}")
    return 0


def _helper(arguments: Namespace) -> int:
    from host_agent import who
    from host_agent.qemu.ledger_state import LedgerState
    from host_agent.qemu.until_signalled import run as until_signalled
    from host_agent.qemu.vmstate import Allowed
    from host_agent.qemu.vmstate_serving import Place, serve
    from host_agent.sd_notify import Notifier
    from pv_channel.text import printable

    name = printable(arguments.vm, 200)

    def tell(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    def ready(address: str) -> None:
        print(f"-object dbus-vmstate,id=vmstate,addr={address.replace(',', ',,')}", flush=True)
        Notifier().ready(f"helper of {name}")

    state = LedgerState(arguments.state, arguments.vm, who.operator(), tell, incoming=arguments.incoming)
    place = Place(arguments.bus, arguments.directory, Allowed(arguments.qemu_uid, arguments.qemu_pid))
    until_signalled(serve(place, state, ready, tell))
    return 0


def _stage(arguments: Namespace) -> Stage:
    from host_agent.qemu.vmstate_broker import Stage
    from host_agent.qemu.vmstate_peers import listed

    ids = None if arguments.id_list is None else listed(arguments.id_list)
    return Stage(arguments.state, arguments.vm, arguments.bus, ids)


def _for_people(arguments: Namespace) -> Any:
    """Where words go that are not the bundle."""
    return sys.stderr if arguments.file == "-" else sys.stdout


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError("expected a number")
    return int(text)
