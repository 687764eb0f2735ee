# SPDX-License-Identifier: Apache-2.0
"""What an event of the script does: to a guest, to its QEMU, to who talks on its channel, to the service, and to etcd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from chaos.herd import name_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from chaos.documents import Documents
    from chaos.etcd import Etcd
    from chaos.herd import Herd
    from chaos.script import Event
    from chaos.service import Service

#: What other programs say on a channel.
_JUNK: Final = (
    b"AT\r\nATI1\r\n", b"\x1b[2J\x00\xff\xfe", b"login: root\r\n", b"> ........ half a greeting", b"< 0000\n\n\n", b"\n" * 64,
)  # fmt: skip
_FLOOD_SECONDS: Final = 5.0


class Troubles:
    """Upon *herd*, *documents*, *service*, and *etcd* if there is one; *source* makes up what is said by whom nobody asked."""

    def __init__(
        self, herd: Herd, documents: Documents, service: Service, etcd: Etcd | None, source: random.Random
    ) -> None:
        self._herd, self._documents, self._service, self._source = herd, documents, service, source
        self._intruders: dict[int, socket.socket] = {}
        self._floods: list[threading.Thread] = []
        #: What went wrong that never should.
        self.faults: list[str] = []
        self._on_guests: dict[str, Callable[[int], None]] = {
            "change": documents.change, "spoil": documents.spoil, "kill": herd.kill, "start": herd.start, "freeze": herd.freeze,
            "thaw": herd.thaw, "stall": herd.stall, "unstall": herd.unstall, "vanish": herd.vanish, "listen": herd.listen,
            "change-bit-by-bit": documents.change_bit_by_bit,
            "leave-socket": lambda number: herd.vanish(number, leave_file=True),
            "power-off": self._power_off, "power-on": self._power_on, "cut": lambda number: herd.relays[number].disconnect(),
            "noise": self._noise, "relieve": herd.relieve, "intrude": self._intrude, "withdraw": self._withdraw,
        }  # fmt: skip
        self._on_service: dict[str, Callable[[], None]] = {
            "kill-service": self._kill_service, "start-service": service.start,
            "end-service": lambda: self._kill_service(signal.SIGTERM),
            "freeze-service": lambda: service.signal(signal.SIGSTOP), "thaw-service": lambda: service.signal(signal.SIGCONT),
            "reload-service": lambda: service.signal(signal.SIGHUP),
        }  # fmt: skip
        if etcd is not None:
            self._on_service |= {
                "kill-etcd": etcd.kill, "start-etcd": etcd.start, "freeze-etcd": etcd.freeze, "thaw-etcd": etcd.thaw,
            }  # fmt: skip

    def do(self, event: Event) -> None:
        """Have it happen."""
        if event.what == "flood":
            self._flood(event.guest, event.amount * 1024)
        elif event.what == "ambush":
            self._herd.ambush(event.guest, event.amount / 100_000)
            self._documents.change(event.guest)
        elif event.guest >= 0:
            self._on_guests[event.what](event.guest)
        else:
            self._on_service[event.what]()

    def end(self) -> None:
        """Nobody is flooded any more."""
        for flood in self._floods:
            flood.join()
        for number in list(self._intruders):
            self._withdraw(number)

    def _kill_service(self, number: signal.Signals = signal.SIGKILL) -> None:
        fault = self._service.kill(number)
        if fault:
            self.faults.append(fault)

    def _power_off(self, number: int) -> None:
        self._herd.kill(number)
        self._herd.vanish(number)

    def _power_on(self, number: int) -> None:
        self._herd.listen(number)
        self._herd.start(number)

    def _noise(self, number: int) -> None:
        """Another program of the guest says something on the tty."""
        descriptor = os.open(self._herd.relays[number].tty, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            os.write(descriptor, self._source.choice(_JUNK))
        os.close(descriptor)

    def _flood(self, number: int, size: int) -> None:
        """It says a lot, as fast as it is taken."""
        block = bytes(self._source.choices(range(32, 127), k=200)) + b"\n"
        descriptor = os.open(self._herd.relays[number].tty, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        flood = threading.Thread(target=_pour, args=(descriptor, block, size), name=f"flood of {name_of(number)}", daemon=True)
        flood.start()
        self._floods = [each for each in self._floods if each.is_alive()] + [flood]

    def _intrude(self, number: int) -> None:
        """Another program of dom0 connects, before the service can again."""
        relay = self._herd.relays[number]
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        relay.disconnect()
        try:
            client.connect(os.fspath(relay.path))
            client.send(b"".join(self._source.choices(_JUNK, k=20)))
        except OSError:  # it was too late
            client.close()
        else:
            self._intruders[number] = client

    def _withdraw(self, number: int) -> None:
        client = self._intruders.pop(number, None)
        if client is not None:
            client.close()


def _pour(descriptor: int, block: bytes, size: int) -> None:
    until = time.monotonic() + _FLOOD_SECONDS
    while size > 0 and time.monotonic() < until:
        try:
            size -= os.write(descriptor, block)
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:
            break
    os.close(descriptor)
