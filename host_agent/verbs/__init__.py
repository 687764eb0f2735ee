# SPDX-License-Identifier: Apache-2.0
"""What an operator can say to pv-host-agent: a file per verb, with ``describe`` (its arguments) and ``run`` (to its exit status).

A verb may have an ``ALONE``, too: the option beside which nothing else that was said counts. Where it has ``AFTER``
what was said after ``--`` is for another program: it is not looked at, and is `after` among the arguments.

Only the verb that was said is loaded, so that a `status` in a loop is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Protocol

    class Verb(Protocol):
        """A module of this package."""

        @staticmethod
        def describe(verb: ArgumentParser) -> None:
            """Add the verb's arguments, and what more its help should say."""

        @staticmethod
        def run(arguments: Namespace) -> int:
            """Do it; the exit status. Raise `HostError` for what the operator has to hear of."""


#: What each verb is for, in the order of the help.
VERBS: Final = {
    "check": "say what is wrong with documents, before anything is sent",
    "push": "give one VM one document and wait for its answer",
    "serve": "serve every VM that has a document, over its channel, for ever",
    "status": "show what became of the VMs",
    "wait": "wait until VMs are what their documents say",
    "watch": "watch VMs come up: a live table, or a line for each change",
    "events": "print what happened to the VMs, and follow what happens",
    "reprovision": "have all that a VM's document says applied again",
    "timeline": "show what a VM's first boot was made of, as a table or a picture",
    "channels": "show every channel of every domain, whoever serves it",
    "backend": "serve one channel of one VM, as a backend program after QEMU's conventions",
    "backends": "show which programs serve other applications' channels, start and check one",
    "plug": "give a running VM a channel that it was created without",
    "unplug": "take a channel away from a running VM",
    "fleet": "see, wait for and change the VMs of many dom0s that share an etcd",
    "dm": "look after a VM's QEMU that runs in a stubdomain: its arguments, monitor, state and consoles",
    "migrate": "move the VM of a QEMU of one's own to another, or into a file, and say where it runs",
    "incoming": "have a QEMU of one's own take a VM in",
    "state": "carry what is on record of a VM to the host that the VM goes to",
    "doctor": "say why a VM's channel does not work, what shows it and what cures it",
    "keys": "this host's key, authorities and certificates",
    "forget-key": "believe whatever key a VM's guest shows next",
    "known-hosts": "print known_hosts lines of the host keys that the guests reported",
    "convert": "turn one format of a network's configuration into another",
    "schema": "print the JSON Schema of a document, for editors",
    "completion": "print a script that completes this command in a shell",
    "install": "put the systemd unit and the directories in place",
}


def load(name: str) -> Verb:
    """The module of the verb *name*, one of `VERBS`."""
    return cast("Verb", import_module(f"{__name__}.{name.replace('-', '_')}"))
