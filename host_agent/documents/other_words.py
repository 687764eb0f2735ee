# SPDX-License-Identifier: Apache-2.0
"""What an operator's file may say in other words than the document's: credentials' names, and networks of other formats.

The guest only ever sees the document's own words: what is here is turned into them when a file is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from host_agent.documents import aliases
from pv_channel.errors import BadDocument

if TYPE_CHECKING:
    from host_agent.documents.formats.origins import Origins

#: OpenStack's network_data.json stands under this name.
NETWORK_DATA: Final = "network-data"
_NETWORK: Final = "network"


def rename(values: object, origins: Origins) -> dict[str, Any]:
    """The document's own words for what one file says, and *origins* told what came from where; raise `BadDocument`.

    Credentials that are part of the user root stay: `tell_root` is for the whole, when all of its layers are there.
    """
    if not isinstance(values, dict):
        raise BadDocument("", "expected a mapping of a document's fields")
    named = {str(name): value for name, value in values.items()}
    return _network(aliases.rename(named, origins), origins)


def tell_root(values: dict[str, Any], origins: Origins) -> dict[str, Any]:
    """The document's own words for a whole document, each of whose files went through `rename`; raise `BadDocument`."""
    return aliases.tell_root(values, origins)


def _network(values: dict[str, Any], origins: Origins) -> dict[str, Any]:
    if NETWORK_DATA in values and _NETWORK in values:
        raise BadDocument(NETWORK_DATA, "says what 'network' says too; keep one of them")
    key = NETWORK_DATA if NETWORK_DATA in values else _NETWORK
    network = values.get(key)
    source = "openstack" if key == NETWORK_DATA else "v1" if _is_version1(network) else None
    if source is None:
        return values
    if network is None:
        origins.record(_NETWORK, key)
        return {name: value for name, value in values.items() if name != key} | {_NETWORK: None}
    from host_agent.documents.formats.formats import as_version2

    read, found = as_version2(network, key, source)
    origins.extend(found, _NETWORK)
    return {name: value for name, value in values.items() if name != key} | {_NETWORK: read}


def _is_version1(network: object) -> bool:
    return isinstance(network, dict) and network.get("version") == 1 and not isinstance(network["version"], bool)
