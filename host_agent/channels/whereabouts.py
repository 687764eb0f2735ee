# SPDX-License-Identifier: Apache-2.0
"""Which channel belongs to the VM of a document, of all that one look found in xenstore and in the directories of sockets."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import shown
from pv_channel.greeting import NO_UUID, uuid_text
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from host_agent.channels.endpoint import Domain, Endpoint
    from host_agent.documents.document_file import Wanted

#: Why a running domain may not have the channel that its configuration names.
DROPPED_ENTRY: Final = "xl before 4.18.5, 4.19.2 and 4.20.1 drops the first 'channel=' entry: put another before ours"


class Nowhere(NamedTuple):
    """There is no channel to the VM. *wrong* is whether something stands in the way, or the VM is just off.

    *claimed* are the channels of which none is the VM's for certain.
    """

    why: str
    wrong: bool = True
    claimed: tuple[Endpoint, ...] = ()


class Whereabouts:
    """One look's findings.

    *discovered* are the channels of running domains, in the order of their consoles; *named* are the sockets of directories, by
    the name of the VM's document or of its domain. Without Xen, *xen* is false: only the latter are known then.
    """

    def __init__(
        self, channel: str, discovered: Iterable[Endpoint], domains: Iterable[Domain], named: Mapping[str, Endpoint], *, xen: bool
    ) -> None:
        self._channel, self._named, self._xen = channel, named, xen
        self._by_uuid: dict[bytes, list[Domain]] = defaultdict(list)
        self._by_name: dict[str, list[Domain]] = defaultdict(list)
        for domain in domains:
            self._by_uuid[domain.uuid].append(domain)
            self._by_name[domain.name].append(domain)
        self._ours: dict[int, Endpoint] = {}
        self._owners: dict[object, list[Endpoint]] = defaultdict(list)
        for endpoint in discovered:
            self._owners[endpoint.path].append(endpoint)
            if endpoint.channel == channel and endpoint.domain is not None:
                self._ours.setdefault(endpoint.domain.domid, endpoint)

    def runs(self, name: str, uuid: bytes) -> bool:
        """Whether the VM of the document *name* is on this host, by its *uuid*, by its name, or by a socket of its name."""
        return name in self._named or (name in self._by_name if uuid == NO_UUID else uuid in self._by_uuid)

    @property
    def uuids(self) -> Iterable[bytes]:
        """Of all domains that run."""
        return self._by_uuid.keys()

    @property
    def names(self) -> Iterable[str]:
        """Of all domains that run, and of all sockets."""
        return self._by_name.keys() | self._named.keys()

    def of(self, wanted: Wanted) -> Endpoint | Nowhere:
        """The channel of the VM that *wanted* is for: of the domain with its uuid, else its name, else the socket of its name."""
        domains = self._by_name.get(wanted.name, []) if wanted.uuid == NO_UUID else self._by_uuid.get(wanted.uuid, [])
        if len(domains) > 1:
            return Nowhere(
                f"{len(domains)} running domains have {_asked(wanted)}: {_all(domains)}; none is served until one is left"
                " (a migration within this dom0 ends by itself; else give each its own)",
                claimed=tuple(self._ours[domain.domid] for domain in domains if domain.domid in self._ours),
            )
        domain = domains[0] if domains else None
        ours = None if domain is None else self._ours.get(domain.domid)
        if ours is not None:
            return self._unless_shared(ours)
        named = self._named.get(wanted.name)
        if named is not None:
            return self._by_its_name(wanted, named, domain)
        if domain is not None:
            return Nowhere(
                f"domain {printable(domain.name, 100)} ({domain.domid}) runs without a channel {self._channel}: plug one in"
                f" (pv-host-agent plug {printable(domain.name, 100)}), or add one to its configuration ({DROPPED_ENTRY})"
            )
        of_whom = f"no running domain has {_asked(wanted)}, and " if self._xen else ""
        return Nowhere(f"{of_whom}no such socket: {printable(wanted.name, 100)}.sock; the VM is off or restarting", wrong=False)

    def _by_its_name(self, wanted: Wanted, named: Endpoint, domain: Domain | None) -> Endpoint | Nowhere:
        """The socket *named* like the document, unless xenstore has it as another VM's or another application's."""
        owners = self._owners.get(named.path, [])
        if not owners:
            return named if domain is None else named._replace(domain=domain)
        for owner in owners:
            if owner.channel != self._channel or wanted.uuid != NO_UUID:
                return Nowhere(f"{shown(named.path)} is not its channel's socket: it is that of {_owner(owner)}")
        return self._unless_shared(owners[0])

    def _unless_shared(self, endpoint: Endpoint) -> Endpoint | Nowhere:
        owners = self._owners[endpoint.path]
        if len(owners) == 1:
            return endpoint
        whose = " and ".join(_owner(owner) for owner in owners)
        return Nowhere(f"{shown(endpoint.path)} is the path of {whose}: only the last to start has it; cure: give each its own")


def _asked(wanted: Wanted) -> str:
    if wanted.uuid == NO_UUID:
        return f"the name {printable(wanted.name, 100)}"
    return f"uuid {uuid_text(wanted.uuid)}"


def _all(domains: list[Domain]) -> str:
    return ", ".join(f"{printable(domain.name, 60)} ({domain.domid})" for domain in domains[:4])


def _owner(endpoint: Endpoint) -> str:
    domain = endpoint.domain
    whose = "an unknown domain" if domain is None else f"domain {printable(domain.name, 60)} ({domain.domid})"
    return f"{whose}, channel {printable(endpoint.channel, 60)}"
