# SPDX-License-Identifier: Apache-2.0
"""Which sockets stand in a directory: one per VM, ``NAME.sock`` or just ``NAME``; in libvirt's, ``DOMAIN-CHANNEL``."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from host_agent.channels import kept_links
from host_agent.channels.endpoint import Endpoint, made_at
from host_agent.errors import BadFile, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUFFIX: Final = ".sock"
#: `Endpoint.made` of a socket that is missing.
NOT_THERE: Final = 0
#: Where libvirt's libxl driver puts a channel's socket for which the domain's definition names no path.
LIBVIRT: Final = Path("/var/lib/libvirt/libxl/channel/target")


def look(directory: Path, before: Mapping[str, Endpoint] = MappingProxyType({})) -> dict[str, Endpoint]:
    """The sockets in *directory* by the VM's name; raise `BadFile` where it cannot be read.

    One that is missing and has a second link (`kept_links`) is there, too, with nothing in `made`. What is as it was *before*
    is the same object.
    """
    found: dict[str, Endpoint] = {}
    try:
        with os.scandir(directory) as entries:
            for file, made in _sockets(entries):
                name = file.removesuffix(SUFFIX)
                known = found.get(name)
                if known is None or (file != name, made) > (known.path.name != name, known.made):
                    same = before.get(name)
                    is_same = same is not None and same.made == made and same.path.name == file
                    found[name] = same if same is not None and is_same else Endpoint(directory / file, made=made)
    except OSError as exc:
        raise BadFile(f"{shown(directory)}: {exc.strerror}") from None
    return found


def look_at_libvirts(directory: Path, channel: str) -> dict[str, Endpoint]:
    """The sockets of *channel* in a *directory* of libvirt's, by the domain's name; none where that is not to be read."""
    ending = f"-{channel}"
    try:
        found = {name: endpoint for name, endpoint in look(directory).items() if name.endswith(ending) and name != ending}
    except BadFile:
        return {}
    return {name.removesuffix(ending): endpoint._replace(channel=channel) for name, endpoint in found.items()}


def made(path: Path) -> int:
    """What tells the socket that stands at *path* now from the next one: `Endpoint.made`."""
    try:
        return made_at(path.lstat())
    except OSError:
        return NOT_THERE


def _sockets(entries: Iterator[os.DirEntry[str]]) -> Iterator[tuple[str, int]]:
    """The names of the sockets in a directory. A link in a socket's place is there, and will be complained of."""
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # gone meanwhile: QEMU unlinks and makes its socket anew
            continue
        kept = kept_links.name_of(entry.name)
        if kept is not None:
            yield kept, NOT_THERE
        elif (stat.S_ISSOCK(status.st_mode) or stat.S_ISLNK(status.st_mode)) and not entry.name.startswith("."):
            yield entry.name, made_at(status)
