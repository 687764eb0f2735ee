# SPDX-License-Identifier: Apache-2.0
"""The verb `plan`: what a document would change on this machine. Nothing is written, nothing is run, nobody is asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import VERSION
from guest_agent.provision import Provisioner
from guest_agent.run import vm_uuid
from guest_agent.system import System
from pv_channel.document import MAX_GENERATION, parse
from pv_channel.errors import BadDocument
from pv_channel.greeting import uuid_text
from pv_channel.messages import MAX_DOCUMENT_BYTES
from pv_channel.planned import lines, problem, values
from pv_channel.text import printable

if TYPE_CHECKING:
    import argparse

#: A person reads the plan of a whole machine, or a program does; this is only so that there is an end.
_MAX_BYTES: Final = 64 * 1024 * 1024


def show(arguments: argparse.Namespace) -> int:
    """The plan on standard output; 0 where the document can come into force, whatever it takes."""
    try:
        raw = _read(arguments.file)
    except OSError as exc:
        print(f"pv-guest-agent: {printable(arguments.file, 200)}: {exc.strerror}", file=sys.stderr)
        return 1
    system = System(arguments.root)
    provisioner = Provisioner(system, VERSION, hand_off=arguments.hand_to is not None)
    uuid = vm_uuid(system)
    in_force = provisioner.hello().generation
    planned = provisioner.plan(_with_generation(raw, in_force), None if uuid is None else uuid_text(uuid), _MAX_BYTES)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(values(planned)), indent=2).decode())
    else:
        print("\n".join(lines(planned)))
    return 1 if problem(planned) else 0


def _read(path: str) -> bytes:
    """The document, and no more of it than makes it too long; raise `OSError`."""
    if path == "-":
        return sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1)
    with open(path, "rb") as file:  # noqa: PTH123 -- as System reads its files
        return file.read(MAX_DOCUMENT_BYTES + 1)


def _with_generation(raw: bytes, in_force: int) -> bytes:
    """The document as the generation after the one *in_force*, where it does not say which it is."""
    try:
        document = parse(raw)
    except BadDocument:  # which the plan says
        return raw
    if document.generation is not msgspec.UNSET:
        return raw
    return document.at_generation(min(in_force + 1, MAX_GENERATION)).encode()
