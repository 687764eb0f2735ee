# SPDX-License-Identifier: Apache-2.0
"""Our own backend program's description file, for a directory of our own: QEMU's readers give up at a type that is not QEMU's."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

from host_agent.backends.capabilities import OURS
from host_agent.errors import BadFile, shown
from pv_channel import CHANNEL_NAME

PROGRAM: Final = "pv-channel-backend"
#: Below the root of what is installed; of the three directories that are looked into, the distribution's.
PLACE: Final = "usr/share/pv-host-agent/backends/50-pv-channel.json"


def text(program: Path) -> str:
    """What the file says of *program*."""
    values = {"description": "Configure a Xen guest over its PV channel", "type": OURS.type, "binary": os.fspath(program)}
    return json.dumps(values | {"channels": [CHANNEL_NAME]}, indent=2) + "\n"


def program() -> Path:
    """Where the program is that was installed with this command; raise `BadFile` where it is not."""
    beside_python = Path(sys.executable).with_name(PROGRAM)
    for found in (beside_python, Path(sys.argv[0]).resolve().with_name(PROGRAM)):
        if os.access(found, os.X_OK):
            return found
    raise BadFile(f"{shown(beside_python)}: not there; cure: install pv-channel-agents by pip, which puts it beside this command")
