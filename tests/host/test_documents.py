# SPDX-License-Identifier: Apache-2.0
"""Operators' files: what YAML and JSON mean here, what `check` says of them, and which of a directory are taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from host_agent.__main__ import main
from host_agent.documents.inventory import Inventory
from host_agent.documents.yaml_values import MAX_VALUES, BadText, Place, parse, place_of
from host_agent.errors import BadFile
from pv_channel.messages import MAX_DOCUMENT_BYTES
from tests.host.etc import parse_text

GOOD = "instance-id: i-1\nlocal-hostname: web1\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("00:16:3e:00:00:01", "00:16:3e:00:00:01"),
        ("12:30:45", "12:30:45"),
        ("no", "no"),
        ("On", "On"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-5", -5),
        ("1.5", 1.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("=", "="),
        ("192.0.2.10/24", "192.0.2.10/24"),
    ],
)
def test_a_plain_scalar_is_what_yaml_1_2_says(text: str, value: object) -> None:
    found = parse(f"a: {text}\n").values
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("a: 1\na: 2\n", "stands twice"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": {"b": 1, "b": 2}}', "stands twice"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("a: [1\n", "not YAML"),
        ('{"a": 1,]', "not JSON"),
        ("? [a]\n: 1\n", "no string"),
        ("a: !!python/object/apply:os.system [true]\n", "has no meaning here"),
        ("a: !!binary aGk=\n", "has no meaning here"),
        ("a: !mine 1\n", "has no meaning here"),
        ("a: !!int soon\n", "has no meaning here"),
        ("a: &x [*x]\n", "deeper than"),
        ("a: " + "[" * 500 + "]" * 500, "deeper than"),
        ("[" * 100_000, "deeper than"),
        ("- " * 100_000, "deeper than"),
        ('{"a":' * 100_000, "too deep"),
        ("a: \x00b\n", "not YAML"),
        ("a: \x80\n", "not YAML"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_text_that_is_not_ours_is_refused_and_never_raises_otherwise(text: str, problem: str) -> None:
    with pytest.raises(BadText, match=problem):
        parse(text)


def test_a_bomb_of_aliases_is_stopped_before_it_grows() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(BadText, match=str(MAX_VALUES)):
        parse("\n".join(lines))


def test_json_with_a_comma_too_many_is_still_yaml() -> None:
    assert parse('{"a": 1,}').values == {"a": 1}


def test_half_a_surrogate_pair_is_refused() -> None:
    for text in ('{"\\ud800": 1}', '{"instance-id": "\\ud800"}'):
        with pytest.raises(BadFile):
            parse_text(text, Path("web1.json"))


def test_json_with_escapes_that_yaml_lacks_is_still_json() -> None:
    assert parse('{"a": "\\ud83d\\ude00\\/"}').values == {"a": "\U0001f600/"}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("users[1].name", Place(4, 11)),
        ("users[7].name", Place(2, 3)),
        ("network.eth0.5.mtu", Place(6, 17)),
        ("nowhere", Place(1, 1)),
        ("", Place(1, 1)),
    ],
)
def test_a_path_leads_back_to_its_line(path: str, place: Place) -> None:
    parsed = parse("users:\n  - name: a\n    x: 1\n  - name: b\nnetwork:\n  eth0.5: {mtu: 1}\n")
    assert place_of(parsed, path) == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("local-hostname: web1\n", "instance-id"),
        (GOOD + "local-hostnam: x\n", ":3:"),
        (GOOD.replace("web1", "-web1"), ":2:17: local-hostname: "),
        (GOOD + "network:\n  version: 2\n  ethernets:\n    eth0:\n      mtu: 90000\n", ":7:12: network.ethernets.eth0.mtu: "),
        (GOOD + "network: {version: 2, ethernets: {eth0: {match: {macaddress: 7}}}}\n", "ethernets.eth0.match.macaddress: "),
        ('{"instance-id": "i-1",\n "local-hostname": 5}', ":2:20: local-hostname: "),
        ("- a\n- b\n", ":1:1"),
        (GOOD + "confirm: {check: tcp}\n", ":3:10: confirm: 'check' is 'tcp', and nothing says which; add 'tcp: "),
        (GOOD + "confirm: {check: command}\n", "confirm: 'check' is 'command', and nothing says which; add 'command: ["),
        (GOOD + "confirm: {check: guest, tcp: 'a:1'}\n", ":3:10: confirm: 'tcp' is there, and 'check' is 'guest'"),
    ],
)
def test_an_error_names_file_line_and_path(text: str, said: str) -> None:
    with pytest.raises(BadFile) as caught:
        parse_text(text, Path("web1.yaml"))
    assert str(caught.value).startswith("web1.yaml:")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unquoted_mac_address_is_a_mac_address() -> None:
    text = GOOD + "network:\n  version: 2\n  ethernets:\n    eth0:\n      match: {macaddress: 00:16:3e:00:00:01}\n"
    assert "00:16:3e:00:00:01" in parse_text(text, Path("web1.yaml")).encode().decode()


def test_a_document_longer_than_the_limit_is_refused_by_its_size() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKl3kIsdvV1v6JN0c0w0wKMY6Bt0bEzY4wUZ7l1bXWvd " + "c" * 8000
    text = GOOD + "ssh_authorized_keys:\n" + "".join(f"  - {key}{n}\n" for n in range(140))
    with pytest.raises(BadFile, match=f"at most {MAX_DOCUMENT_BYTES - 32}"):
        parse_text(text, Path("web1.yaml"))


def test_check_says_ok_or_one_line_per_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, missing, pipe = (tmp_path / name for name in ("good.yaml", "bad.yaml", "missing.yaml", "pipe.yaml"))
    good.write_text(GOOD)
    bad.write_text(GOOD.replace("web1", "localhost"))
    os.mkfifo(pipe)
    assert main(["check", str(good)]) == 0
    assert main(["check", *map(str, (good, bad, missing, pipe))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[1] == f"{good}: ok"
    assert lines[2].startswith(f"{bad}:2:17: local-hostname: ")
    assert lines[3] == f"{missing}: No such file or directory"
    assert lines[4] == f"{pipe}: not a regular file"


def test_a_file_that_everybody_may_write_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "web1.yaml"
    path.write_text(GOOD)
    path.chmod(0o666)
    assert main(["check", str(path)]) == 1
    assert "chmod o-w" in capsys.readouterr().out


class Shelf:
    """A directory of documents and a clock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0
        self.inventory = Inventory(directory, lambda: self.now)

    def put(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text)
        self.now = path.stat().st_ctime

    def look(self) -> tuple[list[str], list[str], list[str]]:
        changes = self.inventory.look()
        return [str(w.document.local_hostname) for w in changes.wanted], [error for _, error in changes.errors], changes.removed


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_file_is_taken_once_it_has_settled_and_not_again(shelf: Shelf) -> None:
    shelf.put("web1.yaml", GOOD)
    assert shelf.look() == ([], [], [])
    assert shelf.look() == (["web1"], [], [])
    assert shelf.look() == ([], [], [])
    shelf.put("web1.yaml", GOOD.replace("web1", "web22"))
    shelf.now += 5
    assert shelf.look() == (["web22"], [], [])


def test_a_file_that_grows_is_left_until_it_stands_still(shelf: Shelf) -> None:
    for length in range(20, len(GOOD) + 1):
        shelf.put("web1.yaml", GOOD[:length])
        assert shelf.look() == ([], [], [])
    assert shelf.look() == (["web1"], [], [])


def test_a_bad_file_is_told_once_until_it_changes(shelf: Shelf) -> None:
    shelf.put("web1.yaml", "instance-id: [")
    shelf.now += 5
    assert len(shelf.look()[1]) == 1
    assert shelf.look() == ([], [], [])
    shelf.put("web1.yaml", "instance-id: {")
    shelf.now += 5
    assert len(shelf.look()[1]) == 1


def test_two_files_for_one_vm_are_an_error_that_goes_with_one_of_them(shelf: Shelf) -> None:
    shelf.put("web1.yaml", GOOD)
    shelf.put("web1.json", '{"instance-id": "i-1"}')
    shelf.now += 5
    _, errors, _ = shelf.look()
    assert "cure: remove one" in errors[0]
    (shelf.directory / "web1.json").unlink()
    assert shelf.look() == (["web1"], [], [])


def test_a_file_that_goes_is_removed_and_one_that_cannot_be_listed_is_not(shelf: Shelf) -> None:
    shelf.put("web1.yaml", GOOD)
    shelf.now += 5
    shelf.look()
    (shelf.directory / "web1.yaml").rename(shelf.directory / "web1.old")
    assert shelf.look() == ([], [], ["web1"])
    shelf.directory.rename(shelf.directory.with_name("elsewhere"))
    with pytest.raises(BadFile):
        shelf.look()


def test_other_files_are_passed_over(shelf: Shelf) -> None:
    (shelf.directory / "sub.yaml").mkdir()
    (shelf.directory / "gone.yaml").symlink_to("nowhere")
    for name in (".web1.yaml", "README", "web1.yaml~", ".yaml"):
        shelf.put(name, GOOD)
    shelf.now += 5
    assert shelf.look() == ([], [], [])
