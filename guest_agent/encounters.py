# SPDX-License-Identifier: Apache-2.0
"""Sentences about whom the guest met, for the log: a host that it believes, and why; a greeting that it refused, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pv_channel.greeting import Refusal, uuid_text
from pv_channel.text import printable
from pv_channel.trust import Verdict, fingerprint

if TYPE_CHECKING:
    from pv_channel.events import Opened, Refused
    from pv_channel.trust import Trust

#: Pinned keys that a refusal names; a fleet may have pinned more.
_NAMED_KEYS: Final = 3


def of_opened(opened: Opened) -> str:
    """With whom a session was opened."""
    signer = ""
    if opened.verdict is Verdict.CERTIFIED and opened.certificate is not None:
        signer = f" '{printable(opened.certificate.label)}' by authority {fingerprint(opened.certificate.authority)}"
    return f"in session with host {fingerprint(opened.host_key)} ({opened.verdict.value}{signer})"


def of_refused(refused: Refused, trust: Trust, uuid: bytes | None) -> str:
    """Why a guest that believes *trust* and is *uuid* did not shake hands."""
    match refused.refusal:
        case Refusal.HOST_KEY:
            pinned = sorted(trust.believed)
            names = ", ".join(fingerprint(key) for key in pinned[:_NAMED_KEYS]) + (", …" if pinned[_NAMED_KEYS:] else "")
            return f"refused the host key {fingerprint(refused.detail)}: this guest believes {names or 'nobody'}"
        case Refusal.REVOKED:
            authority = "" if refused.revoked == refused.detail else f"its authority {fingerprint(refused.revoked)}"
            return f"refused the host key {fingerprint(refused.detail)}: {authority or 'it'} is revoked here"
        case Refusal.UUID:
            ours = "none" if uuid is None else uuid_text(uuid)
            return f"refused a greeting that is meant for another VM; this one is {ours}"
        case _:
            return "the host speaks in a session that this agent does not have; told it to greet again"
