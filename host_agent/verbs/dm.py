# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent dm`: a VM's QEMU that runs in a stubdomain, seen from the toolstack's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.verbs import dm_argv, dm_consoles, dm_lint, dm_qmp, dm_state, dm_wait

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

#: What stands after ``--`` is QEMU's.
AFTER: Final = True
_STATUS: Final = "Exit status: 0 done; 1 it is not, and why; 2 wrong usage."


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "A VM's QEMU, its device model, can run in a domain of its own, a Linux stubdomain, instead of in dom0. These verbs do"
        " what a toolstack does for it, after Xen's 'Toolstack to Linux ioemu stubdomain protocol': say QEMU's arguments, wait"
        " until it is up, speak with it, carry its state out and in. Inside runs pv-stubdom-launch(8). What libxl started is"
        " served as well: the nodes, the locks and the places are libxl's own."
    )
    verb.epilog = _STATUS
    what = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    dm_argv.describe(what.add_parser("argv", help="publish the arguments of a stubdomain's QEMU, or show them", epilog=_STATUS))
    dm_lint.describe(what.add_parser("lint", help="say which arguments cannot work in a stubdomain", epilog=_STATUS))
    dm_wait.describe(what.add_parser("wait", help="wait until the QEMU in the stubdomain is up", epilog=_STATUS))
    dm_qmp.describe(what.add_parser("qmp", help="ask the QEMU in the stubdomain something, or serve its monitor", epilog=_STATUS))
    dm_state.describe_save(what.add_parser("save", help="have QEMU's state come out, into a file", epilog=_STATUS))
    dm_state.describe_restore(what.add_parser("restore", help="bring QEMU's state into a new stubdomain", epilog=_STATUS))
    dm_consoles.describe(what.add_parser("consoles", help="show what each console of the stubdomain is", epilog=_STATUS))


def run(arguments: Namespace) -> int:
    """For root in dom0."""
    status: int = arguments.do(arguments)
    return status
