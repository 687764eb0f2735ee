# SPDX-License-Identifier: Apache-2.0
"""The handshake against the published vectors, against another implementation, and against wrong keys."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.errors import LocalError, NotAuthenticated
from pv_channel.noise import MAX_NONCE, MESSAGE_2_OVERHEAD, PROTOCOL_NAME, CipherState, Initiator, KeyPair, Responder, hkdf
from tests.protocol.blocks import read

if TYPE_CHECKING:
    from pv_channel.noise import CipherState as Cipher

with warnings.catch_warnings():
    # noiseprotocol imports names that cryptography has deprecated; it is the oracle here and never shipped.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped,unused-ignore]  # it ships no types

keys = st.binary(min_size=32, max_size=32)
few = settings(max_examples=40, deadline=None)


def alternate(first: Cipher, second: Cipher, messages: list[tuple[bytes, bytes]]) -> None:
    """The transport messages of a vector, the initiator's first."""
    for number, (payload, ciphertext) in enumerate(messages):
        sending = (first, second)[number % 2]
        assert sending.encrypt_with_ad(b"", payload) == ciphertext


@pytest.mark.parametrize("case", read("noise-kx-cacophony"), ids=str)
def test_both_roles_agree_with_the_published_vector(case: Any) -> None:
    prologue = case.raw("prologue")
    names = ("init-static", "init-ephemeral", "resp-static", "resp-ephemeral")
    s, e, rs, re = (KeyPair.from_private(case.raw(name)) for name in names)
    assert s.public == case.raw("init-public")
    initiator = Initiator(prologue, s, e)
    responder = Responder(prologue, rs, s.public, lambda: re)
    assert initiator.write_message_1(case.raw("payload-1")) == case.raw("ciphertext-1")
    assert responder.read_message_1(case.raw("ciphertext-1")) == case.raw("payload-1")
    assert responder.write_message_2(case.raw("payload-2")) == case.raw("ciphertext-2")
    assert initiator.read_message_2(case.raw("ciphertext-2")) == (rs.public, case.raw("payload-2"))
    assert initiator.handshake_hash == responder.handshake_hash == case.raw("handshake-hash")
    messages = [(case.raw(f"payload-{number}"), case.raw(f"ciphertext-{number}")) for number in range(3, 7)]
    host_sends, _ = initiator.split()
    guest_sends, _ = responder.split()
    alternate(host_sends, guest_sends, messages)
    guest_receives, host_receives = responder.split()[1], initiator.split()[1]
    for number, (payload, ciphertext) in enumerate(messages):
        assert (guest_receives, host_receives)[number % 2].decrypt_with_ad(b"", ciphertext) == payload


def oracle(prologue: bytes, ours: KeyPair, ephemeral: KeyPair, *, initiator: bool, rs: bytes | None = None) -> Any:
    """noiseprotocol's end of a KX handshake."""
    connection = NoiseConnection.from_name(PROTOCOL_NAME)
    (connection.set_as_initiator if initiator else connection.set_as_responder)()
    connection.set_prologue(prologue)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, ours.private_bytes())
    connection.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral.private_bytes())
    if rs is not None:
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, rs)
    with warnings.catch_warnings():
        # It warns of the fixed ephemeral keys that a comparison needs.
        warnings.filterwarnings("ignore", message="One of ephemeral keypairs is already set", category=UserWarning)
        connection.start_handshake()
    return connection


@few
@given(keys, keys, keys, keys, st.binary(max_size=90), st.binary(max_size=60))
def test_our_initiator_agrees_with_another_implementation_s_responder(
    hs: bytes, he: bytes, gs: bytes, ge: bytes, prologue: bytes, payload: bytes
) -> None:
    s, e, rs, re = map(KeyPair.from_private, (hs, he, gs, ge))
    other = oracle(prologue, rs, re, initiator=False, rs=s.public)
    ours = Initiator(prologue, s, e)
    assert other.read_message(ours.write_message_1(payload)) == payload
    assert ours.read_message_2(bytes(other.write_message(payload))) == (rs.public, payload)
    assert ours.handshake_hash == other.get_handshake_hash()
    sending, receiving = ours.split()
    for text in (payload, b"", b"again"):
        assert other.decrypt(sending.encrypt_with_ad(b"", text)) == text
        assert receiving.decrypt_with_ad(b"", bytes(other.encrypt(text))) == text


@few
@given(keys, keys, keys, keys, st.binary(max_size=90), st.binary(max_size=60))
def test_our_responder_agrees_with_another_implementation_s_initiator(
    hs: bytes, he: bytes, gs: bytes, ge: bytes, prologue: bytes, payload: bytes
) -> None:
    s, e, rs, re = map(KeyPair.from_private, (hs, he, gs, ge))
    other = oracle(prologue, s, e, initiator=True)
    ours = Responder(prologue, rs, s.public, lambda: re)
    assert ours.read_message_1(bytes(other.write_message(payload))) == payload
    assert other.read_message(ours.write_message_2(payload)) == payload
    assert ours.handshake_hash == other.get_handshake_hash()
    sending, receiving = ours.split()
    for text in (payload, b"", b"again"):
        assert other.decrypt(sending.encrypt_with_ad(b"", text)) == text
        assert receiving.decrypt_with_ad(b"", bytes(other.encrypt(text))) == text


def shake(initiator: Initiator, responder: Responder) -> tuple[bytes, bytes]:
    responder.read_message_1(initiator.write_message_1())
    return initiator.read_message_2(responder.write_message_2(b"hello"))


def test_a_prologue_that_differs_in_one_bit_completes_no_handshake() -> None:
    s, e, rs = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()
    with pytest.raises(NotAuthenticated):
        shake(Initiator(b"\x00", s, e), Responder(b"\x01", rs, s.public))


def test_an_initiator_without_the_private_key_it_names_completes_no_handshake() -> None:
    named, held = KeyPair.generate(), KeyPair.generate()
    with pytest.raises(NotAuthenticated):
        shake(Initiator(b"", held, KeyPair.generate()), Responder(b"", KeyPair.generate(), named.public))


@pytest.mark.parametrize("position", range(0, MESSAGE_2_OVERHEAD + 5, 3))
def test_message_2_with_one_byte_changed_completes_no_handshake(position: int) -> None:
    s, rs = KeyPair.generate(), KeyPair.generate()
    initiator, responder = Initiator(b"", s, KeyPair.generate()), Responder(b"", rs, s.public)
    responder.read_message_1(initiator.write_message_1())
    message = bytearray(responder.write_message_2(b"hello"))
    message[position] ^= 1
    with pytest.raises(NotAuthenticated):
        initiator.read_message_2(bytes(message))


@pytest.mark.parametrize("case", read("low-order-points"), ids=str)
def test_a_point_of_low_order_is_refused_wherever_a_peer_may_send_one(case: Any) -> None:
    point, good = case.raw("point"), KeyPair.generate()
    with pytest.raises(NotAuthenticated):
        good.dh(point)
    as_ephemeral = Responder(b"", good, KeyPair.generate().public)
    as_ephemeral.read_message_1(point)
    with pytest.raises(NotAuthenticated):
        as_ephemeral.write_message_2()
    as_static = Responder(b"", good, point)
    as_static.read_message_1(KeyPair.generate().public)
    with pytest.raises(NotAuthenticated):
        as_static.write_message_2()
    with pytest.raises(NotAuthenticated):
        Initiator(b"", good, KeyPair.generate()).read_message_2(point + bytes(MESSAGE_2_OVERHEAD))


@pytest.mark.parametrize("case", read("x25519-rfc7748"), ids=str)
def test_dh_agrees_with_rfc_7748(case: Any) -> None:
    alice, bob = KeyPair.from_private(case.raw("alice-private")), KeyPair.from_private(case.raw("bob-private"))
    assert (alice.public, bob.public) == (case.raw("alice-public"), case.raw("bob-public"))
    assert alice.dh(bob.public) == bob.dh(alice.public) == case.raw("shared")


@pytest.mark.parametrize("case", read("hkdf-rfc5869"), ids=str)
def test_hkdf_agrees_with_rfc_5869_where_info_is_empty(case: Any) -> None:
    first, second = hkdf(case.raw("salt"), case.raw("ikm"))
    assert (first + second).startswith(case.raw("okm"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_private_key_of_another_length_is_a_local_error(length: int) -> None:
    with pytest.raises(LocalError, match="32 bytes"):
        KeyPair.from_private(bytes(length))


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_handshake_message_that_is_cut_short_is_refused(length: int) -> None:
    responder = Responder(b"", KeyPair.generate(), KeyPair.generate().public)
    with pytest.raises(NotAuthenticated):
        responder.read_message_1(bytes(length))
    initiator = Initiator(b"", KeyPair.generate(), KeyPair.generate())
    with pytest.raises(NotAuthenticated):
        initiator.read_message_2(bytes(MESSAGE_2_OVERHEAD - 1 - length))


def test_a_tag_that_does_not_verify_leaves_the_nonce_as_it_was() -> None:
    sending, receiving = CipherState(bytes(32)), CipherState(bytes(32))
    sealed = sending.encrypt_with_ad(b"ad", b"text")
    for wrong in (sealed[:-1], sealed + b"x", b"", bytes(len(sealed))):
        with pytest.raises(NotAuthenticated):
            receiving.decrypt_with_ad(b"ad", wrong)
    assert receiving.decrypt_with_ad(b"ad", sealed) == b"text"


def test_a_cipher_that_rests_goes_on_where_it_was() -> None:
    sending, receiving, unrested = (CipherState(bytes(range(32))) for _ in range(3))
    for number in range(5):
        sealed = sending.encrypt_with_ad(b"ad", b"%d" % number)
        assert sealed == unrested.encrypt_with_ad(b"ad", b"%d" % number)
        sending.rest()
        assert receiving.decrypt_with_ad(b"ad", sealed) == b"%d" % number
        receiving.rest()
        with pytest.raises(NotAuthenticated):
            receiving.decrypt_with_ad(b"ad", sealed)


def test_a_key_is_not_used_beyond_its_last_nonce() -> None:
    cipher = CipherState(bytes(32))
    cipher.n = MAX_NONCE
    with pytest.raises(LocalError, match="used up"):
        cipher.encrypt_with_ad(b"", b"")


def test_no_key_is_pickled_copied_or_shown() -> None:
    pair = KeyPair.from_private(bytes(range(32)))
    for holder in (pair, CipherState(bytes(32))):
        with pytest.raises(LocalError):
            pickle.dumps(holder)
        with pytest.raises(LocalError):
            copy.copy(holder)
    assert bytes(range(32)).hex() not in repr(pair)
    assert pair.public.hex() in repr(pair)
