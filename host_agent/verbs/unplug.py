# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent unplug`: take a channel away from a running VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

#: For the guest's kernel to close its end.
WAIT_SECONDS: Final = 30.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Take a channel away from a running VM, whether it was plugged or created with it: the guest's kernel closes its end, and"
        " then its terminal, the nodes in xenstore, QEMU's end and the socket are gone. A guest that does not answer keeps the"
        " channel, unless --force is said. A channel of the VM's configuration is back when the VM reboots."
    )
    options.vm(verb)
    which = "the channel's name, or its console's number: 'pv-host-agent channels' shows both"
    verb.add_argument("channel", metavar="NAME|ID", help=which)
    force = "where the guest does not answer, take it away all the same: what the guest writes there meanwhile can hang it"
    verb.add_argument("--force", action="store_true", help=force)
    how_long = "how long the guest may take to close its end (default: %(default)g)"
    verb.add_argument("--timeout", type=options.seconds, default=WAIT_SECONDS, metavar="S", help=how_long)
    options.as_json(verb)
    verb.epilog = (
        "Exit status: 0 it is gone; 1 it is not, or there is no such channel; 2 wrong usage. Ended when the guest has lost the"
        " channel and QEMU not yet, say it again with the ID."
    )


def run(arguments: Namespace) -> int:
    """For root in dom0."""
    from host_agent.qemu.hotplug_session import Places
    from host_agent.qemu.hotunplug import Unwanted, unplug
    from host_agent.qemu.running_vm import shown
    from host_agent.qemu.until_signalled import run as run_until_signalled
    from host_agent.verbs.plug import tell
    from pv_channel.greeting import uuid_text
    from pv_channel.text import printable

    unwanted = Unwanted(arguments.vm, arguments.channel, force=arguments.force, seconds=arguments.timeout)
    gone = run_until_signalled(unplug(unwanted, Places.usual(), tell))
    domain, name = gone.domain, printable(gone.name, 120)
    if arguments.json:
        vm = {"vm": printable(domain.name, 120), "uuid": uuid_text(domain.uuid), "domid": domain.domid}
        options.print_json({**vm, "console": gone.console, "channel": name})
    else:
        print(f"unplugged {name or 'what QEMU still had'} of {shown(domain)}, console {gone.console}")
    return 0
