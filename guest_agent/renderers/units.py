# SPDX-License-Identifier: Apache-2.0
"""Whether systemd starts a unit at boot, by the links that ``systemctl enable`` makes: systemd need not run to be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guest_agent.system import System

_UNITS: Final = "/etc/systemd/system"


def is_enabled(system: System, unit: str) -> bool:
    """Whether a target wants *unit*, and it is not masked."""
    if system.link(f"{_UNITS}/{unit}") == "/dev/null":
        return False
    wants = (name for name in system.names(_UNITS) if name.endswith((".wants", ".requires")))
    return any(system.exists(f"{_UNITS}/{name}/{unit}") for name in wants)
