# SPDX-License-Identifier: Apache-2.0
"""Network namespaces of a test's own, joined by a bridge in one of them: nothing of the machine's own network is touched."""

from __future__ import annotations

import os
import subprocess
from typing import Self

import pytest


class Namespaces:
    """One for each of *names*, with the addresses 10.77.0.2 and on, and a hub with 10.77.0.1."""

    def __init__(self, *names: str) -> None:
        if os.geteuid() != 0:
            pytest.fail("these tests need root")
        self._names, self._tag = names, f"pvf{os.getpid()}"
        self.hub_address = "10.77.0.1"

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("hub", *self._names):
            subprocess.run(["ip", "netns", "delete", f"{self._tag}-{name}"], capture_output=True)

    def inside(self, name: str) -> list[str]:
        """Words to start a program with that is to run in it."""
        return ["ip", "netns", "exec", f"{self._tag}-{name}"]

    def cut(self, name: str) -> None:
        """Nothing reaches it, nor comes from it, and nobody is told."""
        _ip("-n", f"{self._tag}-hub", "link", "set", f"to-{name}", "down")

    def join(self, name: str) -> None:
        """End that."""
        _ip("-n", f"{self._tag}-hub", "link", "set", f"to-{name}", "up")

    def _make(self) -> None:
        hub = f"{self._tag}-hub"
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "hub", "type", "bridge")
        _ip("-n", hub, "address", "add", f"{self.hub_address}/24", "dev", "hub")
        for device in ("lo", "hub"):
            _ip("-n", hub, "link", "set", device, "up")
        for number, name in enumerate(self._names, 2):
            mine = f"{self._tag}-{name}"
            _ip("netns", "add", mine)
            _ip("link", "add", "name", f"to-{name}", "netns", hub, "type", "veth", "peer", "name", "uplink", "netns", mine)
            _ip("-n", hub, "link", "set", f"to-{name}", "master", "hub", "up")
            _ip("-n", mine, "address", "add", f"10.77.0.{number}/24", "dev", "uplink")
            for device in ("lo", "uplink"):
                _ip("-n", mine, "link", "set", device, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=60)
