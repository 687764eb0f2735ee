# SPDX-License-Identifier: Apache-2.0
"""Have documents tell guests whom to believe and whom no more, and see which guests do not hear of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.documents.host_trust_layer import REVOKED, defaults_beside, say, without
from host_agent.errors import BadFile, HostError, shown
from host_agent.keys import load
from host_agent.ledger.schema import FILE_NAME
from host_agent.ledger.standing import State
from host_agent.views.status import View, is_there
from host_agent.views.verdict import Verdict, of_document
from pv_channel.errors import LocalError
from pv_channel.trust import AUTHORITY_TYPE, FINGERPRINT, HOST_KEY_TYPE, fingerprint, format_key, parse_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pv_channel.host_trust import HostTrust

_NAMED: Final = 10


class Told(NamedTuple):
    """The layer that says it, whether it did not before, and the VMs whose documents do not say it all the same."""

    path: Path
    is_new: bool
    silent: list[str]


class PublicKey(NamedTuple):
    """A host's or an authority's."""

    kind: str
    raw: bytes


def public_key(text: str, where: str) -> PublicKey:
    """The one public key in *text*, which came from *where*; raise `BadFile`."""
    try:
        trust = parse_trusted(text)
    except LocalError as exc:
        raise BadFile(f"{shown(where)}: {exc}") from None
    found = [PublicKey(AUTHORITY_TYPE, key) for key in trust.authorities]
    found += [PublicKey(HOST_KEY_TYPE, key) for key in trust.host_keys]
    if len(found) != 1:
        kinds = f"'{HOST_KEY_TYPE} BASE64' or '{AUTHORITY_TYPE} BASE64'"
        raise BadFile(f"{shown(where)}: expected one line {kinds}, found {len(found)}")
    return found[0]


def trust(documents: Path, into: Path | None, name: str, key: PublicKey) -> Told:
    """Have the layer *into*, by default the defaults, tell guests to believe *key*, which is called *name*; raise `BadFile`."""
    section = "authorities" if key.kind == AUTHORITY_TYPE else "hosts"
    return _tell(documents, into, (section, name, format_key(*key)), lambda said: _believes(said, key.raw))


def revoke(documents: Path, into: Path | None, revoked: str, reason: str) -> Told:
    """Have the layer *into*, by default the defaults, tell guests never to believe the key *revoked* again; raise `BadFile`."""
    return _tell(documents, into, (REVOKED, revoked, reason), lambda said: revoked in said.revoked)


def check_not_ours(state: Path, revoked: str) -> None:
    """Raise `HostError` where guests would refuse this very host, or all whom its authority signed for."""
    identity = load(state)
    if identity is None:
        return
    cure = "; --force does it all the same, and guests then refuse this host"
    if identity.fingerprint == revoked:
        raise HostError(f"{revoked} is this host's own key; cure: pv-host-agent keys rotate, and revoke it then{cure}")
    if identity.certificate is not None and fingerprint(identity.certificate.authority) == revoked:
        raise HostError(
            f"{revoked} is the authority that signs for this host; cure: have another sign (keys request --authority) first{cure}"
        )


def behind(state: Path, documents: Path, host_key: bytes) -> list[str]:
    """The VMs whose documents do not have them believe *host_key*, and those that are not what their documents say."""
    silent = set(without(documents, lambda said: _believes(said, host_key)))
    if not is_there(state / FILE_NAME):
        return sorted(silent)
    with View(state) as view:
        vms = [vm for vm in view.standings() if vm.state != State.REMOVED]
    return sorted(silent | {vm.name for vm in vms if of_document(vm) is not Verdict.READY})


def is_fingerprint(text: str) -> bool:
    """Whether *text* is one."""
    return FINGERPRINT.fullmatch(text) is not None


def some(names: Iterable[str]) -> str:
    """The first of *names*, and how many more there are."""
    listed = list(names)
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _believes(said: HostTrust, key: bytes) -> bool:
    return any(each.raw == key for _, each in said.believed())


def _tell(documents: Path, into: Path | None, entry: tuple[str, str, str], has: Callable[[HostTrust], bool]) -> Told:
    path = into or defaults_beside(documents)
    is_new = say(path, *entry)
    return Told(path, is_new, list(without(documents, has)) if documents.is_dir() else [])
