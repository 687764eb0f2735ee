# SPDX-License-Identifier: Apache-2.0
"""What a backend program says of itself when it is asked for ``--print-capabilities``: its type, and which options it takes.

QEMU's docs/interop/vhost-user.json has it as VHostUserBackendCapabilities. A program is not believed: its words are checked.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Final

import msgspec

from host_agent.errors import HostError
from pv_channel.text import printable

#: The options of every backend program.
PRINT_CAPABILITIES: Final = "--print-capabilities"
SOCKET_PATH: Final = "--socket-path"
FD: Final = "--fd"

#: VHostUserBackendType. Whoever reads QEMU's own directories gives up at another word.
QEMU_TYPES: Final = frozenset(
    {
        "9p", "balloon", "block", "caif", "console", "crypto", "gpu", "input", "net", "rng", "rpmsg", "rproc-serial", "scsi",
        "vsock", "fs",
    }
)  # fmt: skip
#: VHostUserBackend…Feature: each is an option of that name that the program takes. Other types have none.
QEMU_FEATURES: Final = {
    "block": frozenset({"read-only", "blk-file"}),
    "input": frozenset({"evdev-path", "no-grab"}),
    "gpu": frozenset({"render-node", "virgl"}),
}
#: Of a program's answer: more than any program has to say of itself.
MAX_BYTES: Final = 64 * 1024
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


class BadCapabilities(HostError):  # noqa: N818 -- it says what the answer is
    """An answer that is none of `Capabilities`."""


class Capabilities(msgspec.Struct, frozen=True):
    """A program's *type* and *features*; what else it says is for later versions of the schema."""

    type: str
    features: Annotated[list[str], msgspec.Meta(max_length=64)] = []

    def text(self) -> str:
        """The answer to ``--print-capabilities``."""
        return json.dumps({"type": self.type, "features": self.features}, indent=2)


#: Our own program's: no type of QEMU's. Each feature is an option, or what systemd may do.
OURS: Final = Capabilities("pv-channel", ["document", "no-ledger", "socket-activation"])


def parse(data: bytes) -> Capabilities:
    """What *data*, a program's answer, says; raise `BadCapabilities` with what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise BadCapabilities(f"longer than {MAX_BYTES} bytes")
    try:
        found = msgspec.json.decode(data, type=Capabilities)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadCapabilities(f"no JSON of the schema: {printable(exc, 200)}") from None
    except RecursionError:
        raise BadCapabilities("no JSON of the schema: nested too deep") from None
    for word in (found.type, *found.features):
        if not _WORD.fullmatch(word):
            raise BadCapabilities(f"'{printable(word, 80)}' is no name of a type or feature")
    return found


def is_qemus(name: str) -> bool:
    """Whether the type *name* is one that QEMU's own directories may have."""
    return name in QEMU_TYPES
