# SPDX-License-Identifier: Apache-2.0
"""The two greetings' payloads, good and bad."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.errors import LocalError, Malformed
from pv_channel.greeting import GuestGreeting, HostGreeting, Refusal, channel_name, prologue, uuid_bytes, uuid_text
from pv_channel.line import MAX_LINE_BYTES, NO_SESSION, finish, header
from pv_channel.noise import MESSAGE_2_OVERHEAD
from pv_channel.trust import Certificate
from tests.protocol.blocks import Case, read

CASES = read("greetings")
BAD = read("greetings-bad")


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "host"], ids=str)
def test_a_host_s_greeting_is_its_parts_and_made_of_them_again(case: Case) -> None:
    greeting = HostGreeting.decode(case.raw("payload"))
    assert greeting.channel.decode() == case["channel"]
    assert (greeting.uuid, greeting.host_key, greeting.message_1) == (
        case.raw("uuid"),
        case.raw("host-key"),
        case.raw("message-1"),
    )
    sealed = case.raw("certificate")
    assert greeting.certificate == (Certificate.decode(greeting.host_key, sealed) if sealed else None)
    assert greeting.encode() == case.raw("payload")


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "guest"], ids=str)
def test_a_guest_s_answer_is_its_parts_and_made_of_them_again(case: Case) -> None:
    answer = GuestGreeting.decode(case.raw("payload"))
    assert (answer.refusal.value if answer.refusal else 0) == int(case["refusal"])
    assert answer.body == case.raw("body")
    assert answer.encode() == case.raw("payload")


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "prologue"], ids=str)
def test_the_prologue_binds_channel_vm_and_both_sessions(case: Case) -> None:
    ours = prologue(case["channel"].encode(), case.raw("uuid"), case["host"].encode(), case["guest"].encode())
    assert ours == case.raw("payload")
    others = [
        prologue(b"x", case.raw("uuid"), b"AAAAAAAA", b"BBBBBBBB"),
        prologue(case["channel"].encode(), bytes(16), b"AAAAAAAA", b"BBBBBBBB"),
        prologue(case["channel"].encode(), case.raw("uuid"), b"BBBBBBBB", b"BBBBBBBB"),
        prologue(case["channel"].encode(), case.raw("uuid"), b"AAAAAAAA", b"AAAAAAAA"),
    ]
    assert len({ours, *others}) == 5


@pytest.mark.parametrize("case", BAD, ids=str)
def test_what_is_no_greeting_is_malformed(case: Case) -> None:
    decode = HostGreeting.decode if case["kind"] == "host" else GuestGreeting.decode
    with pytest.raises(Malformed):
        decode(case.raw("payload"))


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "host"], ids=str)
def test_a_host_s_greeting_cut_anywhere_is_malformed_or_one_without_its_certificate(case: Case) -> None:
    payload = case.raw("payload")
    for end in range(len(payload)):
        if end == len(payload) - len(case.raw("certificate")):
            assert HostGreeting.decode(payload[:end]).certificate is None
        else:
            with pytest.raises(Malformed):
                HostGreeting.decode(payload[:end])


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "guest"], ids=str)
def test_a_guest_s_answer_cut_before_noise_could_tell_is_malformed(case: Case) -> None:
    payload = case.raw("payload")
    for end in range(min(len(payload), 2 + MESSAGE_2_OVERHEAD)):
        with pytest.raises(Malformed):
            GuestGreeting.decode(payload[:end])


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_but_a_greeting_or_malformed(data: bytes) -> None:
    for raw in (data, b"\x01" + data, b"\x01\x00" + data):
        for decode in (HostGreeting.decode, GuestGreeting.decode):
            with suppress(Malformed):
                decode(raw)


def test_the_longest_greeting_fits_a_line() -> None:
    certificate = Certificate(bytes(32), bytes(32), 2**64 - 1, "x" * 64, bytes(64))
    greeting = HostGreeting(b"c" * 128, bytes(16), bytes(32), certificate, bytes(32))
    assert len(finish(header(b">", NO_SESSION, NO_SESSION, 0, 2**32 - 1), greeting.encode())) < MAX_LINE_BYTES


@pytest.mark.parametrize("good", ["a", "org.pvchannel.config.1", "A-b_c.9", "a" * 128])
def test_a_channel_s_name_is_taken(good: str) -> None:
    assert channel_name(good) == good.encode()


@pytest.mark.parametrize("bad", ["", ".", "-a", "a/b", "a b", "a\n", "é", "a" * 129, "a\0", "٣"])
def test_what_is_no_channel_s_name_is_a_local_error(bad: str) -> None:
    with pytest.raises(LocalError):
        channel_name(bad)


def test_a_uuid_is_16_bytes_and_written_one_way() -> None:
    text = "00112233-4455-6677-8899-aabbccddeeff"
    assert uuid_text(uuid_bytes(text.upper() + "\n")) == text
    assert len(uuid_bytes(text)) == 16
    for bad in ("", "x", text[:-1], text.replace("-", ""), text + "0", "٣" * 36):
        with pytest.raises(LocalError):
            uuid_bytes(bad)


def test_there_are_four_refusals_with_these_numbers() -> None:
    assert {refusal.name: refusal.value for refusal in Refusal} == {"UUID": 1, "HOST_KEY": 2, "SESSION": 3, "REVOKED": 4}
