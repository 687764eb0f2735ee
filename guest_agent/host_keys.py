# SPDX-License-Identifier: Apache-2.0
"""This machine's ssh host public keys, so that dom0 can write an exact known_hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pv_channel.messages import MAX_HOST_KEYS
from pv_channel.ssh_key import SshKey

if TYPE_CHECKING:
    from guest_agent.system import System

_DIRECTORY: Final = "/etc/ssh"
#: An RSA key of 8,192 bits has 1,400 characters; a line is at most what a `Result` carries.
_MAX_LINE: Final = 2048


def host_keys(system: System) -> list[str]:
    """The lines of /etc/ssh/ssh_host_*_key.pub that are public keys; a file that holds none is passed over."""
    try:
        names = [name for name in system.names(_DIRECTORY) if name.startswith("ssh_host_") and name.endswith("_key.pub")]
    except OSError:  # the answer is about a generation that is in force by now, whatever becomes of its keys
        return []
    found = (_public_key(system, f"{_DIRECTORY}/{name}") for name in names)
    return [line for line in found if line][:MAX_HOST_KEYS]


def _public_key(system: System, path: str) -> str:
    try:
        stored = system.read(path, _MAX_LINE)
        line = "" if stored is None else stored.content.decode("ascii").rstrip("\n")
        key = SshKey(line)
    except (OSError, ValueError):  # what is no key is not ours to mend, and no reason to fail a document
        return ""
    return "" if key.parsed.options else str(key)
