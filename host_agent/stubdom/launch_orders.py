# SPDX-License-Identifier: Apache-2.0
"""What the toolstack wants of this stubdomain: whose device model it is, and the arguments that its QEMU gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.stubdom.launch_failure import LaunchError, Status
from host_agent.stubdom.launch_show import short
from host_agent.stubdom.launch_xenstore import Refused

if TYPE_CHECKING:
    from host_agent.stubdom.launch_xenstore import Xenstore

#: Three digits have no more numbers, and one answer of xenstore's has no room for more of them.
MAX_ARGUMENTS: Final = 999
#: The kernel takes 2 MiB of arguments and environment; a command line of libxl's has a few KiB.
MAX_BYTES: Final = 1024 * 1024
#: DOMID_FIRST_RESERVED.
DOMAINS: Final = range(0x7FF0)
_CURE: Final = "the toolstack writes it; by hand: 'pv-host-agent dm argv' in dom0"
_NUMBER: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_VM: Final = re.compile(rb"/vm/[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Orders(NamedTuple):
    """This domain, the one that it works for, and QEMU's arguments without its name."""

    stubdomain: int
    target: int
    arguments: list[bytes]

    @property
    def home(self) -> str:
        """The node below which this device model says how it is."""
        return f"/local/domain/{self.stubdomain}/device-model/{self.target}"


def orders(store: Xenstore, domid: int | None = None) -> Orders:
    """As they stand in xenstore, of the domain *domid* instead of our own where it is given; raise `LaunchError`."""
    stubdomain = _domain(store, "domid") if domid is None else domid
    target = _domain(store, f"/local/domain/{stubdomain}/target")
    if target == stubdomain:
        raise LaunchError(Status.ORDERS, f"/local/domain/{stubdomain}/target: a domain is not its own device model")
    vm = store.read(f"/local/domain/{target}/vm")
    if vm is None or not _VM.fullmatch(vm):
        there = "no such node" if vm is None else short(vm)
        raise LaunchError(Status.ORDERS, f"/local/domain/{target}/vm: {there}, where the target's /vm/UUID should be")
    found = Orders(stubdomain, target, _arguments(store, f"{vm.decode('ascii')}/image/dm-argv"))
    if store.read(found.home) is None:
        raise LaunchError(Status.ORDERS, f"{found.home}: no such node in xenstore; {_CURE}")
    return found


def _domain(store: Xenstore, path: str) -> int:
    said = store.read(path)
    if said is None:
        raise LaunchError(Status.ORDERS, f"{path}: no such node in xenstore; {_CURE}")
    if not _NUMBER.fullmatch(said) or int(said) not in DOMAINS:
        raise LaunchError(Status.ORDERS, f"{path}: {short(said)} is no domain id")
    return int(said)


def _arguments(store: Xenstore, path: str) -> list[bytes]:
    found, size = [], 0
    for name in _numbered(store, path):
        value = store.read(f"{path}/{name}")
        if value is None:
            raise LaunchError(Status.ARGUMENTS, f"{path}/{name}: it went away while the arguments were read; start again")
        if b"\0" in value:
            raise LaunchError(Status.ARGUMENTS, f"{path}/{name}: a NUL, which no program can be given")
        size += len(value)
        if size > MAX_BYTES:
            raise LaunchError(Status.ARGUMENTS, f"{path}: more than {MAX_BYTES} bytes of arguments")
        found.append(value)
    return found


def _numbered(store: Xenstore, path: str) -> list[str]:
    """The names 001, 002 and so on, of as many arguments as there are; raise `LaunchError` where there are other names."""
    try:
        names = store.names(path) or []
    except Refused as exc:
        if exc.word != "E2BIG":
            raise
        names = [b""] * (MAX_ARGUMENTS + 1)
    if not names:
        raise LaunchError(Status.ARGUMENTS, f"{path}: no arguments for QEMU there; {_CURE}")
    if len(names) > MAX_ARGUMENTS:
        raise LaunchError(Status.ARGUMENTS, f"{path}: more than {MAX_ARGUMENTS} arguments")
    expected = [b"%03d" % number for number in range(1, len(names) + 1)]
    if sorted(names) != expected:
        other, missing = min(set(names) - set(expected)), min(set(expected) - set(names))
        raise LaunchError(Status.ARGUMENTS, f"{path}: there is {short(other)}, and argument {short(missing)} is missing")
    return [name.decode("ascii") for name in expected]
