# SPDX-License-Identifier: Apache-2.0
"""What the service says of itself in the log: that it has started, has read everything again, has stopped."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from host_agent import VERSION
from host_agent.errors import shown
from host_agent.log.happenings import Happening, noted
from host_agent.summary import vms
from pv_channel.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.errors import BadFile
    from host_agent.keys import Identity

log = logging.getLogger("pv-host-agent")


def started(count: int, channel: bytes, documents: str, channels: str, ledger: Path, identity: Identity) -> None:
    """It has looked at everything for the first time; *documents* and *channels* say where those are."""
    text = (
        f"pv-host-agent {VERSION} serves {vms(count)} on {printable(channel, 200)}: {documents}, {channels},"
        f" the ledger in {shown(ledger.parent)}; this host's key is {_key(identity)}"
    )
    log.info("%s", text, extra=noted(Happening.STARTED))


def reloaded(count: int, before: Identity, now: Identity) -> None:
    """It was told to read everything again, and has."""
    change = "is as before," if now.same_as(before) else "is new; new sessions use it:"
    log.info("read again: %s; this host's key %s %s", vms(count), change, _key(now), extra=noted(Happening.RELOADED))


def key_not_taken(trouble: BadFile, in_use: Identity) -> None:
    """This host's key cannot be read again."""
    log.error("%s; this host's key that was read before stays in use: %s", trouble, _key(in_use), extra=noted(Happening.KEY_BAD))


def stopped(count: int, leaving: float, ran: float) -> None:
    """It has left every stream within *leaving* seconds, after it *ran* so long."""
    text = f"stopped: left {vms(count)} within {leaving:.2f} s, after {timedelta(seconds=round(ran))}"
    log.info("%s", text, extra=noted(Happening.STOPPED))


def _key(identity: Identity) -> str:
    return f"{identity.fingerprint} {'with' if identity.certificate else 'without'} a certificate"
