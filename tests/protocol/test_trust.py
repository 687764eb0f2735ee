# SPDX-License-Identifier: Apache-2.0
"""Whom a guest believes: pins, authorities, first use; certificates and files of keys, good and bad."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.errors import LocalError, Malformed, NotAuthenticated, Revoked
from pv_channel.trust import (
    AUTHORITY_TYPE,
    GUEST_KEY_TYPE,
    HOST_KEY_TYPE,
    REVOKED_TYPE,
    Certificate,
    Trust,
    Verdict,
    fingerprint,
    format_key,
    parse_trusted,
    sign,
)
from tests.protocol.blocks import Case, read
from tests.protocol.ends import HOST_KEY, OTHER_HOST_KEY

(WRITTEN,) = read("certificates")
AUTHORITY = bytes([3]) * 32
HOST, OTHER = HOST_KEY.public, OTHER_HOST_KEY.public
CERTIFICATE = sign(AUTHORITY, HOST, issued=1_700_000_000, label="dom0-a")


def test_a_certificate_is_the_vector_s_bytes() -> None:
    certificate = Certificate.decode(WRITTEN.raw("host-key"), WRITTEN.raw("encoded"))
    assert certificate == CERTIFICATE
    assert (certificate.authority, certificate.signature) == (WRITTEN.raw("authority"), WRITTEN.raw("signature"))
    assert (certificate.issued, certificate.label) == (int(WRITTEN["issued"]), WRITTEN["label"])
    assert certificate.signed == WRITTEN.raw("signed")
    assert certificate.encode() == WRITTEN.raw("encoded")
    certificate.verify()


@pytest.mark.parametrize("case", read("certificates-bad"), ids=str)
def test_a_bad_certificate_is_refused(case: Case) -> None:
    if case["refused"] == "shape":
        with pytest.raises(Malformed):
            Certificate.decode(case.raw("host-key"), case.raw("encoded"))
    else:
        certificate = Certificate.decode(case.raw("host-key"), case.raw("encoded"))
        with pytest.raises(NotAuthenticated):
            certificate.verify()
        trust = Trust(authorities=frozenset({CERTIFICATE.authority, certificate.authority}))
        with pytest.raises(NotAuthenticated):
            trust.judge(certificate.host_key, certificate)


def test_a_certificate_cut_anywhere_is_malformed() -> None:
    encoded = CERTIFICATE.encode()
    for end in range(len(encoded)):
        with pytest.raises(Malformed):
            Certificate.decode(HOST, encoded[:end])


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_certificate_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        Certificate.decode(HOST, data)


def test_with_nothing_pinned_the_first_is_believed() -> None:
    assert Trust().judge(HOST, None) is Verdict.FIRST_USE


def test_a_pinned_key_is_believed_and_no_other() -> None:
    trust = Trust(frozenset({HOST}))
    assert trust.judge(HOST, None) is Verdict.PINNED
    for certificate in (None, sign(AUTHORITY, OTHER, issued=1, label="x")):
        with pytest.raises(NotAuthenticated):
            trust.judge(OTHER, certificate)


def test_with_an_authority_pinned_only_what_it_signed_is_believed() -> None:
    trust = Trust(authorities=frozenset({CERTIFICATE.authority}))
    assert trust.judge(HOST, CERTIFICATE) is Verdict.CERTIFIED
    for key, certificate in (
        (HOST, None),
        (OTHER, None),
        (OTHER, CERTIFICATE),
        (HOST, sign(bytes([4]) * 32, HOST, issued=1, label="x")),
    ):
        with pytest.raises(NotAuthenticated):
            trust.judge(key, certificate)


def test_a_refusal_shows_the_key_s_fingerprint() -> None:
    with pytest.raises(NotAuthenticated, match=fingerprint(OTHER)):
        Trust(frozenset({HOST})).judge(OTHER, None)


def test_a_fingerprint_is_forty_digits_in_groups() -> None:
    assert fingerprint(b"") == "SHA256:e3b0c442-98fc1c14-9afbf4c8-996fb924-27ae41e4"


@pytest.mark.parametrize("label", ["", "x" * 65, "a\nb", "\x1b[31m", "é"])
def test_a_label_that_people_cannot_read_is_not_signed(label: str) -> None:
    with pytest.raises(LocalError):
        sign(AUTHORITY, HOST, issued=1, label=label)


@pytest.mark.parametrize(("key", "issued"), [(b"x", 1), (HOST, -1), (HOST, 2**64)])
def test_a_key_or_date_that_is_none_is_not_signed(key: bytes, issued: int) -> None:
    with pytest.raises(LocalError):
        sign(AUTHORITY, key, issued=issued, label="x")


def test_a_file_of_trusted_keys_is_read_as_it_was_written() -> None:
    lines = ["# ours", "", format_key(HOST_KEY_TYPE, HOST, "dom0 a"), "  " + format_key(AUTHORITY_TYPE, CERTIFICATE.authority)]
    for end in ("\n", "\r\n"):
        assert parse_trusted(end.join(lines)) == Trust(frozenset({HOST}), frozenset({CERTIFICATE.authority}))
    assert parse_trusted("") == Trust()


GOOD_LINE = format_key(HOST_KEY_TYPE, HOST)
BAD_LINES = [
    "x", HOST_KEY_TYPE, f"{HOST_KEY_TYPE} !", GOOD_LINE[:-4], GOOD_LINE[:-1], GOOD_LINE.replace(HOST_KEY_TYPE, "ssh-ed25519"),
    GOOD_LINE.replace(HOST_KEY_TYPE, GUEST_KEY_TYPE), f"{HOST_KEY_TYPE} AAAA", f"{HOST_KEY_TYPE} é", "\x1b[2J",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_that_pins_nothing_is_a_local_error_that_names_it(line: str) -> None:
    with pytest.raises(LocalError, match="line 2: expected"):
        parse_trusted(f"{GOOD_LINE}\n{line}\n")


@given(st.text(max_size=200))
def test_no_text_makes_anything_but_trust_or_a_local_error(text: str) -> None:
    with suppress(LocalError):
        parse_trusted(text)


def revoked(*keys: bytes) -> Trust:
    """A trust that revokes *keys* and pins nothing."""
    return Trust(revoked=frozenset(fingerprint(key) for key in keys))


def test_a_revoked_key_is_believed_neither_where_it_is_pinned_nor_where_it_is_signed_for_nor_as_the_first() -> None:
    for trust in (Trust(frozenset({HOST})), Trust(authorities=frozenset({CERTIFICATE.authority})), Trust()):
        trust.judge(HOST, CERTIFICATE)
        with pytest.raises(Revoked) as caught:
            (trust | revoked(HOST)).judge(HOST, CERTIFICATE)
        assert caught.value.key == HOST
        assert fingerprint(HOST) in str(caught.value)


def test_a_revoked_authority_signs_for_nobody_and_a_host_that_is_pinned_itself_is_believed_still() -> None:
    trust = Trust(authorities=frozenset({CERTIFICATE.authority})) | revoked(CERTIFICATE.authority)
    with pytest.raises(Revoked) as caught:
        trust.judge(HOST, CERTIFICATE)
    assert caught.value.key == CERTIFICATE.authority
    assert (trust | Trust(frozenset({HOST}))).judge(HOST, CERTIFICATE) is Verdict.PINNED


def test_where_all_that_is_pinned_is_revoked_nobody_is_believed_and_never_the_first() -> None:
    trust = Trust(frozenset({HOST}), frozenset({CERTIFICATE.authority})) | revoked(HOST, CERTIFICATE.authority)
    assert trust.believed == frozenset()
    for key, certificate in ((HOST, None), (OTHER, None), (OTHER, sign(AUTHORITY, OTHER, issued=1, label="x"))):
        with pytest.raises(NotAuthenticated):
            trust.judge(key, certificate)


def test_two_trusts_together_pin_and_revoke_what_one_of_them_does() -> None:
    first, second = Trust(frozenset({HOST})) | revoked(b"x"), Trust(frozenset({OTHER}), frozenset({AUTHORITY}))
    assert first | second == second | first == Trust(frozenset({HOST, OTHER}), frozenset({AUTHORITY}), first.revoked)
    assert (first | second).believed == {HOST, OTHER, AUTHORITY}


def test_a_file_of_trusted_keys_may_revoke() -> None:
    text = f"{REVOKED_TYPE} {fingerprint(HOST)} dom0-3 was stolen\n  {REVOKED_TYPE} {fingerprint(OTHER)}\n"
    assert parse_trusted(text) == revoked(HOST, OTHER)


@pytest.mark.parametrize("rest", ["", "x", fingerprint(HOST).upper(), fingerprint(HOST)[:-1], fingerprint(HOST) + "0"])
def test_a_revocation_of_no_fingerprint_is_an_error_and_not_passed_over(rest: str) -> None:
    with pytest.raises(LocalError, match="line 1: expected"):
        parse_trusted(f"{REVOKED_TYPE} {rest}\n")
