# SPDX-License-Identifier: Apache-2.0
"""On real Xen: a document's way over a real hvc, beside a raw copy of as many bytes over the same hvc."""

from __future__ import annotations

import re
from statistics import median
from typing import TYPE_CHECKING

from bench.row import Row
from lab.domain_config import Channel
from lab.running import Lab

if TYPE_CHECKING:
    from lab.dom0 import Dom0
    from lab.guests import Guest

SOCKET = "/run/pv-channel/bench.sock"
CHANNEL = "org.pvchannel.bench.1"
DOCUMENT_BYTES = 64 * 1024
PAIRS = 3

#: Runs in the guest on hvc1: "raw" answers one byte when all bytes have come, "sealed" is a `Guest` that says what it got.
GUEST_PROGRAM = """
import os, sys, tty, termios
from pv_channel.session import Guest, FromHost
from pv_channel.messages import Hello, Pong, Provision, Ping
from pv_channel.noise import KeyPair
from pv_channel.trust import Trust
fd = os.open("/dev/hvc1", os.O_RDWR | os.O_NOCTTY)
tty.setraw(fd, termios.TCSANOW)
os.write(fd, b"up\\n")
def raw(size):
    while size > 0:
        size -= len(os.read(fd, 65536))
    os.write(fd, b"k")
def sealed():
    key = KeyPair.generate()
    guest = Guest(channel=b"%(channel)s", uuid=None, key=key, trust=Trust(), hello=Hello("bench"), random_bytes=os.urandom)
    while True:
        for event in guest.receive(os.read(fd, 65536)):
            if isinstance(event, FromHost):
                guest.send(Pong(len(event.message.document) if isinstance(event.message, Provision) else 0))
                done = isinstance(event.message, Provision)
                if done:
                    os.write(fd, guest.data_to_send())
                    return
        os.write(fd, guest.data_to_send())
for _ in range(%(rounds)d):
    raw(%(raw)d)
    sealed()
"""

#: Runs in dom0: prints, for each round, seconds of the raw copy and of the document.
HOST_PROGRAM = """
import os, socket, time, msgspec
from pv_channel.session import Host, FromGuest
from pv_channel.messages import Provision, Ping
from pv_channel.noise import KeyPair
stream = socket.socket(socket.AF_UNIX)
stream.connect("%(socket)s")
stream.settimeout(300)
while b"up" not in stream.recv(100):
    pass
for _ in range(%(rounds)d):
    began = time.perf_counter()
    stream.sendall(b"x" * %(raw)d)
    while b"k" not in stream.recv(100):
        pass
    raw = time.perf_counter() - began
    host = Host(channel=b"%(channel)s", uuid=bytes(16), key=KeyPair.generate(), random_bytes=os.urandom)
    host.greet()
    stream.sendall(host.data_to_send())
    while not host.receive(stream.recv(65536)):
        pass
    document = b'"' + b"y" * %(size)d + b'"'
    began = time.perf_counter()
    host.send(Provision(msgspec.Raw(document)))
    done = False
    while not done:
        data = host.data_to_send()
        stream.sendall(data)
        done = any(isinstance(event, FromGuest) for event in host.receive(stream.recv(65536)))
    print("round %%.6f %%.6f" %% (raw, time.perf_counter() - began), flush=True)
"""


def rows() -> list[Row]:
    """Boots the lab; the raw copy has the document's bytes once in base64, which a printable channel cannot do without."""
    values = {
        "channel": CHANNEL,
        "socket": SOCKET,
        "size": DOCUMENT_BYTES,
        "raw": DOCUMENT_BYTES * 4 // 3,
        "rounds": PAIRS,
    }
    with Lab.boot(print) as lab:
        guest = lab.create("bench", channels=[Channel(CHANNEL, path=SOCKET)])
        guest.wait_ready()
        pairs = measure(lab.dom0, guest, values)
    ratio = median(ours / raw for raw, ours in pairs)
    raw, ours = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    kib = DOCUMENT_BYTES / 1024
    measured = f"{kib:.0f} KiB document in {ours:.2f} s ({kib / ours:.0f} KiB/s), raw copy of its base64 in {raw:.2f} s"
    note = "seals and openings under emulation on both sides, and waiting for acknowledgements at the window's end"
    return [Row("document over a real hvc, against a raw copy", ratio, 3.0, "lower", measured, note)]


def measure(dom0: Dom0, guest: Guest, values: dict[str, object]) -> list[tuple[float, float]]:
    """(raw, sealed) seconds of each round."""
    python = "/opt/pv-channel-agents/bin/python"
    guest.run("systemctl stop 'pv-guest-agent@*'")
    guest.run(f"cat >/run/bench.py <<'END'\n{GUEST_PROGRAM % values}\nEND")
    guest.run(f"setsid {python} /run/bench.py >/run/bench.log 2>&1 </dev/null &")
    dom0.put("/root/bench.py", HOST_PROGRAM % values)
    done = dom0.run(f"{python} /root/bench.py", timeout=600)
    return [(float(raw), float(ours)) for raw, ours in re.findall(r"^round (\S+) (\S+)$", done.output, re.MULTILINE)]
