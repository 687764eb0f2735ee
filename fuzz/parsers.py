# SPDX-License-Identifier: Apache-2.0
"""Every parser of the core, and of what xenstored answers: what is good for it, and which errors it may answer garbage with."""

from __future__ import annotations

import struct
from binascii import crc32
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from fuzz.seeds import AUTHORITY, CERTIFICATE, DOCUMENTS, PRIVATE_KEY, SSH_KEY, armour, host_certificate
from host_agent.ledger import entry as ledger_entry
from host_agent.ledger.entry import BadEntry, Entry
from host_agent.qemu import vmstate_stream
from host_agent.qemu.vmstate_stream import BadBundle, Part
from host_agent.xenstore import wire
from host_agent.xenstore.errors import Garbled
from pv_channel import document, line, messages, registry, trust
from pv_channel.errors import BadDocument, LocalError, PeerError
from pv_channel.greeting import GuestGreeting, HostGreeting, Refusal
from pv_channel.line import LineReader
from pv_channel.machine import PemCertificate, SshCertificate, SshPrivateKey
from pv_channel.messages import ItemResult, Outcome, Ping, Pong, Progress, Provision, Result
from pv_channel.ssh_key import SshKey
from pv_channel.trust import HOST_KEY_TYPE, Certificate

if TYPE_CHECKING:
    from collections.abc import Callable


class Parser(NamedTuple):
    """*parse* takes any bytes and may raise *errors*, no other. *prepare* puts a checksum right."""

    name: str
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    prepare: Callable[[bytes], bytes] | None = None


_CERTIFICATE: Final = trust.sign(bytes([3]) * 32, bytes(range(32)), issued=1_700_000_000, label="dom0-a")
_ITEM: Final = ItemResult("hostname", Outcome.FAILED, "command-failed", "hostnamectl", ["a line"])
_ENTRY: Final = Entry(
    version=1, host="dom0-a", key="web1", name="web1", guest_key=bytes(range(32)), rival_key=None, first_met=1.5, last_heard=2.0,
    agent="0.1.0", instance_id="i-1", generation_sent=3, digest_sent="a" * 32, generation_applied=3, generation_items=3,
    outcome=Outcome.APPLIED, reason=None, path="", result_detail="", milliseconds=12, items=[_ITEM], host_keys=[SSH_KEY],
    names=["web1.example.org"], certified=False, facts=messages.Facts("Debian"), reprovision=False,
)  # fmt: skip
#: A value, an owner and others, a watch's event, an error, part of a listing.
_ANSWERS: Final = (
    struct.pack("=IIII", 2, 1, 0, 5) + b"value",
    struct.pack("=IIII", 3, 2, 7, 6) + b"n0\0r7\0" + struct.pack("=IIII", 15, 0, 0, 11) + b"/libxl/7\0t\0",
    struct.pack("=IIII", 16, 3, 0, 7) + b"ENOENT\0" + struct.pack("=IIII", 22, 4, 0, 8) + b"12\0a\0b\0\0",
)


def _right_sum(data: bytes) -> bytes:
    body = data[:-9]
    return b"%b %08x" % (body, crc32(body))


def _read_lines(data: bytes) -> list[bytes]:
    """What a reader finds must not depend on where the stream is cut."""
    whole, cut = LineReader(), LineReader()
    found = whole.feed(data)
    middle = len(data) // 2
    again = cut.feed(data[:middle]) + cut.feed(data[middle:])
    if found != again or whole.overlong != cut.overlong:
        raise AssertionError("a cut changed which lines were found")
    return found


def _read_answers(data: bytes) -> None:
    """What xenstored sends, and each payload as any answer that it could be."""
    reader = wire.MessageReader()
    for message in reader.feed(data[: len(data) // 2]) + reader.feed(data[len(data) // 2 :]):
        for parse in (wire.event, wire.error_word, wire.permissions, wire.number, wire.part, wire.answer):
            with suppress(Garbled):
                parse(message.payload)
        wire.strings(message.payload)


def _remake_line(data: bytes) -> None:
    parsed = line.parse(data)
    head = line.header(parsed.direction, parsed.host, parsed.guest, parsed.sequence, parsed.acknowledgement)
    if line.finish(head, parsed.payload) != data.removesuffix(b"\r") + b"\n":
        raise AssertionError("a line that is not what its parts make")


def _rewrite_bundle(data: bytes) -> None:
    written = vmstate_stream.encode(vmstate_stream.decode(data))
    if written + bytes(len(data) - len(written)) != data:
        raise AssertionError("a bundle that is not what its parts make")


def _rewrite_entry(data: bytes) -> None:
    if ledger_entry.encode(ledger_entry.decode(data)) != data:
        raise AssertionError("an entry with two forms")


def _resend_document(data: bytes) -> None:
    parsed = document.parse(data)
    sent = document.parse(parsed.encode())
    if sent.encode() != parsed.encode() or sent.digest() != parsed.digest():
        raise AssertionError("a document that is another after it was sent")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


PARSERS: Final = (
    Parser("lines in a stream", _read_lines, (), (b"one\n\ntwo\r\n", b"x" * 1899 + b"\n", b"x" * 4000 + b"\nlast\n")),
    Parser(
        "line",
        _remake_line,
        (PeerError,),
        tuple(
            line.finish(line.header(b">", b"HOSTHOST", b"GUESTGST", 26, 7), payload)[:-1]
            for payload in (b"", b"x", b"payload" * 9)
        ),
        _right_sum,
    ),
    Parser(
        "host's greeting",
        HostGreeting.decode,
        (PeerError,),
        tuple(HostGreeting(b"org.x.1", bytes(16), bytes(32), sealed, bytes(32)).encode() for sealed in (None, _CERTIFICATE)),
    ),
    Parser(
        "guest's greeting",
        GuestGreeting.decode,
        (PeerError,),
        (GuestGreeting(None, bytes(120)).encode(), *(GuestGreeting(refusal, bytes(16)).encode() for refusal in Refusal)),
    ),
    Parser("certificate", lambda data: Certificate.decode(bytes(32), data), (PeerError,), (_CERTIFICATE.encode(),)),
    Parser(
        "certificate's signature",
        lambda data: Certificate.decode(bytes(range(32)), data).verify(),
        (PeerError,),
        (_CERTIFICATE.encode(),),
    ),
    Parser(
        "message of the host's",
        messages.decode_from_host,
        (PeerError,),
        (
            messages.encode(Ping(7)),
            messages.encode(Provision(msgspec.Raw(DOCUMENTS[1]))),
            messages.encode(messages.Plan(msgspec.Raw(DOCUMENTS[0]))),
            messages.encode(messages.Confirm(3)),
            messages.encode(messages.Reject(3, "ssh does not answer")),
        ),
    ),
    Parser(
        "message of the guest's",
        messages.decode_from_guest,
        (PeerError,),
        (
            messages.encode(Pong(7)),
            messages.encode(Pong(8, messages.Facts("Debian", "6.1", "web1", "b", ["10.0.0.5/24"], [SSH_KEY]))),
            messages.encode(Progress(3, "network")),
            messages.encode(Result(3, Outcome.ROLLED_BACK, [_ITEM], [SSH_KEY], "item-failed", "users[0]", "why", 12)),
            messages.encode(messages.Planned(3, [messages.PlannedItem("users", steps=["+a", "-b"])], cut=True)),
            messages.encode(messages.Unconfirmed(3, 60, [messages.Check("gateway", False, "10.0.0.1 does not answer")])),
            messages.encode(messages.Report(3, [_ITEM])),
        ),
    ),
    Parser("hello", messages.decode_hello, (PeerError,), (messages.encode(messages.Hello("0.1.0", 3, "i-1", "a" * 32)),)),
    Parser("document", _resend_document, (BadDocument,), DOCUMENTS),
    Parser(
        "host's private key", lambda data: SshPrivateKey(armour("OPENSSH PRIVATE KEY", data)), (ValueError,), (PRIVATE_KEY,)
    ),
    Parser("host's certificate", lambda data: SshCertificate(host_certificate(data)), (ValueError,), (CERTIFICATE,)),
    Parser("authority", lambda data: PemCertificate(armour("CERTIFICATE", data)), (ValueError,), (AUTHORITY,)),
    Parser(
        "ssh key",
        lambda data: SshKey(_text(data)),
        (ValueError,),
        (SSH_KEY.encode(), f'from="10.0.0.0/8",no-pty {SSH_KEY}'.encode()),
    ),
    Parser("xenstored's answers", _read_answers, (Garbled,), _ANSWERS),
    Parser("bundle of VM state", _rewrite_bundle, (BadBundle,), (vmstate_stream.encode([Part("a", b"x"), Part("b", b"")]),)),
    Parser("VM's entry", _rewrite_entry, (BadEntry,), (ledger_entry.encode(_ENTRY),)),
    Parser(
        "registry",
        lambda data: registry.parse(_text(data)),
        (LocalError,),
        (b"    N: org.x.1\n    C: me\n    D: what\n       more\n",),
    ),
    Parser(
        "trusted keys",
        lambda data: trust.parse_trusted(_text(data)),
        (LocalError,),
        (
            f"# ours\n{trust.format_key(HOST_KEY_TYPE, bytes(32), 'dom0 a')}\n".encode(),
            f"{trust.REVOKED_TYPE} {trust.fingerprint(b'')} stolen\n".encode(),
        ),
    ),
)
