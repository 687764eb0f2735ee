# SPDX-License-Identifier: Apache-2.0
"""The two domains that are meant: the target, and the stubdomain that its QEMU runs in; and their nodes in xenstore."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from host_agent.channels.discovery import survey
from host_agent.errors import HostError
from host_agent.qemu.running_vm import named, shown
from pv_channel.greeting import NO_UUID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from host_agent.channels.endpoint import Domain


class Pair(NamedTuple):
    """A *target*, the domain that a QEMU plays a machine for, and the *stubdomain* in which that QEMU runs."""

    stubdomain: Domain
    target: Domain

    @property
    def home(self) -> str:
        """The directory in which the stubdomain says how far it is: the stubdomain's own, and the target may read it."""
        return f"/local/domain/{self.stubdomain.domid}/device-model/{self.target.domid}"

    @property
    def state(self) -> str:
        """QEMU's word that it is up."""
        return f"{self.home}/state"

    @property
    def restore(self) -> str:
        """The launcher's word that console 2 can take a state."""
        return f"{self.home}/restore"

    @property
    def vchan(self) -> str:
        """Where the two ends of QEMU's monitor meet."""
        return f"{self.home}/qmp-vchan"

    def __str__(self) -> str:
        return f"{shown(self.target)} with its QEMU in {shown(self.stubdomain)}"


class Meant(NamedTuple):
    """How an operator says which: the *vm*, or its domain as *target*; and the *stubdomain*, where xenstore does not say."""

    vm: str | None = None
    stubdomain: str | None = None
    target: str | None = None


async def find(meant: Meant, paths: Sequence[Path]) -> Pair:
    """The running domains that are *meant*, each by its name, uuid or domid; raise `HostError`."""
    everything = (await survey(paths)).domains
    if meant.vm is not None and meant.target is not None:
        raise HostError("VM and --target say the same twice; leave one of them out")
    if meant.vm is None and meant.target is None:
        return _by_stubdomain(meant.stubdomain, everything)
    target = domain(meant.vm or meant.target or "", everything)
    if meant.stubdomain is not None:
        return _checked(Pair(domain(meant.stubdomain, everything), target))
    found = [each for each in everything if each.target == target.domid]
    chosen = [each for each in found if each.domid == target.stubdomain] or found
    if len(chosen) == 1:
        return Pair(chosen[0], target)
    if not chosen:
        raise HostError(
            f"no running domain is {shown(target)}'s stubdomain: its device model runs in dom0, or it has none;"
            " cure: --stubdom says which domain is to be"
        )
    raise HostError(f"{shown(target)} has several stubdomains: {', '.join(map(shown, chosen[:4]))}; say which: --stubdom")


def domain(words: str, everything: Sequence[Domain]) -> Domain:
    """The one of *everything* with this name, uuid or domid; raise `HostError`."""
    by_number = [each for each in everything if words == str(each.domid)]
    return by_number[0] if by_number and not any(each.name == words for each in everything) else named(everything, words)


def _by_stubdomain(words: str | None, everything: Sequence[Domain]) -> Pair:
    if words is None:
        raise HostError("nothing says which VM is meant; name the VM, or its domain: --target, or its stubdomain: --stubdom")
    stubdomain = domain(words, everything)
    target = next((each for each in everything if each.domid == stubdomain.target), None)
    if target is None:
        raise HostError(f"{shown(stubdomain)} is no running domain's device model yet; cure: --target says whose it is to be")
    return _checked(Pair(stubdomain, target))


def _checked(pair: Pair) -> Pair:
    if pair.stubdomain.domid == pair.target.domid:
        raise HostError(f"{shown(pair.target)} cannot be its own stubdomain")
    if pair.target.uuid == NO_UUID:
        raise HostError(f"{shown(pair.target)} has no /vm/UUID in xenstore, where dm-argv is kept")
    return pair
