# SPDX-License-Identifier: Apache-2.0
"""One line of authorized_keys (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"), checked whole: options, type, blob, size."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Final, NamedTuple

from pv_channel.text import printable
from pv_channel.values import Value

#: OpenSSH reads lines of this size; an RSA key of 16,384 bits with every option fits.
MAX_LINE_BYTES: Final = 8192
#: NIST SP 800-57 and OpenSSH's own RequiredRSASize of current distributions.
MIN_RSA_BITS: Final = 2048

_CURVES: Final = {
    "ecdsa-sha2-nistp256": ("nistp256", 65),
    "ecdsa-sha2-nistp384": ("nistp384", 97),
    "ecdsa-sha2-nistp521": ("nistp521", 133),
}
KEY_TYPES: Final = frozenset(
    {"ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", *_CURVES}
)

#: Options for what a key may do. ``environment`` is not among them: it may change what a login runs (sshd_config(5)).
FLAG_OPTIONS: Final = frozenset(
    {
        "restrict", "cert-authority", "no-touch-required", "verify-required",
        "no-agent-forwarding", "no-port-forwarding", "no-pty", "no-user-rc", "no-x11-forwarding",
    }
)  # fmt: skip
VALUE_OPTIONS: Final = frozenset({"from", "command", "expiry-time", "principals"})

_OPTION: Final = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?', re.ASCII)
_EXPIRY: Final = re.compile(r"[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?Z?", re.ASCII)


class ParsedKey(NamedTuple):
    """A line in its parts. *blob* is the base64 text, which is what makes two lines the same key."""

    options: str
    kind: str
    blob: str
    comment: str


class SshKey(Value):
    """A line of authorized_keys that was found good; white space between its parts is made single blanks."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """The line with its parts checked; raise `ValueError` naming the part that is wrong."""
        if len(text) > MAX_LINE_BYTES:
            raise ValueError(f"expected a key line of at most {MAX_LINE_BYTES} bytes, got {len(text)}")
        if not text.isprintable() or not text.isascii():
            raise ValueError(f"expected printable ASCII on one line, got '{printable(text, 40)}'")
        parsed = _split(text.strip())
        _check_options(parsed.options)
        _check_blob(parsed.kind, parsed.blob)
        return " ".join(part for part in parsed if part)

    @property
    def parsed(self) -> ParsedKey:
        """The line in its parts."""
        return _split(self)


def _split(line: str) -> ParsedKey:
    first, _, rest = line.partition(" ")
    options = ""
    if first not in KEY_TYPES:
        end = _end_of_options(line)
        options, rest = line[:end], line[end:].lstrip()
        first, _, rest = rest.partition(" ")
    blob, _, comment = rest.lstrip().partition(" ")
    if first not in KEY_TYPES:
        raise ValueError(f"expected one of the key types {', '.join(sorted(KEY_TYPES))}, got '{printable(first or line, 40)}'")
    return ParsedKey(options, first, blob, comment.strip())


def _end_of_options(line: str) -> int:
    """Where the first blank outside double quotes stands; a backslash inside quotes takes the next character with it."""
    quoted = escaped = False
    for index, character in enumerate(line):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == " " and not quoted:
            return index
    if quoted:
        raise ValueError("expected a closing double quote in the key's options")
    return len(line)


def _check_options(options: str) -> None:
    position = 0
    while position < len(options):
        match = _OPTION.match(options, position)
        if match is None:
            raise ValueError(f"expected a key option, got '{printable(options[position:], 40)}'")
        name, value = match.group(1).lower(), match.group(2)
        if (value is None and name not in FLAG_OPTIONS) or (value is not None and name not in VALUE_OPTIONS):
            raise ValueError(f"the key option '{printable(match.group(), 40)}' is not allowed here")
        if name == "expiry-time" and not _EXPIRY.fullmatch(value or ""):
            raise ValueError("expected expiry-time=\"YYYYMMDD[HHMM[SS]]\"")
        position = match.end()
        if position < len(options):
            if options[position] != "," or position + 1 == len(options):
                raise ValueError(f"expected a comma between key options, got '{printable(options[position:], 40)}'")
            position += 1


def _check_blob(kind: str, blob: str) -> None:
    try:
        raw = a2b_base64(blob.encode("ascii"), strict_mode=True)
    except (Base64Error, ValueError):
        raise ValueError(f"expected base64 behind the type {kind}, got '{printable(blob, 40)}'") from None
    fields = _fields(raw)
    if not fields or fields[0] != kind.encode("ascii"):
        inside = printable(fields[0], 40) if fields else "nothing"
        raise ValueError(f"the type outside the key is {kind}, the one inside it is '{inside}'")
    _check_numbers(kind, fields[1:])


def _fields(raw: bytes) -> list[bytes]:
    """The strings of an SSH blob (RFC 4251, section 5); an empty list where they do not fill it exactly."""
    fields: list[bytes] = []
    position = 0
    while position < len(raw):
        length = int.from_bytes(raw[position : position + 4], "big")
        field = raw[position + 4 : position + 4 + length]
        if len(raw) < position + 4 or len(field) != length or len(fields) == 8:
            return []
        fields.append(field)
        position += 4 + length
    return fields


def _check_numbers(kind: str, numbers: list[bytes]) -> None:
    if kind == "ssh-rsa":
        good = len(numbers) == 2 and len(numbers[0]) in range(1, 9)
        bits = int.from_bytes(numbers[1], "big").bit_length() if good else 0
        if good and bits < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of {bits} bits; at least {MIN_RSA_BITS} are needed")
    elif kind == "ssh-ed25519":
        good = [len(number) for number in numbers] == [32]
    elif kind == "sk-ssh-ed25519@openssh.com":
        good = len(numbers) == 2 and len(numbers[0]) == 32
    elif kind == "sk-ecdsa-sha2-nistp256@openssh.com":
        good = len(numbers) == 3 and numbers[0] == b"nistp256" and len(numbers[1]) == 65
    else:
        curve, size = _CURVES[kind]
        good = len(numbers) == 2 and numbers[0] == curve.encode("ascii") and len(numbers[1]) == size
    if not good:
        raise ValueError(f"the key is no whole {kind} key")
