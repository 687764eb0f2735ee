# SPDX-License-Identifier: Apache-2.0
"""`keys trust`, `revoke` and `rotate --finish`: what they put into an operator's files, and which guests do not hear of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from host_agent import keys
from host_agent.__main__ import main
from host_agent.authorities import rotation
from host_agent.documents.entry import NoRoom, with_entry
from host_agent.documents.yaml_values import parse
from host_agent.views.keys import pin
from pv_channel.trust import AUTHORITY_TYPE, fingerprint, format_key

if TYPE_CHECKING:
    from pathlib import Path

STOLEN = fingerprint(b"stolen")
PATH = ("host_trust", "revoked", STOLEN)
FLEET = format_key(AUTHORITY_TYPE, bytes(32))
WRITTEN = [
    "a: 1\n", "# ours\na: 1", "---\na: [1,\n  2]  # why\n\n", "a: |\n  text\n",
    "host_trust:\n  authorities:\n    x: y\nb: 2\n",
    "host_trust:\n    revoked:\n        # since\n        q: r  # c\n\n        z: w\nb: 2\n",
]  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
def test_an_entry_goes_into_yaml_and_every_line_of_the_operator_s_stays(text: str) -> None:
    made = with_entry(text, PATH, "stolen: 'yes' \"no\"")
    left = iter(made.splitlines())
    assert all(line in left for line in text.splitlines())  # in their order
    before, after = parse(text).values, parse(made).values
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    trust = before.get("host_trust", {})
    revoked = trust.get("revoked", {}) | {STOLEN: "stolen: 'yes' \"no\""}
    assert after == before | {"host_trust": trust | {"revoked": revoked}}
    assert yaml.safe_load(made)["host_trust"] == after["host_trust"]
    assert with_entry(made, PATH, "stolen: 'yes' \"no\"") == made


@pytest.mark.parametrize(
    "text",
    ["host_trust: {revoked: {}}\n", "host_trust:\n", "host_trust: x\n", "- a\n", "a: 1\n...\n", "a: |\n  text", "{a: 1}\n",
     "a: 1\nhost_trust:\n  revoked: &all\n    q: r\n"],
)  # fmt: skip
def test_where_there_is_no_place_for_it_nothing_is_guessed(text: str) -> None:
    with pytest.raises(NoRoom):
        with_entry(text, PATH, "stolen")


def test_json_stays_json() -> None:
    assert json.loads(with_entry('{"a": 1}', PATH, "x")) == {"a": 1, "host_trust": {"revoked": {STOLEN: "x"}}}


class Documents:
    """A host's documents and state, and ``keys`` on them."""

    def __init__(self, top: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.top, self.state, self.documents, self._capsys = top, top / "state", top / "documents", capsys
        self.defaults = top / "defaults.yaml"
        self.documents.mkdir()
        for name in ("web1", "web2"):
            self.write(f"documents/{name}.yaml", f"instance-id: {name}\n")
        keys.create_host_key(self.state, "", replace=False)

    def write(self, name: str, text: str) -> None:
        """One of the operator's files."""
        (self.top / name).write_text(text, encoding="utf-8")

    def keys(self, *words: str, status: int = 0) -> str:
        """All that ``keys`` says."""
        documents = () if words[0] == "show" else ("--documents", str(self.documents))
        assert main(["keys", *words, *documents, "--state", str(self.state)]) == status
        printed = self._capsys.readouterr()
        return printed.out + printed.err

    def merged(self, name: str = "web1") -> object:
        """What a guest would be told of hosts."""
        file = str(self.documents / f"{name}.yaml")
        assert main(["check", "--merged", "--json", "--documents", str(self.documents), file]) == 0
        return json.loads(self._capsys.readouterr().out)["host_trust"]["value"]


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Documents:
    return Documents(tmp_path, capsys)


def test_a_revocation_stands_in_the_documents_of_all_vms(operator: Documents) -> None:
    assert "now tells guests never to believe" in operator.keys("revoke", STOLEN, "--reason", "dom0-3 was stolen")
    assert operator.merged("web1") == operator.merged("web2") == {"revoked": {STOLEN: "dom0-3 was stolen"}}
    assert operator.defaults.stat().st_mode & 0o777 == 0o600
    before = operator.defaults.read_bytes()
    assert "already tells" in operator.keys("revoke", STOLEN, "--reason", "again")
    assert operator.defaults.read_bytes() == before


def test_a_revocation_goes_beside_what_the_vm_s_own_file_says_of_hosts(operator: Documents) -> None:
    operator.write("documents/web1.yaml", f"instance-id: web1\nhost_trust:\n  authorities:\n    fleet: {FLEET}\n")
    operator.keys("revoke", STOLEN)
    assert operator.merged() == {"authorities": {"fleet": FLEET}, "revoked": {STOLEN: ""}}


def test_vms_that_do_not_hear_of_it_are_named_and_the_exit_status_is_1(operator: Documents) -> None:
    operator.write("documents/alone.yaml", "instance-id: alone\ndefaults: false\n")
    operator.write("documents/bad.yaml", "instance-id: [\n")
    said = operator.keys("revoke", STOLEN, status=1)
    assert "not told" in said
    assert said.rstrip().endswith("alone, bad")


def test_another_layer_can_say_it_and_the_rest_of_it_stays(operator: Documents) -> None:
    operator.write("defaults.json", '{"timezone": "UTC"}')
    operator.keys("trust", FLEET, "--name", "fleet-2027")
    assert json.loads((operator.top / "defaults.json").read_text())["timezone"] == "UTC"
    assert operator.merged() == {"authorities": {"fleet-2027": FLEET}}
    operator.keys("revoke", STOLEN, "--into", str(operator.top / "mine.yaml"), status=1)
    assert STOLEN in (operator.top / "mine.yaml").read_text()


@pytest.mark.parametrize("kind", ["line", "file"])
def test_a_key_is_told_by_its_line_or_its_file_and_revoked_by_them(operator: Documents, kind: str) -> None:
    (operator.top / "fleet.pub").write_text(f"{FLEET} ops\n")
    key = FLEET if kind == "line" else str(operator.top / "fleet.pub")
    operator.keys("trust", key, "--name", "fleet")
    operator.write("defaults.yaml", "timezone: UTC\n")
    operator.keys("revoke", key)
    assert operator.merged() == {"revoked": {fingerprint(bytes(32)): ""}}


def test_what_layers_cannot_say_is_refused_and_changes_nothing(operator: Documents) -> None:
    operator.keys("trust", FLEET, "--name", "fleet")
    before = operator.defaults.read_bytes()
    other = format_key(AUTHORITY_TYPE, bytes([1]) * 32)
    assert "another key by the name 'fleet'" in operator.keys("trust", other, "--name", "fleet", status=1)
    assert "which shall be believed" in operator.keys("revoke", FLEET, status=1)
    for words in (("trust", other, "--name", "a b"), ("revoke", STOLEN, "--reason", "é"), ("revoke", "SHA256:0")):
        operator.keys(*words, status=1)
    assert operator.defaults.read_bytes() == before
    operator.write("defaults.yaml", "host_trust: {}\n")
    said = operator.keys("revoke", STOLEN, "--reason", "x", status=1)
    assert f'"{STOLEN}": "x"' in said  # to be written by hand


def test_a_private_key_that_is_given_for_a_public_one_is_not_quoted(operator: Documents) -> None:
    private = (operator.state / "host.key").read_text().split()[1]
    assert private[:8] not in operator.keys("trust", str(operator.state / "host.key"), "--name", "x", status=1)


def test_this_host_s_own_key_is_not_revoked_by_a_slip(operator: Documents) -> None:
    ours = keys.existing(operator.state).fingerprint
    assert "keys rotate" in operator.keys("revoke", ours, status=1)
    assert not operator.defaults.exists()
    operator.keys("revoke", ours, "--force")


def test_a_pinned_key_is_followed_only_when_every_document_tells_of_the_next(operator: Documents) -> None:
    before = keys.existing(operator.state)
    printed = operator.keys("rotate")
    following = rotation.next_of(operator.state)
    assert following is not None
    assert pin(following) in printed
    assert "web1, web2" in operator.keys("rotate", "--finish", status=1)
    operator.keys("trust", pin(following), "--name", "next")
    assert following.fingerprint in operator.keys("rotate", "--finish")
    assert keys.existing(operator.state).key.public == following.key.public != before.key.public
    operator.keys("revoke", before.fingerprint)
