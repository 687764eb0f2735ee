# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent plug`: give a running VM a channel that it was created without."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.verbs import options
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.qemu.hotplug import Plugged

#: A guest takes a channel up within a fraction of a second; one that is just booting, or emulated, needs a while.
WAIT_SECONDS: Final = 30.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Add a channel to a running VM, as libxl would have made it: QEMU's end, the nodes in xenstore, both drivers connected."
        " Where any of that fails, or this command is ended, all of it is undone. The VM needs a QEMU, which a PV or PVH guest"
        " has that was created with any channel. A VM whose QEMU runs in a stubdomain gets it as a console of the stubdomain, and"
        " what runs there has to pass it on. 'serve' finds the channel by itself; the guest's agent is started by udev."
    )
    options.vm(verb)
    verb.add_argument("--name", default=CHANNEL_NAME, metavar="NAME", help="the channel's name (default: %(default)s)")
    place = verb.add_mutually_exclusive_group()
    usual = "where QEMU makes the socket, where only root can write (default: /run/pv-channel/VM.sock, or VM.NAME.sock)"
    place.add_argument("--path", type=Path, metavar="SOCKET", help=usual)
    place.add_argument("--pty", action="store_true", help="a terminal instead of a socket; QEMU chooses which")
    how_long = "undo it where the guest has not taken it up after S seconds (default: %(default)g)"
    verb.add_argument("--timeout", type=options.seconds, default=WAIT_SECONDS, metavar="S", help=how_long)
    options.as_json(verb)
    verb.epilog = (
        "A plugged channel lasts until the VM reboots, is saved or migrates: for longer, add it to the VM's configuration, too."
        " Exit status: 0 it is there and connected, perhaps because it was already; 1 it is not, and nothing has changed; 2 wrong"
        " usage."
    )


def run(arguments: Namespace) -> int:
    """For root in dom0."""
    from host_agent.qemu.hotplug import Wanted, plug
    from host_agent.qemu.hotplug_session import Places
    from host_agent.qemu.until_signalled import run as run_until_signalled

    wanted = Wanted(arguments.vm, arguments.name, arguments.path, pty=arguments.pty, seconds=arguments.timeout)
    start = time.monotonic()
    plugged = run_until_signalled(plug(wanted, Places.usual(), tell))
    if arguments.json:
        options.print_json(values(plugged))
    else:
        _show(plugged, time.monotonic() - start)
    return 0


def tell(sentence: str) -> None:
    """To whoever waits."""
    print(sentence, file=sys.stderr, flush=True)


def values(plugged: Plugged) -> dict[str, object]:
    """A plugged channel as ``--json`` prints it."""
    from pv_channel.greeting import uuid_text
    from pv_channel.text import printable

    return {
        "vm": printable(plugged.domain.name, 120),
        "uuid": uuid_text(plugged.domain.uuid),
        "domid": plugged.domain.domid,
        "console": plugged.console,
        "stubdomain": plugged.stubdomain,
        "channel": plugged.name,
        "connection": plugged.connection,
        "path": plugged.path,
        "already": plugged.already,
    }


def _show(plugged: Plugged, seconds: float) -> None:
    from host_agent.errors import shown
    from host_agent.qemu.running_vm import shown as shown_domain

    of_whom = "" if plugged.stubdomain is None else f" of its stubdomain {plugged.stubdomain}"
    what = f"{plugged.name} of {shown_domain(plugged.domain)}, console {plugged.console}{of_whom}: {shown(plugged.path)}"
    if plugged.already:
        print(f"there already: {what}")
    else:
        print(f"plugged in {seconds:.1f} s: {what}")
