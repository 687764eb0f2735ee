# SPDX-License-Identifier: Apache-2.0
"""Which formats of a network there are, and each into any other, by way of version 2 as `pv_channel` checks it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from host_agent.documents.formats import openstack_reader, openstack_writer, version1_reader, version1_writer
from host_agent.documents.formats.origins import Origins
from pv_channel.document import from_values
from pv_channel.errors import BadDocument

_READERS: Final = {"v1": version1_reader.read, "openstack": openstack_reader.read}
_NETWORK: Final = "network"


def recognised(values: object) -> str | None:
    """The format that the mapping *values* is in, or None."""
    if not isinstance(values, dict):
        return None
    if "links" in values or "networks" in values:
        return "openstack"
    if values.get("version") == 1 or "config" in values:
        return "v1"
    return "v2" if values.get("version") == 2 else None


def as_version2(values: object, path: str, source: str) -> tuple[object, Origins]:
    """Version 2's values of *values*, which are in the format *source* and stand at *path*, not checked yet; and their origins.

    Raise `BadDocument` for what cannot be read at all.
    """
    if source == "v2":
        return values, Origins()
    building = _READERS[source](values, path)
    building.origins.record("", path)
    return building.values, building.origins


def converted(values: object, source: str, target: str) -> dict[str, Any]:
    """*values*, in the format *source*, in the format *target*; cloud-init's formats with the key ``network`` around them.

    Raise `BadDocument` with a path in *values*, which may have that key too.
    """
    path = ""
    if isinstance(values, dict) and _NETWORK in values:
        others = sorted(str(name) for name in values if name != _NETWORK)
        if others:
            raise BadDocument(others[0], "stands beside 'network'; give a network's configuration alone")
        values, path = values[_NETWORK], _NETWORK
    read, origins = as_version2(values, path, source)
    try:
        network = _checked(read)
        if target == "openstack":
            return openstack_writer.write(network)
        return {_NETWORK: version1_writer.write(network) if target == "v1" else network}
    except BadDocument as exc:
        where = ".".join(filter(None, (path, exc.path))) if source == "v2" else origins.of(exc.path)
        raise BadDocument(where, exc.problem) from None


def _checked(values: object) -> dict[str, Any]:
    """Version 2 as plain values that say nothing that is a default; raise `BadDocument` with a path in *values*."""
    try:
        network = from_values({"instance-id": "i", _NETWORK: values}).network
    except BadDocument as exc:
        raise BadDocument(exc.path.removeprefix(_NETWORK).removeprefix("."), exc.problem) from None
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(network, enc_hook=str))
    return plain
