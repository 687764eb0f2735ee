# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent known-hosts`: print known_hosts lines of the host keys that the guests reported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Print lines for OpenSSH's known_hosts: the names are those of the VM's document (fqdn, hostname, static addresses), the"
        " keys those that its guest reported. A VM without either is told on standard error, and then the exit status is 1."
    )
    verb.add_argument("vms", nargs="*", metavar="VM", help="a VM's name or uuid (default: all)")
    verb.add_argument("--hash", action="store_true", help="hash the names, as ssh-keygen -H does")
    authority = "for VMs whose document has host certificates, also a @cert-authority line with this public key"
    verb.add_argument("--certificate-authority", type=Path, metavar="FILE", help=authority)
    options.state(verb)


def run(arguments: Namespace) -> int:
    """Print them."""
    from host_agent.views import known_hosts

    return known_hosts.run(arguments)
