# SPDX-License-Identifier: Apache-2.0
"""Requests, certificates and keys that follow others: what an authority signs, what a host takes, and what a kill leaves."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
from binascii import a2b_base64, b2a_base64
from functools import partial
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from host_agent import keys
from host_agent.__main__ import main
from host_agent.authorities import key_lines, possession, request, rotation
from host_agent.errors import BadFile, HostError
from pv_channel.errors import LocalError, NotAuthenticated
from pv_channel.noise import KeyPair
from pv_channel.trust import Trust, Verdict, fingerprint, parse_trusted, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from host_agent.keys import Identity

SEED = bytes(range(32))
AUTHORITY = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()


class Dom0:
    """A host's state, and the fleet's authority, by the command line."""

    def __init__(self, top: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.top, self.state, self._capsys, self._monkeypatch = top, top / "state", capsys, monkeypatch
        self.fleet = top / "fleet.key"
        self.said = ""

    def keys(self, *words: str, given: str = "", status: int = 0) -> str:
        """What ``keys`` prints on standard output; what it says besides is in `said`."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        assert main(["keys", *words, "--state", str(self.state)]) == status, self._capsys.readouterr().err
        printed = self._capsys.readouterr()
        self.said = printed.err
        return printed.out

    def certified(self) -> Identity:
        """This host with a certificate of the fleet's authority."""
        self.keys("authority", str(self.fleet))
        asked = self.keys("request", "--authority", str(self.fleet.with_suffix(".pub")), "--label", "dom0-1")
        self.keys("install", "-", given=self.keys("sign", "-", "--authority", str(self.fleet), given=asked))
        return keys.existing(self.state)


@pytest.fixture
def dom0(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Dom0:
    return Dom0(tmp_path, capsys, monkeypatch)


def test_a_host_asks_the_authority_signs_the_host_takes_it_and_guests_of_the_fleet_believe_it(dom0: Dom0) -> None:
    identity = dom0.certified()
    assert identity.certificate is not None
    assert identity.certificate.label == "dom0-1"
    fleet = parse_trusted(dom0.fleet.with_suffix(".pub").read_text())
    assert fleet.judge(identity.key.public, identity.certificate) is Verdict.CERTIFIED
    assert {stat.S_IMODE(path.stat().st_mode) for path in dom0.state.iterdir()} == {0o600}


def test_show_prints_whom_to_pin_for_people_and_for_programs(dom0: Dom0) -> None:
    identity = dom0.certified()
    pinned = parse_trusted(dom0.keys("show"))
    assert identity.certificate is not None
    assert pinned == Trust(frozenset({identity.key.public}), frozenset({identity.certificate.authority}))
    dom0.keys("rotate")
    assert parse_trusted(dom0.keys("show")) == pinned
    shown = json.loads(dom0.keys("show", "--json"))
    assert shown["host"]["fingerprint"] == identity.fingerprint
    assert shown["host"]["certificate"]["authority-fingerprint"] == fingerprint(identity.certificate.authority)
    assert (shown["host"]["certificate"]["label"], shown["host"]["certificate"]["expires"]) == ("dom0-1", None)
    following = rotation.next_of(dom0.state)
    assert following is not None
    assert (shown["next"]["fingerprint"], shown["next"]["certificate"]) == (following.fingerprint, None)


def test_the_old_key_serves_until_the_next_one_s_certificate_is_installed(dom0: Dom0) -> None:
    old = dom0.certified()
    asked = dom0.keys("rotate", "--label", "dom0-1b")
    assert dom0.keys("rotate", "--label", "dom0-1b") == asked  # the same key, not a third
    assert keys.existing(dom0.state).same_as(old)
    certificate = dom0.keys("sign", "-", "--authority", str(dom0.fleet), given=asked)
    assert keys.existing(dom0.state).same_as(old)
    assert old.fingerprint in dom0.keys("install", "-", given=certificate)
    new = keys.existing(dom0.state)
    assert new.key.public != old.key.public
    assert new.certificate is not None
    assert new.certificate.label == "dom0-1b"
    assert rotation.next_of(dom0.state) is None
    assert [path.name for path in dom0.state.iterdir()] == ["host.key"]


def test_a_host_with_a_key_that_is_to_follow_takes_a_certificate_for_the_one_it_has(dom0: Dom0) -> None:
    dom0.certified()
    now = keys.existing(dom0.state)
    dom0.keys("rotate")
    data = key_lines.line("pv-host-certificate", sign(SEED, now.key.public, issued=1, label="again").encode())
    assert rotation.install(dom0.state, data, dom0.top / "x").before is None
    assert rotation.next_of(dom0.state) is not None
    renewed = keys.existing(dom0.state).certificate
    assert renewed is not None
    assert renewed.label == "again"


@pytest.mark.parametrize("given", ["", "x", "pv-host-certificate AAAA\n", "pv-host-x25519-private AAAA\n"])
def test_what_is_no_certificate_of_ours_changes_nothing(dom0: Dom0, given: str) -> None:
    before = dom0.certified()
    stranger = sign(SEED, bytes(32), issued=1, label="x").encode()
    for data in (given, key_lines.line("pv-host-certificate", stranger).decode()):
        for _ in range(2):  # without and with a next key
            dom0.keys("install", "-", given=data, status=1)
            assert keys.existing(dom0.state).same_as(before)
            dom0.keys("rotate")


def test_an_authority_signs_only_what_was_asked_of_it_by_who_holds_the_key(dom0: Dom0) -> None:
    dom0.certified()
    asked = dom0.keys("request")
    raw = a2b_base64(asked.split()[1])
    for at in range(len(raw)):
        spoilt = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        given = f"{request.REQUEST_TYPE} {b2a_base64(spoilt, newline=False).decode()}\n"
        assert dom0.keys("sign", "-", "--authority", str(dom0.fleet), given=given, status=1) == ""
    dom0.keys("authority", str(dom0.top / "other.key"))
    assert dom0.keys("sign", "-", "--authority", str(dom0.top / "other.key"), given=asked, status=1) == ""
    assert "is for the authority" in dom0.said


def test_the_fingerprint_that_was_compared_is_the_only_one_that_is_signed(dom0: Dom0) -> None:
    identity = dom0.certified()
    asked, fleet = dom0.keys("request"), str(dom0.fleet)
    assert f"--fingerprint {identity.fingerprint}" in dom0.said
    dom0.keys("sign", "-", "--authority", fleet, "--fingerprint", identity.fingerprint, given=asked)
    assert dom0.keys("sign", "-", "--authority", fleet, "--fingerprint", fingerprint(b""), given=asked, status=1) == ""
    assert identity.fingerprint in dom0.said


def test_the_authority_may_call_a_host_otherwise_than_it_asks(dom0: Dom0) -> None:
    identity = dom0.certified()
    signed = dom0.keys("sign", "-", "--authority", str(dom0.fleet), "--label", "rack 7", given=dom0.keys("request"))
    assert keys.certificate_for(identity.key.public, signed.encode(), dom0.top).label == "rack 7"
    for label in ("é", "x" * 65):
        dom0.keys("sign", "-", "--authority", str(dom0.fleet), "--label", label, given=dom0.keys("request"), status=1)


@pytest.mark.parametrize(
    "words",
    [
        ("request",), ("request", "--authority", "/missing"), ("request", "--authority", "STATE/host.key"),
        ("install", "/missing"),
        ("sign", "/missing", "--authority", "/missing"), ("rotate", "--finish"), ("rotate", "--authority", "/missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_why_and_quotes_no_key(dom0: Dom0, words: Sequence[str]) -> None:
    dom0.keys("init")
    private = (dom0.state / "host.key").read_text().split()[1]
    assert dom0.keys(*(word.replace("STATE", str(dom0.state)) for word in words), status=1) == ""
    assert dom0.said.startswith("pv-host-agent: ")
    assert private not in dom0.said
    assert rotation.next_of(dom0.state) is None


def test_without_a_key_there_is_nothing_to_rotate_or_to_certify(dom0: Dom0) -> None:
    for words in (("show",), ("rotate",), ("rotate", "--finish"), ("install", "-")):
        dom0.keys(*words, status=1)
        assert "keys init" in dom0.said


def test_a_certified_host_is_not_followed_by_a_key_without_certificate_unless_forced(dom0: Dom0) -> None:
    before = dom0.certified()
    dom0.keys("rotate")
    dom0.keys("rotate", "--finish", status=1)
    assert keys.existing(dom0.state).same_as(before)
    dom0.keys("rotate", "--finish", "--force")
    after = keys.existing(dom0.state)
    assert after.certificate is None
    assert after.key.public != before.key.public


def killed_after(calls: int, do: Callable[[], object]) -> bool:
    """Whether *do*, in a process of its own, was killed at its call number *calls* that changes a directory."""
    pid = os.fork()
    if pid == 0:
        left = [calls]

        def struck(name: str) -> None:
            real = getattr(os, name)

            def call(*args: object, **kwargs: object) -> object:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            setattr(os, name, call)

        try:
            for name in ("open", "rename", "replace", "link", "unlink", "fsync", "fchmod", "close"):
                struck(name)
            do()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_kill_while_one_key_follows_another_leaves_the_old_with_its_certificate_or_the_new_with_its(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    calls = 0
    while True:
        calls += 1
        key = keys.create_host_key(tmp_path, "", replace=True)
        old = rotation.install(tmp_path, certificate(key.public), tmp_path).identity
        following, _ = rotation.begin(tmp_path)
        new = keys.Identity(following.key, sign(SEED, following.key.public, issued=1, label="x"))
        if not killed_after(calls, partial(rotation.install, tmp_path, certificate(following.key.public), tmp_path)):
            break
        found = keys.existing(tmp_path)
        assert found.same_as(old) or found.same_as(new)
        expected = following if found.same_as(old) else None
        left = rotation.next_of(tmp_path)
        assert (left is None) == (expected is None)
        assert rotation.begin(tmp_path)[1] == (expected is None)
    assert calls > 4
    assert keys.existing(tmp_path).same_as(new)


def certificate(host_key: bytes) -> bytes:
    """As `keys sign` prints it."""
    return key_lines.line("pv-host-certificate", sign(SEED, host_key, issued=1, label="x").encode())


def test_an_ed25519_key_is_the_x25519_key_that_rfc_7748_maps_it_to() -> None:
    for seed in (SEED, bytes(32), b"\xff" * 32):
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        host = KeyPair.generate()
        proof = possession.prove(host, public, b"asked")
        possession.check(seed, public, host.public, b"asked", proof)
        for changed in ((public, KeyPair.generate().public, b"asked"), (public, host.public, b"other")):
            with pytest.raises(NotAuthenticated):
                possession.check(seed, *changed, proof)


@pytest.mark.parametrize("authority", [b"\x01" + bytes(31), bytes(32), b"\xff" * 32, (2**255 - 19 - 1).to_bytes(32, "little")])
def test_a_point_of_low_order_is_no_authority(authority: bytes) -> None:
    with pytest.raises((LocalError, BadFile)):
        request.ask(KeyPair.generate(), authority, "x")


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_request_or_a_bad_file(raw: bytes) -> None:
    from pathlib import Path

    for data in (raw, key_lines.line(request.REQUEST_TYPE, raw)):
        try:
            parsed = request.parse(data, Path("x"))
        except BadFile:
            continue
        with pytest.raises(BadFile):
            parsed.check(SEED, AUTHORITY)


def test_a_next_key_without_a_host_key_is_an_error_with_a_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(HostError, match=r"host\.key"):
        rotation.begin(tmp_path)
