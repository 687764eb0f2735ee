# SPDX-License-Identifier: Apache-2.0
"""`check`: what it says of all files, of single ones, and the merged document that it prints."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.documents.document_file import read
from tests.host.etc import ETH0, HASH, Etc

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc.made(tmp_path)


def check(*arguments: object) -> int:
    """The command."""
    return main(["check", *map(str, arguments)])


def test_check_without_files_checks_everything(etc: Etc, capsys: pytest.CaptureFixture[str]) -> None:
    etc.put("inherit: [web]", defaults="timezone: UTC", web="locale: C")
    assert check("--documents", etc.documents) == 0
    assert capsys.readouterr().out == f"{etc.documents}: documents: 1, defaults and groups: 2, wrong: 0\n"


def test_check_says_a_fault_of_a_group_once_and_whom_it_concerns(etc: Etc, capsys: pytest.CaptureFixture[str]) -> None:
    etc.put("inherit: [web]", web="locale: ../x", unused="timezone: ../x")
    for number in range(2, 5):
        etc.write(f"documents/web{number}", f"instance-id: i-{number}\ninherit: [web]\n")
    etc.write("documents/db1", "instance-id: [\n")
    assert check("--documents", etc.documents) == 1
    lines = capsys.readouterr().out.replace(f"{etc.top}/", "").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "groups/unused.yaml",
        "documents/db1.yaml",
        "groups/web.yaml",
        "documents",
    ]
    assert lines[2].endswith(" (web1 and 3 more VMs)")
    assert lines[3] == "documents: documents: 5, defaults and groups: 2, wrong: 7"


def test_check_finds_two_documents_for_one_vm(etc: Etc, capsys: pytest.CaptureFixture[str]) -> None:
    uuid = "7a1c0b6e-3a52-4a0e-9c58-0d5c1f0e7b11"
    etc.put(f"uuid: {uuid.upper()}")
    etc.write(f"documents/{uuid}", "instance-id: i-2\n")
    assert check("--documents", etc.documents) == 1
    out = capsys.readouterr().out
    assert f"documents/web1.yaml: is for {uuid}, as {etc.documents}/{uuid}.yaml is; cure: remove one" in out


def test_check_takes_a_layer_for_a_part_of_a_document(etc: Etc, capsys: pytest.CaptureFixture[str]) -> None:
    web1 = etc.put("inherit: [web]\nnetwork: {version: 2}", web="network: {ethernets: {eth0: {}}}", defaults="uuid: x")
    group, defaults = etc.top / "groups/web.yaml", etc.top / "defaults.yaml"
    assert check(group) == 0
    assert check(web1, defaults, group, "--json") == 1
    found = json.loads(capsys.readouterr().out.partition("ok\n")[2])
    assert [entry["file"] for entry in found] == [str(web1), str(defaults), str(group)]
    assert "--documents" in found[0]["problem"]
    assert found[1]["problem"].startswith(f"{defaults}:1:7: uuid: ")
    assert found[2]["problem"] is None


def test_check_says_which_document_a_bad_group_concerns(etc: Etc, capsys: pytest.CaptureFixture[str]) -> None:
    web1 = etc.put("inherit: [web]", web="locale: ../x")
    assert check("--documents", etc.documents, web1) == 1
    assert capsys.readouterr().out.startswith(f"{web1}: cannot be used: {etc.top}/groups/web.yaml:1:9: locale: ")


def test_a_vm_called_defaults_is_a_vm(etc: Etc) -> None:
    path = etc.write("documents/defaults", "instance-id: i-1\n")
    assert check("--documents", etc.documents, path) == 0
    assert check("--documents", etc.documents / ".." / "documents", path) == 0


def test_check_merged_prints_a_document_that_says_the_same(etc: Etc, capsys: pytest.CaptureFixture[str]) -> None:
    web1 = etc.put(
        f"inherit: [web]\n{ETH0}\nfirstboot.locale: C",
        defaults=f"passwd.hashed-password.root: {HASH}\nnetwork: {{ethernets: {{eth0: {{mtu: 9000}}}}}}\ntimezone: UTC",
        web='users: [{name: ada, gecos: "0o10"}]\ntimezone: null\nwrite_files: [{path: /a, content: "a\\n  b\\n"}]',
    )
    assert check("--documents", etc.documents, "--merged", web1) == 0
    printed = capsys.readouterr().out
    alone = etc.write("alone", printed)
    assert read(alone) == etc.document()
    said = dict(zip(re.findall(r"^([\w-]+):", printed, re.MULTILINE), re.findall("^# (.*)", printed, re.MULTILINE), strict=True))
    defaults, group = etc.top / "defaults.yaml", etc.top / "groups/web.yaml"
    assert said == {
        "instance-id": str(web1),
        "network": f"{defaults}, {web1}",
        "locale": str(web1),
        "write_files": str(group),
        "users": f"{defaults}, {group}",
    }


def test_check_merged_of_a_bad_document_prints_the_error_alone(etc: Etc, capsys: pytest.CaptureFixture[str]) -> None:
    web1 = etc.put("local-hostname: -x")
    assert check("--documents", etc.documents, "--merged", web1) == 1
    assert capsys.readouterr().out == ""
    assert check("--merged") == 2
