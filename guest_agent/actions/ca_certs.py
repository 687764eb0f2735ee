# SPDX-License-Identifier: Apache-2.0
"""The item ``ca-certs``: the document's authorities beside the distribution's, a file each, which a program collects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.actions.plan import Plan
from guest_agent.changes.running import RunCommand
from guest_agent.failure import ItemError
from pv_channel.digest import sha256

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.document import Document


class Store(NamedTuple):
    """How a distribution does it: where it takes its administrator's certificates from, and what collects them.

    *again* also forgets those that have gone.
    """

    directory: str
    program: str
    collect: list[str]
    again: list[str]


_DEBIANS: Final = ["update-ca-certificates"]
STORES: Final = (
    Store("/etc/pki/ca-trust/source/anchors", "/usr/bin/update-ca-trust", ["update-ca-trust"], ["update-ca-trust"]),
    Store("/etc/pki/trust/anchors", "/usr/sbin/update-ca-certificates", _DEBIANS, _DEBIANS),
    Store("/usr/local/share/ca-certificates", "/usr/sbin/update-ca-certificates", _DEBIANS, [*_DEBIANS, "--fresh"]),
)


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the machine believe them; None where the document says nothing of authorities. Raise `ItemError`, `OSError`."""
    if document.ca_certs is msgspec.UNSET:
        return None
    trusted = document.ca_certs.trusted
    if not trusted and not draft.before:
        return Plan([], "none of ours")
    store = _store(draft.system)
    wanted = {f"{store.directory}/pv-guest-agent-{sha256(pem.encode('ascii')).hex()[:16]}.crt": pem for pem in trusted}
    gone = draft.gone(wanted)
    # What is undone last is said first: the old files are back by then.
    changes: list[Change] = [RunCommand([], store.again), *gone]
    for path, pem in wanted.items():
        changes += draft.own(path, pem.encode("ascii"))
    changes.append(RunCommand(store.again if gone else store.collect, []))
    return Plan(changes, f"{len(wanted)} of ours, by {store.collect[0]}" if wanted else "none of ours any more")


def _store(system: System) -> Store:
    """The first whose program and directory are there, else the first whose program is; raise `ItemError`."""
    there = [store for store in STORES if system.exists(store.program)]
    found = [store for store in there if system.exists(store.directory.rpartition("/")[0])]
    if not found:
        raise ItemError("not-supported", "nothing collects certificates here; install ca-certificates in the template")
    return found[0]
