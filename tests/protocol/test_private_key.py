# SPDX-License-Identifier: Apache-2.0
"""Host keys that come with a document: real ones are taken whole, and what is not one is refused without being repeated."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificateType,
    load_ssh_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.document import from_values
from pv_channel.errors import BadDocument
from pv_channel.machine import MAX_PRIVATE_KEY, SshCertificate, SshPrivateKey
from tests.protocol.ssh_keys import KINDS, armoured, certificate, key, public

BEGIN, END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"


def raw_of(text: str) -> bytes:
    return b64decode(text.replace(BEGIN, "").replace(END, ""))


def armour(raw: bytes) -> str:
    return f"{BEGIN}\n{b64encode(raw).decode()}\n{END}\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_openssh_s_tools_write_is_taken_with_its_public_half(kind: str) -> None:
    assert SshPrivateKey(armoured(kind)) == armoured(kind)
    assert SshPrivateKey.public_half(armoured(kind)) == public(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_kept_in_one_form(kind: str) -> None:
    one = SshPrivateKey(armoured(kind))
    assert SshPrivateKey(one) == one
    assert SshPrivateKey("\n " + one.replace("\n", "\r\n") + "\n\n") == one


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        BEGIN,
        f"{BEGIN}\n{END}\n",
        f"{BEGIN}\n%%%%\n{END}\n",
        armour(b""),
        armour(b"openssh-key-v1\0"),
        armoured("ed25519") * 2,
        "a word\n" + armoured("ed25519"),
        armoured("ed25519") + "a word",
        armoured("ed25519").replace(BEGIN, "-----BEGIN PRIVATE KEY-----"),
        armoured("ed25519").replace("\n", " "),
        armoured("ed25519")[:-40],
        armoured("ed25519") + "é",
        "x" * (MAX_PRIVATE_KEY + 1),
        key("ed25519").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        public("ed25519"),
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a private key") as caught:
        SshPrivateKey(text)
    assert str(caught.value).isascii()


def test_a_key_with_a_passphrase_is_refused() -> None:
    plain = raw_of(armoured("ed25519"))
    locked = plain.replace(b"\0\0\0\4none", b"\0\0\0\x0aaes256-ctr", 1).replace(b"\0\0\0\4none", b"\0\0\0\6bcrypt", 1)
    assert locked != plain
    with pytest.raises(ValueError, match="without a passphrase"):
        SshPrivateKey(armour(locked))


def test_an_rsa_key_that_sshd_would_not_use_is_refused() -> None:
    small = rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    with pytest.raises(ValueError, match="1024 bits; at least 2048"):
        SshPrivateKey(small)


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_half_that_belongs_to_another_public_one_is_refused(kind: str) -> None:
    mine, other = raw_of(armoured(kind, 1)), raw_of(armoured(kind, 2))
    blob, strange = (b64decode(public(kind, number).split(" ")[1]) for number in (1, 2))
    with pytest.raises(ValueError, match="expected a private key"):
        SshPrivateKey(armour(mine.replace(blob, strange, 1)))
    with pytest.raises(ValueError, match="expected a private key"):
        SshPrivateKey(armour(mine[: -len(mine) // 3] + other[-len(mine) // 3 :] if len(mine) == len(other) else mine[:-8]))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa256", "ecdsa521"])
def test_no_byte_of_a_key_can_change_without_its_being_refused_or_harmless(kind: str) -> None:
    raw = raw_of(armoured(kind))
    for at in range(len(raw)):
        changed = armour(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with suppress(ValueError):  # two equal check numbers, or the comment
            assert SshPrivateKey.public_half(changed) == public(kind)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["ed25519", "ecdsa384", "rsa2048"]), st.integers(0, 3000), st.binary(max_size=6), st.integers(0, 6))
def test_hostile_keys_raise_only_value_errors_and_what_is_taken_openssh_s_parser_takes(
    kind: str, at: int, put: bytes, cut: int
) -> None:
    raw = raw_of(armoured(kind))
    at %= len(raw)
    text = armour(raw[:at] + put + raw[at + cut :])
    try:
        kept = SshPrivateKey(text)
    except ValueError:
        return
    load_ssh_private_key(kept.encode(), None)


@given(st.text(max_size=100) | st.binary(max_size=100).map(armour))
def test_no_text_whatsoever_makes_a_key_raise_anything_but_a_value_error(text: str) -> None:
    for kind in (SshPrivateKey, SshCertificate):
        with pytest.raises(ValueError, match="expected"):
            kind(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_certificate_is_taken_with_the_key_that_it_is_for(kind: str) -> None:
    taken = SshCertificate(certificate(kind) + " web1\n")
    assert taken == certificate(kind) + " web1"
    assert taken.public_key == public(kind)
    assert SshCertificate(taken) == taken


@pytest.mark.parametrize(
    "line",
    [
        public("ed25519"),
        certificate("ed25519", purpose=SSHCertificateType.USER),
        certificate("ed25519").replace("ssh-ed25519-cert-v01", "ssh-rsa-cert-v01"),
        certificate("ed25519").split(" ")[1],
        certificate("ed25519") + "\n" + certificate("ed25519"),
        certificate("ed25519") + " \x1b[31m",
        "restrict " + certificate("ed25519"),
        certificate("ed25519") + " " + "x" * 20_000,
    ],
)
def test_what_is_no_host_certificate_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="expected a host certificate") as caught:
        SshCertificate(line)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isascii()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa256", "rsa2048"])
def test_a_certificate_with_any_byte_changed_is_refused(kind: str) -> None:
    name, blob = certificate(kind).split(" ")
    raw = b64decode(blob)
    for at in range(0, len(raw), 3):
        changed = raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]
        with pytest.raises(ValueError, match="expected a host certificate"):
            SshCertificate(f"{name} {b64encode(changed).decode()}")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa256", "rsa2048"])
def test_a_key_and_its_certificate_go_together(kind: str) -> None:
    name = kind.rstrip("0123456789") if kind != "ed25519" else kind
    both = {f"{name}_private": armoured(kind), f"{name}_certificate": certificate(kind)}
    assert from_values({"instance-id": "i-1", "ssh_keys": both})
    strange = {f"{name}_private": armoured(kind), f"{name}_certificate": certificate(kind, 1)}
    with pytest.raises(BadDocument, match=f"'{name}_certificate' is not for '{name}_private'"):
        from_values({"instance-id": "i-1", "ssh_keys": strange})
    other = "rsa" if name != "rsa" else "ecdsa"
    with pytest.raises(BadDocument, match=f"ssh_keys: '{other}_private' is a key of the type"):
        from_values({"instance-id": "i-1", "ssh_keys": {f"{other}_private": armoured(kind)}})
