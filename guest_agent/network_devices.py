# SPDX-License-Identifier: Apache-2.0
"""Delete a network device of systemd-networkd's, and wait until networkd knows: told any sooner, it does not make another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.command import CommandError
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.system import System

#: networkd's own note on each interface that it knows, by its index.
_LINKS: Final = "/run/systemd/netif/links"
_NET: Final = "/sys/class/net"
#: It hears of it from the kernel at once, when it has done with what it is at.
SECONDS: Final = 5.0


def is_there(system: System, name: str) -> bool:
    """Whether there is such a device, on a machine that can be asked to delete it."""
    return system.live and system.exists(f"{_NET}/{name}")


def delete(system: System, name: str) -> None:
    """Delete it; raise `ItemError` where it stays, or where networkd does not take note."""
    note = f"{_LINKS}/{system.text(f'{_NET}/{name}/ifindex', 16).strip()}"
    try:
        status, output = system.run(argv(name))
    except CommandError as exc:
        raise ItemError("command-failed", str(exc), exc.output) from None
    if status:
        raise ItemError("command-failed", f"'{' '.join(argv(name))}' ended with status {status}", output)
    if note != f"{_LINKS}/" and not system.wait_for(lambda: not system.exists(note), SECONDS):
        raise ItemError("not-in-force", f"{name} was deleted, and systemd-networkd still has it after {SECONDS:g} s")


def argv(name: str) -> list[str]:
    """What deletes it."""
    return ["networkctl", "delete", name]
