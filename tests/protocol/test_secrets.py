# SPDX-License-Identifier: Apache-2.0
"""A secret in the wrong place is refused without being repeated: hashes, private keys, wherever an operator may put them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.document import from_values
from pv_channel.errors import BadDocument
from tests.protocol.blocks import read
from tests.protocol.documents import HASH
from tests.protocol.ssh_keys import armoured

SECRETS = {
    "SHA-512": HASH,
    "SHA-256 with rounds": "$5$rounds=80000$wnsT7Yr92oJoP28r$cKhJImk5mfuSKV9b3mumNzlbstFUplKtQXXMo4G6Ep5",
    "yescrypt": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
    "bcrypt": "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
    "MD5": "$1$saltsalt$Ka2cTpUrRl1BI4AvuwHPk0",
    "a private key": armoured("ed25519"),
    "an RSA key": armoured("rsa2048"),
}
#: So many characters in a row of a secret are a part of it. What every private key begins with is none.
PART = 12
_SHARED = armoured("ed25519", 3)


def parts_of(secret: str) -> set[str]:
    return {secret[at : at + PART] for at in range(len(secret) - PART + 1)} - {
        _SHARED[at : at + PART] for at in range(len(_SHARED) - PART + 1)
    }


def places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in *values*."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(place for key, value in inside for place in places(value, (*path, key)))]


def put(values: Any, path: tuple[Any, ...], secret: Any, *, as_key: bool) -> Any:
    """*values* with *secret* at *path*: in a value's place, or as the name of a field."""
    if not path:
        return {secret: values} if as_key and not isinstance(values, dict) else {**values, secret: 1} if as_key else secret
    head, *rest = path
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[head] = put(values[head], tuple(rest), secret, as_key=as_key)
    return copy


GOOD: list[dict[str, Any]] = [json.loads(case["json"]) for case in read("documents-good")]


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(GOOD), st.sampled_from(sorted(SECRETS)), st.booleans(), st.sampled_from(["", "x", " "]), st.data())
def test_no_refusal_repeats_a_part_of_a_secret(
    values: dict[str, Any], name: str, as_key: bool, before: str, data: st.DataObject
) -> None:
    secret = SECRETS[name]
    path = data.draw(st.sampled_from(places(values)))
    try:
        from_values(put(values, path, before + secret, as_key=as_key))
    except BadDocument as exc:
        said = str(exc)
    else:
        return
    assert not [part for part in parts_of(secret) if part in said or part in said.replace("\\n", "\n")]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=list(SECRETS))
def test_every_field_of_a_document_refuses_a_secret_without_repeating_it(secret: str) -> None:
    refused = 0
    for values in GOOD:
        for path in places(values):
            for as_key in (False, True):
                try:
                    from_values(put(values, path, secret, as_key=as_key))
                except BadDocument as exc:
                    refused += 1
                    assert not any(part in str(exc) for part in parts_of(secret)), (path, str(exc))  # noqa: PT017  any of many
    assert refused > 200


def test_a_password_in_the_clear_is_not_repeated_where_a_hash_belongs() -> None:
    with pytest.raises(BadDocument) as caught:
        from_values({"instance-id": "i-1", "users": [{"name": "ada", "hashed_passwd": "hunter2"}]})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(BadDocument) as caught:
        from_values({"instance-id": "i-1", "users": [{"name": "ada", "plain_text_passwd": "hunter2"}]})
    assert str(caught.value) == "users[0].plain_text_passwd: unknown field"
