# SPDX-License-Identifier: Apache-2.0
"""A real etcd as a process: started over the data that are there, frozen, killed, and written to as an operator does."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import time
from contextlib import closing
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_START_SECONDS: Final = 60.0
#: Of a busy machine; one that is frozen, which takes connections and answers nothing, is not asked.
_ANSWER_SECONDS: Final = 5.0
_PREFIX: Final = "/pv-channel/documents/"


class Etcd:
    """With its data below *work*. What cannot be written now is written when it is there again."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._port, self._peers = _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._unwritten: dict[str, str] = {}
        self._is_there = False
        #: The file by which a service is a member of its fleet.
        self.fleet = work / "fleet.yaml"
        self.fleet.write_text(f"endpoints: ['http://127.0.0.1:{self._port}']\ndom0: chaos\n", encoding="ascii")
        self.starts = 0

    def start(self) -> None:
        """It runs, and what waited for that is written."""
        if self._process is None:
            client, peers = f"http://127.0.0.1:{self._port}", f"http://127.0.0.1:{self._peers}"
            words = [
                "etcd", "--name=e", f"--data-dir={self._work / 'etcd'}", f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}", f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=e={peers}", "--heartbeat-interval=50", "--election-timeout=500", "--unsafe-no-fsync",
            ]  # fmt: skip
            with (self._work / "etcd.log").open("ab") as log:
                self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.starts += 1
            self._wait()
        self._is_there = True
        self.write()

    def kill(self) -> None:
        """It is gone from one instruction to the next."""
        self._is_there = False
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(SIGKILL)
            process.wait()

    def freeze(self) -> None:
        """It does not run."""
        self._is_there = False
        self._signal(SIGSTOP)

    def thaw(self) -> None:
        """It does again."""
        self._signal(SIGCONT)
        self._is_there = True
        self.write()

    def put(self, name: str, text: str) -> None:
        """Write a VM's document, now or when that can be."""
        self._unwritten[name] = text
        self.write()

    def write(self) -> None:
        """Write what was not written yet, as far as that can be now."""
        for name, text in list(self._unwritten.items()):
            if not self._is_there or not self._put(_PREFIX + name, text):
                return
            del self._unwritten[name]

    def _put(self, key: str, value: str) -> bool:
        body = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value.encode()).decode()}
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)) as connection:
            try:
                connection.request("POST", "/v3/kv/put", json.dumps(body))
                return connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

    def _signal(self, number: Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._put("/chaos", "there"):
            if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                raise SystemExit(f"chaos: etcd does not start; see {self._work / 'etcd.log'}")
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
