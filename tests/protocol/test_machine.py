# SPDX-License-Identifier: Apache-2.0
"""Time, language, authorities and files: the form that is kept, and what is refused."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.seeds import AUTHORITY, armour
from pv_channel.document import from_values
from pv_channel.errors import BadDocument
from pv_channel.machine import FileToWrite, Locale, NtpServer, Owner, PemCertificate, Permissions, Timezone
from tests.protocol.ssh_keys import armoured, pem


def file(**fields: Any) -> FileToWrite:
    files = from_values({"instance-id": "i-1", "write_files": [{"path": "/etc/a", **fields}]}).write_files
    assert isinstance(files, list)
    return files[0]


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        (Timezone, "UTC", "UTC"),
        (Timezone, "Etc/GMT+5", "Etc/GMT+5"),
        (Timezone, "America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        (Locale, "C", "C"),
        (Locale, "C.UTF-8", "C.UTF-8"),
        (Locale, "de_AT.UTF-8", "de_AT.UTF-8"),
        (Locale, "ca_ES.UTF-8@valencia", "ca_ES.UTF-8@valencia"),
        (NtpServer, "FD00::0:1", "fd00::1"),
        (NtpServer, "0.pool.ntp.org", "0.pool.ntp.org"),
        (NtpServer, "10.0.0.1", "10.0.0.1"),
        (Owner, "ada", "ada"),
        (Owner, "ada:adm", "ada:adm"),
        (Permissions, "644", "0644"),
        (Permissions, "0644", "0644"),
        (Permissions, "00644", "0644"),
        (Permissions, "4755", "4755"),
    ],
)
def test_a_good_value_is_kept_in_one_form(kind: Any, text: str, kept: str) -> None:
    assert kind(text) == kept
    assert kind(kind(text)) == kept


@pytest.mark.parametrize("kind", [Timezone, Locale, NtpServer, Owner, Permissions])
@pytest.mark.parametrize("text", ["", " ", "/", "a/../b", "a b", "a\n", "x;y", "$(id)", "-x", "é", "x" * 99_999, "\x1b[1m", "٣"])
def test_hostile_text_is_refused_in_a_few_printable_words(kind: Any, text: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        kind(text)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["10.0.0.300", "10.0.0", "1", "fd00::g", "127.0.0.1", "224.0.0.1", "fd00::1%eth0"])
def test_a_time_server_that_is_almost_an_address_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no address that one host has"):
        NtpServer(text)


def test_an_owner_and_a_mode_know_their_parts() -> None:
    assert (Owner("ada:adm").user, Owner("ada:adm").group, Owner("ada").group) == ("ada", "adm", "")
    assert (Permissions("644").mode, Permissions("4755").mode) == (0o644, 0o4755)


@given(st.binary(max_size=60))
def test_a_file_s_bytes_are_those_of_its_base64_however_it_is_folded(data: bytes) -> None:
    text = b64encode(data).decode()
    folded = "\n ".join(text[at : at + 5] for at in range(0, len(text), 5))
    assert file(content=text, encoding="b64").data() == file(content=folded, encoding="base64").data() == data


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_file_s_text_is_kept_to_the_byte(text: str) -> None:
    assert file(content=text).data() == text.encode("utf-8")


@pytest.mark.parametrize(("mode", "secret"), [("0600", True), ("0640", True), ("0644", False), ("0604", False), ("0751", True)])
def test_a_file_that_others_may_not_read_is_secret(mode: str, secret: bool) -> None:
    assert file(permissions=mode).is_secret is secret


def test_a_file_that_is_gone_may_be_another_s_directory() -> None:
    paths = [{"path": "/etc/a", "absent": True}, {"path": "/etc/a/b/c"}, {"path": "/etc/a/b2"}]
    assert from_values({"instance-id": "i-1", "write_files": paths})
    for bad in ([{"path": "/etc/a/b"}, {"path": "/etc/a/b/c"}], [{"path": "/etc/a/b/c/d"}, {"path": "/etc/a"}]):
        with pytest.raises(BadDocument, match="as a file and as a directory"):
            from_values({"instance-id": "i-1", "write_files": bad})


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa256", "rsa2048"])
def test_an_authority_s_certificate_is_kept_in_one_form(kind: str) -> None:
    assert PemCertificate(pem(kind)) == pem(kind)
    assert PemCertificate("\n" + pem(kind).replace("\n", "\r\n") + "\n\n") == pem(kind)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        pem() * 2,
        pem() + armoured("ed25519"),
        armoured("ed25519") + pem(),
        armoured("ed25519"),
        "# our authority\n" + pem(),
        pem().replace("\n", " "),
        pem()[:-60],
        pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        pem().replace("MII", "MIé"),
        armour("CERTIFICATE", AUTHORITY.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020122"))),  # version 35
        "-----BEGIN CERTIFICATE-----\n" + "A" * 20_000 + "\n-----END CERTIFICATE-----\n",
    ],
)
def test_anything_beside_one_certificate_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected one certificate in PEM") as caught:
        PemCertificate(text)
    assert "\n" not in str(caught.value)
    assert "KEY" not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_whatsoever_make_a_certificate_raise_anything_but_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected one certificate"):
        PemCertificate(f"-----BEGIN CERTIFICATE-----\n{b64encode(data).decode()}\n-----END CERTIFICATE-----\n")


@given(st.integers(0, 600), st.binary(max_size=4), st.integers(0, 4))
def test_a_certificate_with_other_bytes_in_it_is_one_or_refused(at: int, put: bytes, cut: int) -> None:
    raw = b64decode("".join(pem().splitlines()[1:-1]))
    raw = raw[: at % len(raw)] + put + raw[at % len(raw) + cut :]
    try:
        kept = PemCertificate(f"-----BEGIN CERTIFICATE-----\n{b64encode(raw).decode()}\n-----END CERTIFICATE-----\n")
    except ValueError:
        return
    assert PemCertificate(kept) == kept
