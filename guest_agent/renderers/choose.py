# SPDX-License-Identifier: Apache-2.0
"""Which network manager is the active one: the service that is enabled or runs decides, not what happens to be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from guest_agent.failure import ItemError
from guest_agent.renderers import ifupdown, netplan, network_manager, networkd, sysconfig, wicked

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig


class Renderer(Protocol):
    """What every module of this package that is named after a manager has."""

    @property
    def NAME(self) -> str:  # noqa: N802  a module's constant
        """The manager, as results name it."""

    def is_active(self, system: System) -> bool:
        """Whether it is in charge: enabled, or running."""

    def is_running(self, system: System) -> bool:
        """Whether a change reaches the interfaces at once, or waits for the manager's start."""

    def plan(self, network: NetworkConfig, draft: Draft) -> list[Change]:
        """What makes it have exactly these interfaces from us; raise `ItemError` where it cannot, `OSError`."""

    def ours(self, system: System) -> list[str]:
        """The files that an earlier document made."""

    def remarks(self, network: NetworkConfig, system: System) -> str:
        """What the operator should know although it is no failure: ``; …``, or nothing."""


#: Who is asked first. netplan writes for the others, so it is the one to write for.
RENDERERS: Final[tuple[Renderer, ...]] = (netplan, networkd, network_manager, ifupdown, sysconfig, wicked)

#: Where two are active, the one that the distribution (os-release's ID and ID_LIKE) is made with.
_NATIVE: Final = {"suse": ("wicked", "NetworkManager"), "rhel": ("NetworkManager",), "fedora": ("NetworkManager",)}


def choose(system: System) -> Renderer:
    """The manager that is in charge; raise `ItemError` where none is that can be written for."""
    active = [renderer for renderer in RENDERERS if renderer.is_active(system)]
    if not active:
        raise ItemError(
            "no-manager",
            "no network manager is in charge here: none of netplan, systemd-networkd, NetworkManager, networking.service (with "
            "a 'source' line for interfaces.d in /etc/network/interfaces), network-scripts and wicked is enabled",
        )
    native = _native(system) if len(active) > 1 and active[0].NAME != "netplan" else ()
    return min(active, key=lambda renderer: native.index(renderer.NAME) if renderer.NAME in native else len(native))


def _native(system: System) -> tuple[str, ...]:
    release = system.text("/etc/os-release") or system.text("/usr/lib/os-release")
    named = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    words = f"{named.get('ID', '')} {named.get('ID_LIKE', '')}".replace('"', " ").replace("'", " ").split()
    return next((_NATIVE[word] for word in words if word in _NATIVE), ())
