# SPDX-License-Identifier: Apache-2.0
"""What an ssh client may call a VM, by its document: its full name, its hostname, its static addresses."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

import msgspec

from host_agent.ledger.known import Called

if TYPE_CHECKING:
    from pv_channel.document import Document


def names_of(document: Document) -> list[str]:
    """The names, in lower case as ssh(1) looks them up, each once."""
    names: list[str] = []
    if document.fqdn is not msgspec.UNSET:
        names.append(document.fqdn)
    if document.local_hostname is not msgspec.UNSET:
        names.append(document.local_hostname)
    elif document.fqdn is not msgspec.UNSET:
        names.append(document.fqdn.short)
    if document.network is not msgspec.UNSET:
        addresses = [address.address for part in document.network.all().values() for address in part.addresses]
        # One of fe80::/10 needs a scope, which is the client's, and so is no name.
        names += [text for text in addresses if ":" not in text or not IPv6Address(text).is_link_local]
    return list(dict.fromkeys(name.lower() for name in names))


def is_certified(document: Document) -> bool:
    """Whether the document has a certificate for one of the VM's host keys."""
    keys = document.ssh_keys
    if keys is msgspec.UNSET:
        return False
    return any(getattr(keys, f"{kind}_certificate") is not msgspec.UNSET for kind in ("ed25519", "ecdsa", "rsa"))


def called(document: Document) -> Called:
    """What the VM whose *document* is in force is called."""
    return Called(names_of(document), is_certified(document))
