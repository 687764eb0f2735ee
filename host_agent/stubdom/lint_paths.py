# SPDX-License-Identifier: Apache-2.0
"""Which files, sockets and terminals of dom0's a QEMU is told of that do not exist in its stubdomain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from host_agent.stubdom.console_map import FIRST_OF_TARGET, MAX_CONSOLES, Role, role_of
from host_agent.stubdom.lint_finding import Finding
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from host_agent.stubdom.lint_options import Option

#: What any Linux has, and where QEMU has its firmware.
_ALWAYS: Final = ("/dev/", "/proc/", "/sys/", "/usr/share/")
_HVC: Final = re.compile(r"/dev/hvc([0-9]{1,2})", re.ASCII)
#: Options whose whole value is a file, and properties of others that name one.
_FILES: Final = frozenset(
    ("kernel", "initrd", "dtb", "bios", "pidfile", "D", "readconfig", "writeconfig", "option-rom", "L", "mem-path", "plugin")
)
_PROPERTIES: Final = {
    "acpitable": ("file", "data"), "smbios": ("file",), "fw_cfg": ("file",),
    "fsdev": ("path", "socket"), "virtfs": ("path", "socket"),
    "object": ("mem-path", "filename", "file", "dir"), "tpmdev": ("path", "cancel-path"), "plugin": ("file",),
    "device": ("romfile", "filename"), "machine": ("kernel", "initrd", "dtb", "firmware", "dumpdtb"), "global": ("romfile",),
}  # fmt: skip
_SERIALS: Final = ("serial", "parallel", "debugcon", "virtioconsole")
_NETWORK: Final = re.compile(r"(?:tcp|telnet|udp|websocket):", re.ASCII)
_NAMED: Final = re.compile(r"(unix|file|pipe):(.*)", re.ASCII | re.DOTALL)
_NAME: Final = "by its own path inside, which --has says"
_USE: Final = {
    Role.LOG: "QEMU's log", Role.SAVE: "QEMU's state when it is saved", Role.RESTORE: "QEMU's state when it is restored",
}  # fmt: skip
_SHOWN: Final = 80


def paths(said: Sequence[Option], _target: int | None, has: Sequence[str]) -> Iterator[Finding]:
    """Files, and the ends of chardevs."""
    for option in said:
        for path in _files(option):
            if not _is_there(path, has):
                why = f"-{option.name}: the file {printable(path, _SHOWN)} is dom0's, and not in the stubdomain"
                yield Finding("file", option.number, why, f"have it in the stubdomain's image, and name it {_NAME}")
        if option.name in _SERIALS:
            yield from _serial(option, has)
        elif option.name == "chardev":
            yield from _chardev(option, has)
        elif option.name == "s" or (option.name == "gdb" and _NETWORK.match(option.text)):
            yield _no_network(option)
        elif option.name == "add-fd":
            yield Finding("descriptor", option.number, "-add-fd: a descriptor of dom0's does not come along", "leave it out")


def _files(option: Option) -> list[str]:
    """Those that it names by an absolute path; a relative one is looked for among QEMU's own."""
    found = [option.text] if option.name in _FILES else option.all(*_PROPERTIES.get(option.name, ()))
    return [path for path in found if path.startswith("/")]


def _is_there(path: str, has: Sequence[str]) -> bool:
    if "/../" in f"{path}/":
        return False
    return path.startswith(_ALWAYS) or any(path == each or path.startswith(f"{each.rstrip('/')}/") for each in has)


def _serial(option: Option, has: Sequence[str]) -> Iterator[Finding]:
    """``-serial`` and its like, whose value is a device, or chardev:ID, or a kind with its place."""
    text = option.text.removeprefix("mon:")
    named = _NAMED.fullmatch(text.partition(",")[0])
    if text.startswith("/"):
        yield from _terminal(option, text)
    elif named is not None:
        yield from _end(option, named[1], named[2], has)
    elif text.partition(",")[0] == "pty":
        yield _no_pty(option)
    elif _NETWORK.match(text):
        yield _no_network(option)


def _chardev(option: Option, has: Sequence[str]) -> Iterator[Finding]:
    kind = option.kind
    if kind == "pty":
        yield _no_pty(option)
    elif kind == "udp" or (kind == "socket" and option.all("host", "port")):
        yield _no_network(option)
    elif kind == "socket" and option.all("fd"):
        why = "a descriptor of dom0's does not come along"
        yield Finding("descriptor", option.number, why, f"let it end at {_its_consoles()}")
    elif kind in ("socket", "file", "pipe"):
        for path in option.all("path"):
            yield from _end(option, "unix" if kind == "socket" else kind, path, has)
    elif kind in ("serial", "tty", "parport", "parallel"):
        for path in option.all("path"):
            yield from _terminal(option, path)


def _end(option: Option, kind: str, path: str, has: Sequence[str]) -> Iterator[Finding]:
    if _is_there(path, has):
        return
    if kind == "unix":
        why = f"the socket {printable(path, _SHOWN)} would be made in the stubdomain, where nobody of dom0's can reach it"
        yield Finding("socket", option.number, why, f"let it end at {_its_consoles()}: its other end is a socket in dom0")
    else:
        why = f"the {kind} {printable(path, _SHOWN)} is dom0's, and not in the stubdomain"
        yield Finding("file", option.number, why, f"let it end at {_its_consoles()}, or name it {_NAME}")


def _terminal(option: Option, path: str) -> Iterator[Finding]:
    """A console of the target's, or a device that is not there."""
    matched = _HVC.fullmatch(path)
    if matched is None:
        if path not in ("/dev/null", "/dev/zero"):
            why = f"the device {printable(path, _SHOWN)} is dom0's: a stubdomain has its target's serials as consoles"
            yield Finding("terminal", option.number, why, f"name it by its console: {_its_consoles()}")
        return
    number = int(matched[1])
    if number >= MAX_CONSOLES:
        why = f"{path}: Linux has {MAX_CONSOLES} consoles, hvc0 to hvc{MAX_CONSOLES - 1}"
        yield Finding("terminal", option.number, why, f"another one: {_its_consoles()}")
    elif number < FIRST_OF_TARGET:
        why = f"{path}: that console is for {_USE[role_of(number)]}"
        yield Finding("terminal", option.number, why, f"another one: {_its_consoles()}")


def _its_consoles() -> str:
    return f"/dev/hvc{FIRST_OF_TARGET} to /dev/hvc{MAX_CONSOLES - 1}"


def _no_pty(option: Option) -> Finding:
    why = "a pty would be opened in the stubdomain, where nobody of dom0's can reach it"
    return Finding("terminal", option.number, why, f"let it end at {_its_consoles()}: its other end can be a pty in dom0")


def _no_network(option: Option) -> Finding:
    why = f"-{option.name}: a stubdomain has no network of its own to listen on or connect by"
    return Finding("network", option.number, why, f"leave it out, or let it end at {_its_consoles()}")
