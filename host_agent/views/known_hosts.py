# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent known-hosts`: lines for OpenSSH's known_hosts, from the host keys that the guests reported over their channels.

A guest is not believed further than its own key: names are the document's, and of what it reported only type and blob of a
whole public key are printed.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from host_agent.errors import BadFile, HostError, shown
from host_agent.ledger.standing import State
from host_agent.views.status import View
from pv_channel.ssh_key import SshKey
from pv_channel.text import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

#: HMAC-SHA1's block of output, which is how much salt OpenSSH takes (hostfile.c).
_SALT_BYTES: Final = 20
#: An authority's public key is one line; a file of several megabytes is something else.
_MAX_FILE: Final = 64 * 1024


def run(arguments: Namespace) -> int:
    """Lines on standard output; on standard error each VM that has none, and then the exit status is 1."""
    authorities = [] if arguments.certificate_authority is None else _authorities(arguments.certificate_authority)
    status = 0
    for vm in _chosen(arguments):
        problem = _problem(vm, authorities)
        if problem:
            status = 1
            print(f"pv-host-agent: {vm['vm']}: {problem}", file=sys.stderr)
        else:
            print("\n".join(lines(vm, authorities, hashed=arguments.hash)))
    return status


def lines(vm: dict[str, Any], authorities: list[str], *, hashed: bool = False) -> list[str]:
    """The lines (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT") of a VM as `View` shows it. *hashed*: one for each name."""
    patterns = [_hashed(name) for name in vm["names"]] if hashed else [",".join(vm["names"])]
    of_authorities = [f"@cert-authority {pattern} {key}" for pattern in patterns for key in authorities if vm["certified"]]
    return of_authorities + [f"{pattern} {key}" for pattern in patterns for key in _keys(vm)]


def _chosen(arguments: Namespace) -> list[dict[str, Any]]:
    view = View(arguments.state)
    try:
        if not arguments.vms:
            return [vm for vm in view.all() if vm["state"] != State.REMOVED]
        found = [view.one(name) for name in arguments.vms]
    finally:
        view.close()
    for name, vm in zip(arguments.vms, found, strict=True):
        if vm is None:
            raise HostError(f"{printable(name)}: not in the ledger; 'pv-host-agent status' lists the VMs")
    return [vm for vm in found if vm is not None]


def _problem(vm: dict[str, Any], authorities: list[str]) -> str:
    """Why there is no line for this VM; empty where there is one."""
    if not vm["names"]:
        return "no document of it with 'fqdn', 'local-hostname' or a static address is in force, so nobody knows it by a name"
    if not _keys(vm) and not (authorities and vm["certified"]):
        return "its guest has not reported a host key; they come with its answer to the next generation"
    return ""


def _keys(vm: dict[str, Any]) -> list[str]:
    """``type blob`` of each key that the guest reported and that is one."""
    keys = []
    for line in vm["host-keys"]:
        try:
            parsed = SshKey(line).parsed
        except ValueError:
            continue
        if not parsed.options:
            keys.append(f"{parsed.kind} {parsed.blob}")
    return keys


def _authorities(path: Path) -> list[str]:
    """The public keys in the file at *path*, without comments."""
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(_MAX_FILE)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                parsed = SshKey(line).parsed
            except ValueError:
                raise BadFile(f"{shown(path)}:{number}: expected a public key; give the .pub file of the authority") from None
            keys.append(f"{parsed.kind} {parsed.blob}")
    if not keys:
        raise BadFile(f"{shown(path)}: holds no public key; give the .pub file of the authority")
    return keys


def _hashed(name: str) -> str:
    """*name* as ``ssh-keygen -H`` writes it: a salt, and the name's HMAC-SHA1 under it."""
    import hmac
    import os

    salt = os.urandom(_SALT_BYTES)
    digest = hmac.digest(salt, name.encode("ascii"), "sha1")
    return f"|1|{b64encode(salt).decode('ascii')}|{b64encode(digest).decode('ascii')}"
