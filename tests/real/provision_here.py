# SPDX-License-Identifier: Apache-2.0
"""Provision the machine that this runs on, in namespaces of a test's: each argument a document's file, or a shell's command.

What comes of a document is a line of JSON, so is a command's output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from guest_agent.provision import Provisioner
from guest_agent.system import System
from tests.guest.machine import VERSION, no_progress


def main(arguments: list[str]) -> None:
    """Do them in their order; never on a machine whose own /etc this is."""
    if not (os.path.ismount("/etc") and os.path.ismount("/var")):
        sys.exit("this provisions the machine that it runs on: it needs an /etc and a /var that are nobody's")
    for argument in arguments:
        if argument.startswith("/"):
            result = Provisioner(System(), VERSION).provision(Path(argument).read_bytes(), None, no_progress)
            print(msgspec.json.encode(result).decode(), flush=True)
        else:
            done = subprocess.run(argument, shell=True, capture_output=True, text=True, timeout=60)
            print(json.dumps(done.stdout + done.stderr), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
