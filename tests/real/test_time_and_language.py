# SPDX-License-Identifier: Apache-2.0
"""Debian's own programs, in a Debian of their own: authorities that openssl believes, locales that are found, zones."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent import command
from guest_agent.provision import Provisioner
from guest_agent.system import System
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import FakeKernel, document, no_progress
from tests.guest.test_actions_time_and_language import certificate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def inside(debian: Path, *argv: str) -> str:
    """What a program of that Debian prints."""
    done = subprocess.run(["chroot", str(debian), *argv], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def system(debian: Path, tmp_path: Path) -> System:
    """That Debian as a running machine, whose programs run inside it."""

    def run(argv: Sequence[str], *, given: bytes = b"") -> command.Completed:
        return command.run(["chroot", str(debian), *argv], given=given)

    kernel = FakeKernel(tmp_path / "name")
    kernel.set_hostname("template")
    return System(debian, run=run, live=True, kernel=kernel)


def give(system: System, generation: int, **fields: Any) -> ItemResult:
    """The one item's result; the instance is not news, so that nothing is renewed."""
    result = Provisioner(system, "0").provision(document(generation, **fields), None, no_progress)
    return next(item for item in result.items if item.item != "identity")


def test_openssl_believes_an_authority_while_the_document_names_it_and_no_longer(debian: Path, system: System) -> None:
    first, second = certificate("pv first"), certificate("pv second")
    (debian / "root/first.pem").write_text(first)
    where = ("-CAfile", "/etc/ssl/certs/ca-certificates.crt", "-CApath", "/etc/ssl/certs")
    verify = ("openssl", "verify", *where, "/root/first.pem")
    certs = debian / "etc/ssl/certs"
    before = sorted(path.name for path in certs.iterdir())
    bundle = (debian / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert "OK" not in inside(debian, *verify)
    assert give(system, 1, ca_certs={"trusted": [first, second]}).outcome is Outcome.APPLIED
    assert inside(debian, *verify) == "/root/first.pem: OK\n"
    assert give(system, 2, ca_certs={"trusted": [second]}).outcome is Outcome.APPLIED
    assert "OK" not in inside(debian, *verify)
    assert give(system, 3, ca_certs={"trusted": []}).outcome is Outcome.APPLIED
    assert sorted(path.name for path in (debian / "etc/ssl/certs").iterdir()) == before
    assert (debian / "etc/ssl/certs/ca-certificates.crt").read_text() == bundle


def test_a_locale_that_was_missing_is_there_for_every_program(debian: Path, system: System) -> None:
    alias = debian / "usr/share/locale/locale.alias"  # the tree is without what nobody reads, and localedef reads this
    alias.parent.mkdir(parents=True, exist_ok=True)
    alias.touch()
    show = ("env", "LC_ALL=de_AT.UTF-8", "locale", "-k", "day")
    assert "Montag" not in inside(debian, *show)
    item = give(system, 1, locale="de_AT.UTF-8")
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "de_AT.UTF-8, made anew"), item
    assert "Montag" in inside(debian, *show)
    assert (debian / "etc/default/locale").read_text().endswith("LANG=de_AT.UTF-8\n")
    assert give(system, 2, locale="de_AT.UTF-8").outcome is Outcome.UNCHANGED
    assert give(system, 3, locale="de_AT@euro").detail == "de_AT@euro, made anew"
    assert inside(debian, "env", "LC_ALL=de_AT@euro", "locale", "charmap") == "ISO-8859-15\n"


def test_date_goes_by_the_zone(debian: Path, system: System) -> None:
    assert give(system, 1, timezone="Europe/Vienna").outcome is Outcome.APPLIED
    assert inside(debian, "date", "-d", "@0", "+%H:%M %Z") == "01:00 CET\n"
    assert (debian / "etc/timezone").read_text() == "Europe/Vienna\n"
