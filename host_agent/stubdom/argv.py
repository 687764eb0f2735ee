# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line on its way to a stubdomain: bytes, each argument a node of its own, and what does not fit is refused.

Xenstore keeps any byte; only NUL ends an argument of a program, and a message has 4096 bytes for path and value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.xenstore.wire import MAX_PAYLOAD_BYTES
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The nodes' names have three digits.
MAX_ARGUMENTS: Final = 999
_KEY: Final = re.compile(r"[0-9]{3}", re.ASCII)
_SHOWN: Final = 60
#: What a shell reads as it stands.
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_@%+=:,./-]+")


class BadArgument(HostError):  # noqa: N818 -- it says what the argument is
    """An argument that cannot be published; *number* is its own, counted from 1."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"QEMU's argument {number}: {why}; nothing was written")
        self.number = number


def directory_of(vm: str) -> str:
    """Where the arguments of the VM whose node is *vm*, as ``/vm/UUID``, are."""
    return f"{vm}/image/dm-argv"


def node(directory: str, number: int) -> str:
    """Where argument *number*, counted from 1, is: argv[0] is the stubdomain's own."""
    return f"{directory}/{number:03d}"


def check(arguments: Sequence[bytes], directory: str) -> None:
    """Raise `HostError` where *arguments* cannot be published below *directory*, naming the argument and the cure."""
    if len(arguments) > MAX_ARGUMENTS:
        raise BadArgument(
            MAX_ARGUMENTS + 1,
            f"there are {len(arguments)}, and dm-argv has room for {MAX_ARGUMENTS};"
            " cure: say with one -readconfig FILE of the stubdomain what many arguments say",
        )
    for number, argument in enumerate(arguments, 1):
        _check_one(number, argument, MAX_PAYLOAD_BYTES - len(node(directory, number)) - 1)


def _check_one(number: int, argument: bytes, room: int) -> None:
    if b"\0" in argument:
        raise BadArgument(number, "it has a NUL, which no program's argument can have; cure: leave it out")
    if len(argument) > room:
        raise BadArgument(
            number,
            f"it has {len(argument)} bytes, and a message of xenstore's has room for {room} ({printable(argument, _SHOWN)});"
            " cure: split it into several options, or have the stubdomain read it from a file of its own",
        )


def in_order(names: Iterable[str], directory: str) -> list[str]:
    """The nodes' *names* in the order of the arguments; raise `HostError` where one is missing, or is none."""
    ordered = sorted(names)
    for number, name in enumerate(ordered, 1):
        if not _KEY.fullmatch(name):
            raise HostError(f"{directory}: {printable(name)} is no argument's number (001 to 999); cure: publish them anew")
        if int(name) != number:
            raise HostError(f"{directory}: argument {number:03d} is missing; cure: publish them anew")
    return ordered


def shell_word(argument: bytes) -> str:
    """*argument* in printable characters that bash reads as these bytes."""
    if _PLAIN.fullmatch(argument):
        return argument.decode("ascii")
    if all(0x20 <= byte < 0x7F for byte in argument):
        quoted = argument.decode("ascii").replace("'", "'\\''")
        return f"'{quoted}'"
    return "$'" + "".join(_escaped(byte) for byte in argument) + "'"


def _escaped(byte: int) -> str:
    if byte in b"'\\":
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
