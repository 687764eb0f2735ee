# SPDX-License-Identifier: Apache-2.0
"""What a QEMU inside a stubdomain is not to be told of its process: to leave the launcher, and what the launcher tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.stubdom.console_map import INCOMING_ARGUMENT
from host_agent.stubdom.lint_finding import Finding
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from host_agent.stubdom.lint_options import Option

_INCOMING: Final = INCOMING_ARGUMENT.decode("ascii")
_NO_MONITOR: Final = ("none", "null")


def daemon(said: Sequence[Option], _target: int | None, _has: Sequence[str]) -> Iterator[Finding]:
    """It stays the launcher's child, and root, who alone can open what the stubdomain has."""
    for option in said:
        if option.name == "daemonize":
            why = "-daemonize: the launcher would take QEMU for ended"
            yield Finding("daemonize", option.number, why, "leave it out")
        elif option.name in ("runas", "chroot", "run-with"):
            why = f"-{option.name}: a user or a directory of dom0's, and the stubdomain is QEMU's own already"
            yield Finding("privileges", option.number, why, "leave it out")


def monitors(said: Sequence[Option], _target: int | None, _has: Sequence[str]) -> Iterator[Finding]:
    """There is one, the launcher's, which dom0 reaches over vchan."""
    for option in said:
        if option.name in ("qmp", "qmp-pretty", "mon") or (option.name == "monitor" and option.kind not in _NO_MONITOR):
            why = f"-{option.name}: another monitor than the launcher's, which nobody in dom0 can reach"
            yield Finding("monitor", option.number, why, "leave it out; 'pv-host-agent dm qmp' speaks at the launcher's own")


def incoming(said: Sequence[Option], _target: int | None, _has: Sequence[str]) -> Iterator[Finding]:
    """A state comes in by console 2 alone, whose number the launcher knows."""
    found = [option for option in said if option.name == "incoming"]
    for option in found[1:]:
        yield Finding("incoming", option.number, "a second -incoming", "leave one of them out")
    for option in found:
        if option.value is None:
            yield Finding("incoming", option.number, "-incoming without its argument", f"say -incoming '{_INCOMING}'")
        elif option.value != _INCOMING:
            why = f"-incoming {printable(option.value, 60)}: a stubdomain's QEMU gets a state by console 2 alone"
            yield Finding("incoming", option.number, why, f"say -incoming '{_INCOMING}'")
    for option in said:
        if option.name != "incoming" and _INCOMING in option.text:
            why = f"{_INCOMING} stands after {printable(option.name, 30) or 'nothing'}, and the launcher leaves it there"
            yield Finding("incoming", option.number, why, "it is to be the whole argument after -incoming")


def domain(said: Sequence[Option], target: int | None, _has: Sequence[str]) -> Iterator[Finding]:
    """It is for its target."""
    for option in said:
        if option.name != "xen-domid":
            continue
        if not option.text.isascii() or not option.text.isdecimal():
            why = f"-xen-domid {printable(option.text, 20)} is no domain's number"
            yield Finding("domid", option.number, why, "say the target's")
        elif target is not None and option.text.lstrip("0") != str(target):
            why = f"-xen-domid {printable(option.text, 20)}: another domain than the target, {target}"
            yield Finding("domid", option.number, why, f"say -xen-domid {target}")
