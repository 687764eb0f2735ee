# SPDX-License-Identifier: Apache-2.0
"""This host's keys and whose word stands behind them, for people, for a template's trusted_keys, and for programs."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pv_channel.text import printable
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, fingerprint, format_key

if TYPE_CHECKING:
    from host_agent.keys import Identity
    from pv_channel.trust import Certificate


def lines(host: Identity, following: Identity | None) -> list[str]:
    """What a template takes, with comments for people; the key that is to follow this *host*'s is a comment alone."""
    said = [
        pin(host),
        f"# fingerprint {host.fingerprint}; a template pins the line above in /etc/pv-guest-agent/trusted_keys",
    ]
    if host.certificate is not None:
        authority = format_key(AUTHORITY_TYPE, host.certificate.authority)
        said += [f"# certified {_how(host.certificate)}, until one of the two keys is revoked; or pin that:", authority]
    if following is not None:
        said.append(f"# a key is to follow this one and is not in use yet: {following.fingerprint}, {pin(following)}")
    return said


def pin(host: Identity) -> str:
    """The line that pins *host*'s key."""
    return format_key(HOST_KEY_TYPE, host.key.public, printable(platform.node()))


def certified(host: Identity) -> str:
    """Who signed for *host*, in a few words."""
    return "without a certificate" if host.certificate is None else f"certified {_how(host.certificate)}"


def values(host: Identity, following: Identity | None) -> dict[str, Any]:
    """The same for JSON."""
    return {"host": _values(host), "next": None if following is None else _values(following)}


def _values(host: Identity) -> dict[str, Any]:
    return {"key": pin(host), "fingerprint": host.fingerprint, "certificate": _certificate(host.certificate)}


def _certificate(certificate: Certificate | None) -> dict[str, Any] | None:
    if certificate is None:
        return None
    return {
        "label": certificate.label,
        "authority": format_key(AUTHORITY_TYPE, certificate.authority),
        "authority-fingerprint": fingerprint(certificate.authority),
        "issued": _date(certificate),
        "expires": None,  # a guest on its first boot may have no clock: what ends it is a revocation
    }


def _how(certificate: Certificate) -> str:
    return f"as '{certificate.label}' by the authority {fingerprint(certificate.authority)}, {_date(certificate)}"


def _date(certificate: Certificate) -> str:
    try:
        return datetime.fromtimestamp(certificate.issued, UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # whatever an authority's clock said
        return f"{certificate.issued} s after 1970"
