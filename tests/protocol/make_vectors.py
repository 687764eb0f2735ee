# SPDX-License-Identifier: Apache-2.0
"""Write the vectors that our own code makes: `python -m tests.protocol.make_vectors`. The tests read the text, not this.

A difference in version control after a run is a change of the protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pv_channel import trust
from pv_channel.greeting import DETAIL_BYTES, GuestGreeting, HostGreeting, Refusal, prologue
from pv_channel.line import GUEST_SPEAKS, HOST_SPEAKS, NO_SESSION, finish, header, parse
from pv_channel.messages import ItemResult, Outcome, Ping, Pong, Progress, Result
from tests.protocol.blocks import VECTORS
from tests.protocol.ends import CHANNEL, GUEST_KEY, HELLO, HOST_KEY, PROVISION, UUID, Pair, make_guest, make_host

if TYPE_CHECKING:
    from pv_channel.session import Guest, Host

LICENCE: Final = "# SPDX-License-Identifier: Apache-2.0\n"
AUTHORITY_PRIVATE: Final = bytes([3]) * 32
ISSUED: Final = 1_700_000_000
RESULT: Final = Result(1, Outcome.APPLIED, [ItemResult("hostname", Outcome.APPLIED)], ["ssh-ed25519 AAAA"], milliseconds=12)


def block(case: str, **fields: str | bytes) -> str:
    """One case; bytes are written in hexadecimal."""
    lines = [f"case: {case}"]
    for name, value in fields.items():
        key = name.replace("_", "-")
        lines.append(f"{key}-hex: {value.hex()}".rstrip() if isinstance(value, bytes) else f"{key}: {value}".rstrip())
    return "\n".join(lines) + "\n"


def write(name: str, remark: str, cases: list[str]) -> None:
    """vectors/*name*.txt: a remark and the cases."""
    remarks = "".join(f"# {line}\n" for line in remark.splitlines())
    (VECTORS / f"{name}.txt").write_text(LICENCE + remarks + "\n" + "\n".join(cases), "ascii")


def _line_case(case: str, raw: bytes) -> str:
    line = parse(raw)
    return block(
        case,
        line=raw.decode("ascii"),
        direction=line.direction.decode("ascii"),
        host=line.host.decode("ascii"),
        guest=line.guest.decode("ascii"),
        sequence=f"{line.sequence:x}",
        acknowledgement=f"{line.acknowledgement:x}",
        payload=line.payload,
    )


def lines() -> list[str]:
    """Lines that parse."""
    ids = (b"HOSTHOST", b"GUESTGST")
    made = [
        ("a sealed line of the host's", finish(header(HOST_SPEAKS, *ids, 0x1A, 7), b"payload")),
        ("a line of the guest's that only acknowledges", finish(header(GUEST_SPEAKS, *ids, 2, 0xFFFF_FFFF), b"")),
        ("a greeting to a guest not heard yet", finish(header(HOST_SPEAKS, ids[0], NO_SESSION, 0, 0), b"\x01")),
        ("the highest numbers, a payload without padding", finish(header(HOST_SPEAKS, *ids, 2**32 - 1, 2**32 - 1), b"abc")),
        (
            "every character of base64url in the ids",
            finish(header(GUEST_SPEAKS, b"_-09azAZ", b"ABCD-_yz", 1, 0), bytes(range(256))),
        ),
        ("the longest line", finish(header(HOST_SPEAKS, *ids, 1, 0), bytes(1398))),
    ]
    return [_line_case(case, raw[:-1]) for case, raw in made]


def _certificate() -> trust.Certificate:
    return trust.sign(AUTHORITY_PRIVATE, HOST_KEY.public, issued=ISSUED, label="dom0-a")


def certificates() -> list[str]:
    """A certificate in its parts."""
    made = _certificate()
    return [
        block(
            "dom0-a, signed by the authority whose private key is 03 times 32",
            authority_private=AUTHORITY_PRIVATE, authority=made.authority, host_key=made.host_key, issued=str(made.issued),
            label=made.label, signed=made.signed, signature=made.signature, encoded=made.encode(),
        )
    ]  # fmt: skip


def greetings() -> list[str]:
    """Both greetings, with and without what is optional."""
    message_1 = bytes(range(32))
    host = [("without a certificate", None), ("with a certificate", _certificate())]
    cases = [
        block(
            f"host, {case}", kind="host", channel=CHANNEL.decode("ascii"), uuid=UUID, host_key=HOST_KEY.public,
            message_1=message_1, certificate=b"" if certificate is None else certificate.encode(),
            payload=HostGreeting(CHANNEL, UUID, HOST_KEY.public, certificate, message_1).encode(),
        )
        for case, certificate in host
    ]  # fmt: skip
    answers: list[tuple[str, Refusal | None, bytes]] = [("an answer", None, bytes(range(112)))]
    answers += [(f"a refusal, {refusal.name.lower()}", refusal, bytes(range(DETAIL_BYTES))) for refusal in Refusal]
    for case, refusal, body in answers:
        number = "0" if refusal is None else str(refusal.value)
        cases.append(
            block(f"guest, {case}", kind="guest", refusal=number, body=body, payload=GuestGreeting(refusal, body).encode())
        )
    cases.append(
        block(
            "the prologue", kind="prologue", channel=CHANNEL.decode("ascii"), uuid=UUID, host="AAAAAAAA", guest="BBBBBBBB",
            payload=prologue(CHANNEL, UUID, b"AAAAAAAA", b"BBBBBBBB"),
        )
    )  # fmt: skip
    return cases


class Teller:
    """Runs the session of the transcript and writes down every line."""

    def __init__(self) -> None:
        self.cases: list[str] = []
        self.pair = Pair(make_host(), make_guest())

    def says(self, end: Host | Guest, plaintext: str) -> None:
        """*end* says what it has to say, the other hears it."""
        said = end.data_to_send()
        host_speaks = end is self.pair.host
        for number, raw in enumerate(said.strip(b"\n").split(b"\n")):
            line = parse(raw)
            self.cases.append(
                block(
                    f"{'host' if host_speaks else 'guest'} {line.sequence:x}.{len(self.cases)}",
                    line=raw.decode("ascii"), says=plaintext if number == 0 else "an acknowledgement",
                )
            )  # fmt: skip
        if host_speaks:
            self.pair.guest_heard += self.pair.guest.receive(said)
        else:
            self.pair.host_heard += self.pair.host.receive(said)


def transcript() -> list[str]:
    """A whole session with the fixed keys: greeting, answer, a document, progress, the result, a question."""
    teller = Teller()
    host, guest = teller.pair.host, teller.pair.guest
    host.greet()
    teller.says(host, "greeting")
    teller.says(guest, "answer")
    host.send(PROVISION)
    teller.says(host, "+provision")
    guest.send(Progress(1, "hostname"))
    teller.says(guest, "+progress")
    guest.send(RESULT)
    teller.says(guest, "+result")
    host.send(Ping(1))
    teller.says(host, "+ping")
    guest.send(Pong(1))
    teller.says(guest, "+pong")
    keys = block(
        "keys",
        host_private=HOST_KEY.private_bytes(), guest_private=GUEST_KEY.private_bytes(),
        host_ephemeral=(0x100000).to_bytes(32, "big"), guest_ephemeral=(0x10000000).to_bytes(32, "big"),
        host_session=(0x100000).to_bytes(6, "big"), guest_session=(0x10000000).to_bytes(6, "big"),
        channel=CHANNEL.decode("ascii"), uuid=UUID,
    )  # fmt: skip
    return [keys, *teller.cases]


def main() -> None:
    """Write the files."""
    write("lines-good", "Lines that parse, without their newline, and their parts. Numbers are hexadecimal.", lines())
    write("certificates", 'The bytes of PROTOCOL.md, "Certificates".', certificates())
    write("greetings", 'The payloads of PROTOCOL.md, "Greetings"; and the handshake\'s prologue.', greetings())
    write(
        "transcript",
        f"A whole session, line by line, from fixed keys. The guest's agent is {HELLO.agent} and has no generation in force.\n"
        "Every session id and ephemeral key is the first that the test's counters give.",
        transcript(),
    )


if __name__ == "__main__":
    main()
