# SPDX-License-Identifier: Apache-2.0
"""Users and groups: what each spelling of cloud-init's means, and what counts as said."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.accounts import MAX_GROUPS, MAX_SUDO_RULE, AbsolutePath, Date, Gecos, PasswordHash, User, members_by_group
from pv_channel.document import from_values
from pv_channel.errors import BadDocument
from tests.protocol.documents import HASH, KEYS


def user(**fields: Any) -> User:
    users = from_values({"instance-id": "i-1", "users": [{"name": "ada", **fields}]}).users
    assert isinstance(users, list)
    return users[0]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("adm,sudo", ["adm", "sudo"]), (" adm , sudo ,", ["adm", "sudo"]), ("", []), ([], []), (["adm"], ["adm"]), (None, None)],
)
def test_groups_are_a_list_or_names_with_commas(said: object, meant: list[str] | None) -> None:
    assert user(**({} if said is None else {"groups": said})).group_names == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (False, []),
        ([], []),
        ("ALL=(ALL) NOPASSWD:ALL", ["ALL=(ALL) NOPASSWD:ALL"]),
        (["ALL=(ALL) ALL", "ALL=(root) /bin/id"], ["ALL=(ALL) ALL", "ALL=(root) /bin/id"]),
        (None, None),
    ],
)
def test_sudo_is_false_a_rule_or_a_list_of_them(said: object, meant: list[str] | None) -> None:
    assert user(**({} if said is None else {"sudo": said})).sudo_rules == meant


@pytest.mark.parametrize("said", [True, 0, 1, None, "", " ", "ALL", {}, [False], [["ALL=ALL"]], "=" * 2 * MAX_SUDO_RULE, "é=ALL"])
def test_nothing_else_is_a_rule_for_sudo(said: object) -> None:
    with pytest.raises(BadDocument, match=r"users\[0\]"):
        user(sudo=said)


@pytest.mark.parametrize(
    ("fields", "only_keys"),
    [
        ({}, True),
        ({"ssh_authorized_keys": KEYS}, True),
        ({"system": False, "no_create_home": False, "absent": False}, True),
        ({"lock_passwd": False}, False),
        ({"sudo": False}, False),
        ({"groups": []}, False),
        ({"gecos": ""}, False),
        ({"system": True}, False),
        ({"uid": 1}, False),
    ],
)
def test_whoever_has_nothing_but_keys_is_known(fields: dict[str, Any], only_keys: bool) -> None:
    assert user(**fields).is_only_keys is only_keys


def test_who_is_absent_is_nothing_else() -> None:
    assert user(absent=True, system=False).absent
    every = {
        "uid": 1, "gecos": "", "primary_group": "adm", "groups": "", "homedir": "/a", "no_create_home": True, "shell": "/a",
        "system": True, "hashed_passwd": HASH, "lock_passwd": False, "expiredate": "2027-01-31", "sudo": False,
        "ssh_authorized_keys": [],
    }  # fmt: skip
    assert set(every) == {field.name for field in msgspec.structs.fields(User)} - {"name", "absent"}
    for name, value in every.items():
        assert user(**{name: value})
        with pytest.raises(BadDocument, match=f"'ada' is 'absent', and '{name}' says"):
            user(absent=True, **{name: value})


@pytest.mark.parametrize(
    "text",
    [
        HASH,
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$5$rounds=80000$wnsT7Yr92oJoP28r$cKhJImk5mfuSKV9b3mumNzlbstFUplKtQXXMo4G6Ep5",
        "$7$CU..../....2Q9obwLhin8qvQl6sisAO/$sc/HayWPdYKlqqPwRd0nFEYxjFX3M5kbmxtjZuTTTz4",
        "$gy$jCT$HM87v.7RwpQLba8fDjNSk1$VgqS2k.OZ9cPrXgxlXgAArmTNBTBRRUFMhrM0dHsiF2",
    ],
)
def test_a_hash_by_a_method_that_counts_is_taken_as_it_is(text: str) -> None:
    assert PasswordHash(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "!", "*", "x", "hunter2", "$6$salt$", "$1$saltsalt$" + "a" * 22, "$6$a b$" + "a" * 86, HASH + "\n", HASH + ":"],
)
def test_what_is_no_hash_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected a hash") as caught:
        PasswordHash(text)
    assert text.strip("!*x") == "" or text not in str(caught.value)


@given(st.dates(min_value=date(1970, 1, 1), max_value=date(2999, 12, 31)))
def test_a_day_is_counted_as_shadow_does(day: date) -> None:
    assert Date(day.isoformat()).days == (day - date(1970, 1, 1)).days


@given(st.integers(1900, 3100), st.integers(0, 13), st.integers(0, 32))
def test_a_day_is_one_of_the_calendar_s_or_refused(year: int, month: int, number: int) -> None:
    text = f"{year:04}-{month:02}-{number:02}"
    try:
        good = date.fromisoformat(text).year in range(1970, 3000)
    except ValueError:
        good = False
    if good:
        assert Date(text) == text
    else:
        with pytest.raises(ValueError, match="expected a day"):
            Date(text)


@pytest.mark.parametrize("text", ["/", "//", "/a//b", "/a/", "a", "/.", "/a/..", "/a/./b", "/a\n", "/$H", "/" + "a" * 299])
def test_a_path_is_absolute_and_whole(text: str) -> None:
    with pytest.raises(ValueError, match="expected an absolute path"):
        AbsolutePath(text)
    assert AbsolutePath("/a/..b/c.d/...") == "/a/..b/c.d/..."
    with pytest.raises(ValueError, match="at most 1024"):
        AbsolutePath("/a" * 513)


@given(st.text(max_size=30))
def test_a_full_name_keeps_a_line_of_passwd_one_line(text: str) -> None:
    try:
        name = Gecos(text)
    except ValueError:
        return
    assert f"ada:x:1:1:{name}:/home/ada:/bin/sh".count(":") == 6
    assert len(f"{name}x".splitlines()) == 1
    assert name.encode("utf-8").decode("utf-8") == text


def test_a_group_has_the_members_of_its_entry() -> None:
    assert members_by_group(["cats", {"dogs": ["ada", "bob"], "birds": []}]) == {  # type: ignore[list-item]  # names as they stand
        "cats": [],
        "dogs": ["ada", "bob"],
        "birds": [],
    }


def test_there_is_a_most_of_groups() -> None:
    names = [f"g{number}" for number in range(MAX_GROUPS + 1)]
    for good, count in ((True, MAX_GROUPS), (False, MAX_GROUPS + 1)):
        every: tuple[dict[str, Any], ...] = (
            {"groups": names[:count]},
            {"groups": [{name: [] for name in names[:count]}]},
            {"users": [{"name": "ada", "groups": names[:count]}]},
            {"users": [{"name": "ada", "groups": ",".join(names[:count])}]},
        )
        for values in every:
            if good:
                assert from_values({"instance-id": "i-1", **values})
            else:
                with pytest.raises(BadDocument, match="256"):
                    from_values({"instance-id": "i-1", **values})
