# SPDX-License-Identifier: Apache-2.0
"""A program in vchan-socket-proxy's place: it takes the same arguments, and a socket beside QEMU's plays the vchan.

It announces itself in xenstore as libxenvchan does. The environment's FAKE_PROXY says what else: ``dies``, ``announces-nothing``.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from pathlib import Path

from host_agent.stubdom.launch_xenstore import Xenstore


def relay(one: socket.socket, other: socket.socket) -> None:
    """Until one of them ends."""
    pairs = {one: other, other: one}
    while True:
        for end in select.select(list(pairs), [], [])[0]:
            data = end.recv(65536)
            if not data:
                return
            pairs[end].sendall(data)


def main() -> None:
    mode, domain, node, qmp = sys.argv[1:]
    assert (mode, domain) == ("--mode=server", "0")
    assert Path(qmp).is_socket(), "started before QEMU's socket was there"
    with Path(os.environ["FAKE_PROXY_RECORD"]).open("a") as record:
        record.write(f"{os.getpid()} {node}\n")
    behaviour = os.environ.get("FAKE_PROXY", "")
    if behaviour == "dies":
        sys.exit(1)
    vchan = Path(f"{qmp}.vchan")
    vchan.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(vchan))
    listener.listen()
    if behaviour == "announces-nothing":
        time.sleep(3600)
    store = Xenstore.open(Path(os.environ["FAKE_XENSTORED"]))
    store.write(f"{node}/ring-ref", b"8")
    store.write(f"{node}/event-channel", b"21")
    while True:
        client, _ = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(qmp)
            relay(client, monitor)


if __name__ == "__main__":
    main()
