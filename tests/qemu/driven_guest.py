# SPDX-License-Identifier: Apache-2.0
"""A guest without code of its own: its processor is halted, and a test drives its virtio device on the PCI bus through qtest."""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_SECONDS: Final = 120.0
#: What the processor finds everywhere: hlt, with interrupts off as after a reset.
_FIRMWARE: Final = b"\xf4" * 65536

_CONFIG_ADDRESS, _CONFIG_DATA = 0xCF8, 0xCFC
_VIRTIO_VENDOR: Final = 0x1AF4
_MEMORY_AND_MASTER: Final = 0x6
#: A hole in the address space of a small `pc`.
_BAR_AT: Final = 0xE000_0000
_VENDOR_CAPABILITY: Final = 9
_COMMON, _NOTIFY = 1, 2
#: virtio 1.2, 2.1 and 4.1.4.3
_ACKNOWLEDGE, _DRIVER, _DRIVER_OK, _FEATURES_OK = 1, 2, 4, 8
_DEVICE_FEATURE_SELECT, _DEVICE_FEATURE, _DRIVER_FEATURE_SELECT, _DRIVER_FEATURE = 0, 4, 8, 12
_STATUS, _QUEUE_SELECT, _QUEUE_SIZE, _QUEUE_ENABLE, _NOTIFY_OFF, _DESC, _AVAIL, _USED = 20, 22, 24, 28, 30, 32, 40, 48
#: Where in the guest's memory the driver has its queue, and a buffer.
_TABLE, _AVAILABLE, _USED_RING, BUFFER = 0x80_0000, 0x80_1000, 0x80_2000, 0x80_4000
_WRITE: Final = 2


def arguments(work: Path) -> list[str]:
    """What has QEMU be one."""
    firmware = work / "halted.bin"
    firmware.write_bytes(_FIRMWARE)
    return ["-bios", str(firmware), "-qtest", f"unix:{work / 'qtest'},server=on,wait=off", "-qtest-log", "/dev/null"]


def _connected(path: Path) -> socket.socket:
    """A client of qtest, which comes up a moment after the monitor."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(ANSWER_SECONDS)
        try:
            end.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            end.close()
            assert time.monotonic() < deadline, f"nobody listens at {path}"
            time.sleep(0.02)
        else:
            return end


class DrivenGuest:
    """Its one virtio device, for a `with`."""

    def __init__(self, work: Path) -> None:
        self._socket = _connected(work / "qtest")
        self._lines = self._socket.makefile("rb")
        self._offered = 0

    def __enter__(self) -> Self:
        self._slot = next(slot for slot in range(32) if self._config(0, slot) & 0xFFFF == _VIRTIO_VENDOR)
        self._find_parts()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def features(self) -> int:
        """What the device offers its driver."""
        found = 0
        for half in (0, 1):
            self._put("l", _DEVICE_FEATURE_SELECT, half)
            found |= self._get("l", _DEVICE_FEATURE) << 32 * half
        return found

    def start(self, features: int) -> None:
        """Be a driver that takes *features*, with a queue of eight entries."""
        for status in (0, _ACKNOWLEDGE, _ACKNOWLEDGE | _DRIVER):
            self._put("b", _STATUS, status)
        for half in (0, 1):
            self._put("l", _DRIVER_FEATURE_SELECT, half)
            self._put("l", _DRIVER_FEATURE, features >> 32 * half & 0xFFFF_FFFF)
        self._put("b", _STATUS, _ACKNOWLEDGE | _DRIVER | _FEATURES_OK)
        assert self._get("b", _STATUS) & _FEATURES_OK
        self._put("w", _QUEUE_SELECT, 0)
        self._put("w", _QUEUE_SIZE, 8)
        for at, address in ((_DESC, _TABLE), (_AVAIL, _AVAILABLE), (_USED, _USED_RING)):
            self._put("l", at, address)
            self._put("l", at + 4, 0)
        self._put("w", _QUEUE_ENABLE, 1)
        self._put("b", _STATUS, _ACKNOWLEDGE | _DRIVER | _FEATURES_OK | _DRIVER_OK)

    def fill(self, size: int) -> bytes:
        """Have the device fill a buffer of *size* bytes; what it holds then."""
        self._write(_TABLE, struct.pack("<QIHH", BUFFER, size, _WRITE, 0))
        self._write(_AVAILABLE + 4 + 2 * (self._offered % 8), struct.pack("<H", 0))
        self._offered += 1
        self._write(_AVAILABLE, struct.pack("<HH", 0, self._offered))
        self._say(f"writew {self._notify:#x} 0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while struct.unpack("<HH", self._read(_USED_RING, 4))[1] != self._offered:
            assert time.monotonic() < deadline, "the device filled nothing"
            time.sleep(0.02)
        return self._read(BUFFER, size)

    def reset(self) -> None:
        """Be no driver any more."""
        self._put("b", _STATUS, 0)

    def _find_parts(self) -> None:
        """Give the device's memory a place, and find the common structure and the place that notifies in it."""
        parts, at = {}, self._config(0x34) & 0xFC
        while at:
            head = self._config(at)
            kind, bar = head >> 24, self._config(at + 4) & 0xFF
            if head & 0xFF == _VENDOR_CAPABILITY and kind in (_COMMON, _NOTIFY):
                parts[kind] = self._config(at + 8)
                multiplier = self._config(at + 16) if kind == _NOTIFY else 0
                self._set_config(0x10 + 4 * bar, _BAR_AT)
            at = head >> 8 & 0xFC
        self._set_config(0x14 + 4 * 4, 0)
        self._set_config(0x04, _MEMORY_AND_MASTER)
        self._common = _BAR_AT + parts[_COMMON]
        self._put("w", _QUEUE_SELECT, 0)
        self._notify = _BAR_AT + parts[_NOTIFY] + self._get("w", _NOTIFY_OFF) * multiplier

    def _config(self, at: int, slot: int | None = None) -> int:
        self._say(f"outl {_CONFIG_ADDRESS:#x} {1 << 31 | (self._slot if slot is None else slot) << 11 | at:#x}")
        return int(self._say(f"inl {_CONFIG_DATA:#x}"), 0)

    def _set_config(self, at: int, value: int) -> None:
        self._say(f"outl {_CONFIG_ADDRESS:#x} {1 << 31 | self._slot << 11 | at:#x}")
        self._say(f"outl {_CONFIG_DATA:#x} {value:#x}")

    def _put(self, width: str, at: int, value: int) -> None:
        self._say(f"write{width} {self._common + at:#x} {value:#x}")

    def _get(self, width: str, at: int) -> int:
        return int(self._say(f"read{width} {self._common + at:#x}"), 0)

    def _write(self, at: int, data: bytes) -> None:
        self._say(f"write {at:#x} {len(data):#x} 0x{data.hex()}")

    def _read(self, at: int, size: int) -> bytes:
        return bytes.fromhex(self._say(f"read {at:#x} {size:#x}").removeprefix("0x"))

    def _say(self, line: str) -> str:
        """What qtest answers, without its OK."""
        self._socket.sendall(f"{line}\n".encode())
        answer = self._lines.readline().decode().strip()
        assert answer == "OK" or answer.startswith("OK "), f"{line}: {answer}"
        return answer.removeprefix("OK").strip()
