# SPDX-License-Identifier: Apache-2.0
"""Whether the guest that answered is the one we know, and what to tell the operator where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.talk.notices import What
from pv_channel.greeting import NO_UUID, Refusal, uuid_text
from pv_channel.text import printable
from pv_channel.trust import fingerprint

if TYPE_CHECKING:
    from host_agent.documents.document_file import Wanted
    from host_agent.ledger.known import Meeting
    from pv_channel.session import Refused

#: How a refusal begins that says that a key of this host was revoked.
REVOKED_THERE: Final = "the guest refused: a key of this host or of its authority, which starts"


class Judgement(NamedTuple):
    """What to do about a guest's key. Where *blocked* is set nothing may be sent; *rival_key* is the key in question."""

    pin: bool = False
    blocked: What | None = None
    rival_key: bytes = b""
    text: str = ""


def judge(key: str, guest_key: bytes, meeting: Meeting) -> Judgement:
    """What the ledger knows against the key that the guest of VM *key* holds. A quarrel lasts until an operator ends it."""
    known, vm = meeting.known, printable(key, 100)
    rival = guest_key if known.rival_key is None else known.rival_key
    if known.guest_key is not None and known.guest_key != rival:
        return Judgement(blocked=What.KEY_CHANGED, rival_key=rival, text=_changed(vm, known.guest_key, rival))
    if meeting.shared_with is not None or known.rival_key is not None:
        return Judgement(blocked=What.KEY_SHARED, rival_key=rival, text=_shared(vm, meeting.shared_with, rival))
    return Judgement(pin=known.guest_key is None)


def _changed(vm: str, pinned: bytes, met: bytes) -> str:
    return (
        f"the guest's key changed: pinned is {fingerprint(pinned)}, met was {fingerprint(met)}; nothing was sent."
        f" If the guest was installed anew: pv-host-agent forget-key {vm}"
    )


def _shared(vm: str, other: str | None, key: bytes) -> str:
    whose = "another VM" if other is None else printable(other, 100)
    gone = "" if other is None else f" If {whose} is gone and this is its disk: pv-host-agent forget-key {whose}"
    return (
        f"the guest's key {fingerprint(key)} is {whose}'s too, as in a clone taken after the agent had run; nothing was sent."
        f" Remove /var/lib/pv-guest-agent in the clone, restart it, then: pv-host-agent forget-key {vm}.{gone}"
    )


def refusal_text(refused: Refused, wanted: Wanted) -> str:
    """What the guest's refusal means and what to do about it. A refusal is not authenticated: a hint, never more."""
    if refused.refusal is Refusal.UUID:
        theirs = uuid_text(refused.detail)
        ours = "none" if wanted.uuid == NO_UUID else uuid_text(wanted.uuid)
        return (
            f"the guest refused: its VM's uuid is {theirs}, and it was greeted for {ours}."
            f" If that is the VM you mean: push --uuid {theirs}, or 'uuid: {theirs}' in the document"
        )
    start = f"SHA256:{refused.detail.hex('-', 4)}"
    if refused.refusal is Refusal.REVOKED:
        return (
            f"{REVOKED_THERE} {start}, is revoked there for ever. 'pv-host-agent keys show' says whose that is:"
            " this host's gets a successor by 'pv-host-agent keys rotate'; for an authority's another one signs:"
            " pv-host-agent keys request"
        )
    return (
        f"the guest refused: it does not believe this host's key; one that it believes starts {start}."
        " Add what 'pv-host-agent keys show' prints to /etc/pv-guest-agent/trusted_keys in the guest, or have the authority that"
        " the guest trusts sign this host's key: pv-host-agent keys request"
    )

