# SPDX-License-Identifier: Apache-2.0
"""The item ``hostname``: /etc/hostname, our block in /etc/hosts, and the running kernel's name.

Name services take the first line of /etc/hosts that has the name or the address (hosts(5), nss(5)), and Debian's installer
writes a ``127.0.1.1`` line of its own. Nothing of the user's is changed or commented out: our block stands before the first
entry, behind the comments that a file begins with, and so it is the one that counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.actions import block
from guest_agent.actions.plan import Plan
from guest_agent.changes.files import WriteFile
from guest_agent.changes.running import SetHostname

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.document import Document

HOSTNAME: Final = "/etc/hostname"
HOSTS: Final = "/etc/hosts"
#: Debian's address for a machine's own name: one that is there without a network (Debian Reference, section 5.1.1).
OWN_ADDRESS: Final = "127.0.1.1"


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the machine have the document's name; None where it names none. Raise `OSError`."""
    short, full = names(document)
    if not short:
        return None
    old = draft.read(HOSTS)
    line = " ".join(filter(None, (OWN_ADDRESS, full, short)))
    changes: list[Change] = [
        *draft.own(HOSTNAME, f"{short}\n".encode("ascii")),
        WriteFile(HOSTS, with_our_line(b"" if old is None else old.content, line)),
        SetHostname(short),
    ]
    return Plan(changes, full or short)


def names(document: Document) -> tuple[str, str]:
    """The short name and the full one, each empty where the document says none: a dotted local-hostname is a full name too."""
    local = "" if document.local_hostname is msgspec.UNSET else str(document.local_hostname)
    full = "" if document.fqdn is msgspec.UNSET else str(document.fqdn)
    full = full or (local if "." in local else "")
    return (local or full).partition(".")[0], full


def with_our_line(hosts: bytes, line: str) -> bytes:
    """*hosts* with our block, holding *line*, before the first entry."""
    foreign, _ = block.part(hosts)
    position = next((n for n, entry in enumerate(foreign) if _is_entry(entry)), len(foreign))
    return block.insert(foreign, position, [line])


def _is_entry(line: bytes) -> bool:
    return bool(line.partition(b"#")[0].strip())
