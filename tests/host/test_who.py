# SPDX-License-Identifier: Apache-2.0
"""Whom the audit trail names."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from host_agent import who

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = str(2**32 - 1)
OTHER = pwd.getpwall()[1]


@pytest.fixture
def login_uid(tmp_path: Path) -> Path:
    return tmp_path / "loginuid"


def test_who_logged_in_is_named_whatever_sudo_says(login_uid: Path) -> None:
    login_uid.write_text(f"{OTHER.pw_uid}\n")
    assert who.operator(login_uid, {"SUDO_UID": "0"}) == f"{OTHER.pw_name} (uid {OTHER.pw_uid})"


def test_without_a_login_who_called_sudo_is_named_where_only_root_could_say_so(login_uid: Path) -> None:
    login_uid.write_text(NOBODY)
    named = OTHER if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
    assert who.operator(login_uid, {"SUDO_UID": str(OTHER.pw_uid)}) == f"{named.pw_name} (uid {named.pw_uid})"


@pytest.mark.parametrize("sudo", ["", "-1", "1_0", "\u0661", "root"])
def test_without_either_it_is_whose_process_it_is(login_uid: Path, sudo: str) -> None:
    me = pwd.getpwuid(os.getuid())
    assert who.operator(login_uid, {"SUDO_UID": sudo}) == f"{me.pw_name} (uid {me.pw_uid})"


def test_a_user_whom_nobody_knows_is_named_by_number(login_uid: Path) -> None:
    login_uid.write_text("3999999999")
    assert who.operator(login_uid, {}) == "uid 3999999999"
