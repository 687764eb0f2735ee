# SPDX-License-Identifier: Apache-2.0
"""The item ``host-trust``: whom the guest believes besides those its template pinned, and whom no more.

Revocations only accumulate: no document takes one back, nor does one that leaves them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.actions.plan import Plan
from guest_agent.changes.files import WriteFile
from guest_agent.failure import ItemError
from guest_agent.identity import HOST_TRUST, KEY_MODE, MAX_TRUSTED_BYTES, BadTrust, pins
from pv_channel.errors import LocalError
from pv_channel.host_trust import MAX_REVOKED
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, REVOKED_TYPE, Trust, parse_trusted

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.system import System
    from pv_channel.document import Document
    from pv_channel.host_trust import AuthorityKey, HostKey, HostTrust

_HEAD: Final = "# Written by pv-guest-agent, as documents have it (host_trust). What is revoked stays so.\n"


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the guest believe them; None where the document says nothing of hosts. Raise `ItemError`, `OSError`."""
    if document.host_trust is msgspec.UNSET:
        return None
    stored = draft.system.read(HOST_TRUST, MAX_TRUSTED_BYTES)
    content = _merged("" if stored is None else stored.content.decode("ascii", "replace"), document.host_trust)
    trust = _checked(draft.system, content)
    said = f"{len(trust.authorities)} authorities and {len(trust.host_keys)} hosts of ours, {len(trust.revoked)} revoked"
    if stored is None and not trust.pinned and not trust.revoked:
        return Plan([], said)
    return Plan([WriteFile(HOST_TRUST, content.encode("ascii"), KEY_MODE)], said)


def _merged(before: str, wanted: HostTrust) -> str:
    """What the file is to hold that holds *before*: of what *wanted* does not speak, the same; nothing revoked less."""
    revoked = _lines(before, REVOKED_TYPE)
    known = {line.split()[1] for line in revoked}
    new = [f"{REVOKED_TYPE} {key} {note}".rstrip() for key, note in sorted(wanted.revoked.items()) if key not in known]
    parts = (
        _lines(before, AUTHORITY_TYPE) if wanted.authorities is msgspec.UNSET else _named(wanted.authorities),
        _lines(before, HOST_KEY_TYPE) if wanted.hosts is msgspec.UNSET else _named(wanted.hosts),
        revoked + new,
    )
    return _HEAD + "".join(f"{line}\n" for part in parts for line in part)


def _lines(text: str, kind: str) -> list[str]:
    """The lines of *text* that are of this *kind*."""
    return [line for line in text.splitlines() if line.split()[:1] == [kind]]


def _named(keys: dict[str, AuthorityKey] | dict[str, HostKey]) -> list[str]:
    return [f"{key} {name}" for name, key in sorted(keys.items())]


def _checked(system: System, content: str) -> Trust:
    """What *content* says in the file's place; raise `ItemError` where it cannot, or would leave nobody to believe."""
    try:
        others, before, ours = pins(system, but=HOST_TRUST), pins(system), parse_trusted(content)
    except (BadTrust, LocalError) as exc:
        raise ItemError("conflict", f"a file of trusted keys is damaged: {exc}") from None
    if len(ours.revoked) > MAX_REVOKED or len(content) > MAX_TRUSTED_BYTES:
        raise ItemError("too-large", f"{HOST_TRUST} holds at most {MAX_REVOKED} revoked keys and {MAX_TRUSTED_BYTES} bytes")
    after = others | ours
    if not after.believed and (before.pinned or after.pinned):
        raise ItemError("nobody-believed", "no host and no authority would be left for this guest to believe; add one first")
    return ours
