# SPDX-License-Identifier: Apache-2.0
"""A thousand guests at once: what a handshake, a document and its result cost the host, beside the handshake's own X25519."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.row import Row
from host_agent.documents.document_file import Wanted
from host_agent.keys import Identity
from host_agent.ledger.ledger import Ledger
from host_agent.talk.conversation import Conversation
from host_agent.talk.drive import Batch, Drive, Waiting
from host_agent.talk.notices import Notice, What
from pv_channel import CHANNEL_NAME
from pv_channel.document import from_values
from pv_channel.messages import Hello, ItemResult, Outcome, Ping, Pong, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.session import FromHost, Guest
from pv_channel.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable

GUESTS = 1000
ROUNDS = 3
DEADLINE_SECONDS = 300


def rows() -> list[Row]:
    """The host's own CPU time a session, ledger and event loop included, over four X25519 operations: e, ee, se, es."""
    ratios = []
    for _ in range(ROUNDS):
        floor = x25519_seconds()
        ratios.append((storm() / floor, floor))
    ratio, floor = sorted(ratios)[ROUNDS // 2]
    measured = f"{1 / (ratio * floor):,.0f} sessions/s a core, {ratio * floor * 1e6:.0f} us each; X25519 {floor * 1e6:.0f} us"
    note = "the event loop, the ledger's rows, the document's JSON, seals; `python -m cProfile -m bench sessions` shows each"
    return [Row("host CPU a session, 1,000 guests", ratio, 4.0, "lower", measured, note)]


def x25519_seconds() -> float:
    """Of the processor, for one handshake."""
    began = time.process_time()
    x25519(GUESTS)
    return (time.process_time() - began) / GUESTS


def x25519(handshakes: int) -> None:
    """One ephemeral key and three Diffie-Hellman operations: what KX costs its initiator, and nothing else."""
    host, guest = KeyPair.generate(), KeyPair.generate()
    for _ in range(handshakes):
        ephemeral = KeyPair.generate()
        ephemeral.dh(guest.public)
        host.dh(guest.public)
        ephemeral.dh(guest.public)


def storm() -> float:
    """CPU seconds of the host for each of a thousand sessions, from the first greeting to the last result in the ledger."""
    ours, theirs = zip(*(socket.socketpair() for _ in range(GUESTS)), strict=True)
    pid = os.fork()
    if pid == 0:
        try:
            for end in ours:
                end.close()
            serve(list(theirs))
        finally:
            os._exit(0)
    for end in theirs:
        end.close()
    try:
        with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
            return asyncio.run(provision([end.detach() for end in ours], Path(scratch)))
    finally:
        os.waitpid(pid, 0)


async def provision(descriptors: list[int], scratch: Path) -> float:
    """Drive all conversations until each has its result."""
    ledger = Ledger.open(scratch / "state")
    identity = Identity(KeyPair.generate())
    network = {"version": 2, "ethernets": {"eth0": {"dhcp4": True}}}
    document = from_values({"instance-id": "i-1", "local-hostname": "web1", "network": network})
    digest = document.digest()
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = len(descriptors)

    def tell(notice: Notice) -> None:
        nonlocal left
        if notice.what is What.SETTLED:
            if notice.settlement is None or not notice.settlement.good:
                raise RuntimeError(f"a guest was not provisioned: {notice.text}")
            left -= 1
            if left == 0:
                done.set_result(None)

    def wanted(number: int) -> Wanted:
        return Wanted(f"vm{number}", number.to_bytes(16, "big"), document, digest)

    def begin(number: int) -> Callable[[float], Conversation]:
        what, channel = wanted(number), CHANNEL_NAME.encode("ascii")
        return lambda now: Conversation(what, channel, identity, ledger, tell, now=now)

    for number in range(1, len(descriptors) + 1):  # as the service has done when it has read the documents
        ledger.want(wanted(number).key, f"vm{number}", None, digest)
    ledger.commit()
    began = time.process_time()
    batch = Batch(ledger, loop)
    drives = []
    for number, descriptor in enumerate(descriptors, 1):
        os.set_blocking(descriptor, False)
        drives.append(Drive(descriptor, batch, Waiting(begin(number), loop.create_future())))
        drives[-1].begin()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await done
    batch.flush()
    took = time.process_time() - began
    for drive in drives:
        drive.end("done")
    await asyncio.sleep(0)  # what that put on record is committed first
    ledger.close()
    return took / len(descriptors)


def serve(ends: list[socket.socket]) -> None:
    """A thousand guests in one process: each takes its document and says that it applied it. Ends when the host has left."""
    selector = selectors.DefaultSelector()
    for end in ends:
        guest = Guest(
            channel=CHANNEL_NAME.encode("ascii"),
            uuid=None,
            key=KeyPair.generate(),
            trust=Trust(),
            hello=Hello("0.1.0"),
            random_bytes=os.urandom,
        )
        selector.register(end, selectors.EVENT_READ, guest)
    while selector.get_map():
        for key, _ in selector.select():
            guest = key.data
            data = os.read(key.fd, 65536)
            if not data:
                selector.unregister(key.fileobj)
                continue
            for event in guest.receive(data):
                if isinstance(event, FromHost):
                    answer(guest, event)
            os.write(key.fd, guest.data_to_send())


def answer(guest: Guest, event: FromHost) -> None:
    """What an agent would say."""
    match event.message:
        case Ping(n):
            guest.send(Pong(n))
        case Provision():
            items = [ItemResult("hostname", Outcome.APPLIED), ItemResult("network", Outcome.APPLIED)]
            guest.send(Result(1, Outcome.APPLIED, items, milliseconds=12))
