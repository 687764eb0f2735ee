# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent serve` in the lab's dom0, with the document of one VM, and what the verbs say of it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.dom0 import Background
    from lab.guests import Guest
    from lab.running import Lab

UUID = "5f2b7c1e-9a40-4c5e-8d11-0c6f2a7d2e01"
MAC = "00:16:3e:5e:00:21"
SOCKET = "/run/pv-channel/db1.sock"
#: Emulated; three times the slowest that was seen.
EVENTUALLY_SECONDS = 400


class Serving:
    """`pv-host-agent serve` in dom0 with an empty ledger, the document of the VM *name*, and what the verbs say."""

    def __init__(self, lab: Lab, name: str = "db1") -> None:
        self.lab, self.dom0, self.name = lab, lab.dom0, name
        self.document = f"/etc/pv-host-agent/documents/{name}.yaml"
        self.dom0.run(
            "rm -rf /etc/pv-host-agent/documents/* /var/lib/pv-host-agent/ledger*; mkdir -p -m 0700 /etc/pv-host-agent/documents;"
            " pv-host-agent keys show >/dev/null 2>&1 || pv-host-agent keys init; rm -f /run/serve.log"
        )
        self.service: Background | None = None
        self.start()

    def start(self) -> None:
        """Start it."""
        self.service = self.dom0.spawn("exec pv-host-agent serve", log="/run/serve.log")

    def stop(self) -> None:
        """End it as systemd does."""
        if self.service is not None:
            self.service.stop()
            self.service = None

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.service is not None
        self.dom0.run(f"kill -9 {self.service.pid}")
        self.service = None

    def write(self, settings: str) -> None:
        """The document, saying that a file holds *settings*: atomically, as an operator's tool would."""
        self.dom0.put(
            self.document,
            f"instance-id: i-db1\nuuid: {UUID}\nlocal-hostname: db1\nwrite_files:\n"
            f"  - {{path: /etc/app.conf, content: {settings}}}\nnetwork:\n  version: 2\n  ethernets:\n    front:\n"
            f"      match: {{macaddress: '{MAC}'}}\n      addresses: [10.77.0.31/24]\n",
            mode=0o600,
        )

    def ask(self, words: str, *, good: bool = True, timeout: float = 60) -> Any:
        """What a verb prints as JSON, or None where it ends badly and may."""
        done = self.dom0.run(f"pv-host-agent {words} --json 2>/run/said; code=$?; exit $code", check=False, timeout=timeout)
        assert done.status == 0 or not good, f"{words}: {done.output}\n{self.said()}"
        return json.loads(done.output) if done.output.startswith(("[", "{")) else None

    def said(self) -> str:
        """What the verb said on standard error, and the service's log."""
        return self.dom0.run("cat /run/said; tail -n 60 /run/serve.log", check=False).output

    def status(self) -> dict[str, Any]:
        """What `status` says of the VM; it has no state before the service has looked once."""
        return self.ask(f"status {self.name}", good=False) or {"state": "", "detail": "", "domid": None, "generation-applied": 0}

    def wait(self) -> dict[str, Any]:
        """Wait until the VM is what its document says; its status then."""
        command = f"pv-host-agent wait --file {self.document} --timeout {EVENTUALLY_SECONDS} 2>&1"
        done = self.dom0.run(command, check=False, timeout=EVENTUALLY_SECONDS + 60)
        if done.status != 0:
            found = self.dom0.run(f"pv-host-agent doctor {self.name}", check=False).output
            raise AssertionError(f"{done.output}\n{self.said()}\n{found}")
        return self.status()

    def applied(self, guest: Guest, generation: int) -> int:
        """How often this boot of *guest* applied *generation*, by its journal."""
        said = guest.run("journalctl -b -o cat -u 'pv-guest-agent@*'").output
        return said.splitlines().count(f"generation {generation}: applied")

    def eventually(self, true: Callable[[], Any], what: str) -> None:
        """Wait until *true* is."""
        deadline = time.monotonic() + EVENTUALLY_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"{what}\n{self.said()}"
            time.sleep(2)

    def findings(self) -> set[str]:
        """What `doctor` finds."""
        answer = self.ask(f"doctor {self.name}", good=False)
        return {finding["name"] for finding in answer["findings"]}
