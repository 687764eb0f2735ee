# SPDX-License-Identifier: Apache-2.0
"""A domain's QEMU as its process tells: whether it is one, and which ends of channels it was given."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from host_agent.doctor.evidence import Chardev, Qemu

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from host_agent.channels.processes import Process

#: What libxl calls the ends of channels (libxl_dm.c); it has other chardevs for itself.
_CHANNEL: Final = "libxl-channel"
#: An option's parts: QEMU's way to write a comma inside of one is to double it.
_PART: Final = re.compile(r"((?:[^,]|,,)+)(?:,|$)")


def qemu_of(pid: int, process: Process | None, domid: int) -> Qemu:
    """The device model of the domain *domid*, whose pid the toolstack has as *pid*, which *process* has now."""
    argv = () if process is None else process.argv
    is_it = ("-xen-domid", str(domid)) in pairwise(argv)
    return Qemu(pid, process, is_it, tuple(_chardevs(argv)) if is_it else ())


def _chardevs(argv: Sequence[str]) -> Iterator[Chardev]:
    for option, value in pairwise(argv):
        if option == "-chardev":
            kind, *rest = [part.replace(",,", ",") for part in _PART.findall(value)] or [""]
            named = dict(part.partition("=")[::2] for part in rest)
            if named.get("id", "").startswith(_CHANNEL):
                yield Chardev(named["id"], kind, named.get("path", ""))
