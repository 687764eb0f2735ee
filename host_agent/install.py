# SPDX-License-Identifier: Apache-2.0
"""Put the agent in place on a dom0: its unit, the directories that it reads and keeps, its backend program's description."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.channels.name import shared_files
from host_agent.errors import BadFile, shown
from host_agent.files import PRIVATE_DIRECTORY, PUBLIC_FILE, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT: Final = "pv-host-agent.service"
UNITS: Final = "etc/systemd/system/"
#: What `journalctl -x` says beside our lines; of the directories that it looks into, this one is the administrator's.
CATALOG: Final = "pv-channel-agents.catalog"
CATALOGS: Final = "usr/local/lib/systemd/catalog/"
#: What the unit in the distribution starts; `install` puts the path of the command that is running there.
COMMAND_IN_UNIT: Final = "/usr/bin/pv-host-agent"
DOCUMENTS: Final = "etc/pv-host-agent/documents"
GROUPS: Final = "etc/pv-host-agent/groups"
STATE: Final = "var/lib/pv-host-agent"
SOCKETS: Final = "run/pv-channel"


def install(root: Path, command: str | None = None) -> Iterator[str]:
    """Do it below *root*, saying each path that was made; raise `BadFile`. What is there already keeps its content."""
    from host_agent.backends import our_description  # most verbs want a path's name of this file, and nothing more

    source = shared_files() / "systemd" / UNIT
    description = our_description.text(our_description.program())
    try:
        unit = source.read_text("utf-8").replace(COMMAND_IN_UNIT, command or own_command())
        for directory in (Path(DOCUMENTS).parent, Path(DOCUMENTS), Path(GROUPS), Path(STATE), Path(SOCKETS)):
            path = root / directory
            if not path.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir(PRIVATE_DIRECTORY)
                yield str(path)
        files = (
            (UNITS + UNIT, unit),
            (CATALOGS + CATALOG, (source.parent / CATALOG).read_text("utf-8")),
            (our_description.PLACE, description),
        )
        for target, content in files:
            path = root / target
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content.encode(), PUBLIC_FILE)
            yield str(path)
    except OSError as exc:
        raise BadFile(f"{shown(exc.filename or source)}: {exc.strerror}; install is for root") from None


def own_command() -> str:
    """The command that starts this program, for a unit: an absolute path."""
    beside_python = Path(sys.executable).with_name("pv-host-agent")
    started = Path(sys.argv[0]).absolute()
    if started.name == "pv-host-agent" and os.access(started, os.X_OK):
        return str(started)
    if os.access(beside_python, os.X_OK):
        return str(beside_python)
    return f"{sys.executable} -m host_agent"
