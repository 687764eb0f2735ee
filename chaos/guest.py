# SPDX-License-Identifier: Apache-2.0
"""One guest: the real agent on its tty, over a directory for its root; what it carries out it puts on record before and after."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from guest_agent.agent import Agent
from guest_agent.identity import Believed, our_key
from guest_agent.log import Log
from guest_agent.notify import Notifier, Readiness
from guest_agent.ours import Ours
from guest_agent.provision import Provisioner
from guest_agent.state import Store
from guest_agent.system import System
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from guest_agent.provision import Confirming
    from pv_channel.document import Document
    from pv_channel.messages import Result

RECORD: Final = "record"
ROOT: Final = "root"
LOG: Final = "log"
#: Where it stands after how long the agent dies that next carries something out.
AMBUSH: Final = "ambush"
#: The file that every document writes, and whose content is another in each.
SERIAL_FILE: Final = "/etc/chaos"


class Recording(Provisioner):
    """Appends to the file at *path* what it is about to carry out, over what is in force on the disk, and how that ended."""

    def __init__(self, system: System, path: Path) -> None:
        super().__init__(system, "0.1.0")
        self._on_disk, self._path = Store(system), path

    def _become(self, document: Document, progress: Callable[[int, str], None], confirming: Confirming | None) -> Result:
        self._note("begins", document, self._generation())
        self._walk_into(self._path.with_name(AMBUSH))
        result = super()._become(document, progress, confirming)
        self._note(result.outcome.value, document, self._generation())
        return result

    def _walk_into(self, ambush: Path) -> None:
        """Die so many seconds from now, if somebody lies in wait: in the midst of whatever is done then."""
        if ambush.exists():
            seconds = float(ambush.read_text(encoding="ascii"))
            ambush.unlink()
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def _generation(self) -> int:
        state = self._on_disk.state()
        return 0 if state is None else state.target.generation

    def _note(self, what: str, document: Document, in_force: int) -> None:
        entry = {"what": what, "generation": document.generation, "digest": document.digest(), "in-force": in_force}
        line = json.dumps(entry).encode("ascii") + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)  # whole, or not at all: it is one short write
        finally:
            os.close(descriptor)


def make_root(home: Path) -> None:
    """A machine with a user, as far as the agent looks at it."""
    passwd, group = f"root:x:{os.getuid()}:{os.getgid()}:root:/root:/bin/sh\n", f"root:x:{os.getgid()}:\n"
    files = {"hostname": "template\n", "hosts": "127.0.0.1 localhost\n", "passwd": passwd, "group": group}
    for name, content in files.items():
        path = home / ROOT / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")


def run(home: Path, tty: str) -> int:
    """Serve the channel on *tty* until killed, as `pv-guest-agent run --tty --root` does."""
    log = Log(sys.stderr, {})
    system = System(home / ROOT)
    provisioner = Recording(system, home / RECORD)
    believed, key = Believed(system), our_key(system, log)
    recovered = provisioner.recover()
    if recovered is not None:
        log.alert(recovered)
        believed.read_again()
    began = time.monotonic()
    readiness = Readiness(Notifier({}), provisioned=provisioner.provisioned, wait=10, now=began)
    ours = Ours(CHANNEL_NAME.encode("ascii"), None, key, believed, provisioner, readiness, log)
    return Agent(ours, lambda: [tty], certain=True, once=False, wait=10).run()
