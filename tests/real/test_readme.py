# SPDX-License-Identifier: Apache-2.0
"""The README's documents work as printed: both agents, a template's root, every document of the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pair.conftest import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
DOCUMENTS = [block for block in BLOCKS if re.search(r"^instance-id:", block, re.MULTILINE)]
LAYERS = {named[1]: block for block in BLOCKS if (named := re.match(r"# /etc/pv-host-agent/(defaults\S+|groups/\S+)", block))}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A template with what a Debian has besides: shadow passwords, sudo, sshd, zones."""
    made = Stage(tmp_path)
    for path in (tmp_path, *tmp_path.parents[:2]):  # pytest's folders are for their owner only, and users have to get home
        path.chmod(path.stat().st_mode | 0o011)
    for name, content in {
        "etc/shadow": "root:*:19000:0:99999:7:::\n",
        "etc/gshadow": "root:*::\n",
        "etc/sudoers": "root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",
        "usr/bin/sudo": "",
        "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
        "usr/sbin/sshd": "",
        "usr/share/zoneinfo/Europe/Vienna": "TZif",
        "bin/bash": "",
        "etc/default/locale": "LANG=C\n",
    }.items():
        path = made.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    with made.relay:
        try:
            yield made
        finally:
            made.close()


def merged(text: str, work: Path) -> str:
    """*text* over the page's defaults and groups, as the agent prints it."""
    for name, layer in LAYERS.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(layer, encoding="utf-8")
    path = work / "documents/vm.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "host_agent", "check", "--merged", "--documents", str(path.parent), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
def test_a_document_of_the_readme_is_checked_applied_and_in_force(stage: Stage, number: int) -> None:
    text = DOCUMENTS[number]
    if "inherit:" in text:
        (stage.work / "etc").mkdir()
        text = merged(text, stage.work / "etc")
    path = stage.work / "document.yaml"
    path.write_text(text, encoding="utf-8")
    checked = subprocess.run([sys.executable, "-m", "host_agent", "check", str(path)], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, f"{path}: ok\n")
    stage.start_guest()
    status, result = stage.push(text)
    assert status == 0, (result, stage.log("push.log"))
    assert {item["outcome"] for item in result["items"]} <= {"applied", "unchanged"}
    status, again = stage.push(text)
    assert (status, again["outcome"]) == (0, "unchanged")


def test_the_fleets_document_makes_what_the_readme_says(stage: Stage) -> None:
    stage.start_guest()
    (text,) = [document for document in DOCUMENTS if "i-app1" in document]
    assert stage.push(text)[0] == 0, stage.log("push.log")
    assert stage.read("etc/hostname") == "app1\n"
    assert "Ada Lovelace" in stage.read("etc/passwd")
    assert stage.read("etc/app/settings.conf") == "listen = 192.0.2.11\n"
    assert (stage.root / "etc/app/settings.conf").stat().st_mode & 0o777 == 0o640
    assert 'expiry-time="20271231"' in stage.read("home/contractor/.ssh/authorized_keys")
    assert (stage.root / "etc/localtime").readlink().name == "Vienna"
    assert "ada ALL=(ALL) NOPASSWD:ALL" in stage.read("etc/sudoers.d/60-pv-guest-agent")
    assert len(list((stage.root / "etc/systemd/network").glob("10-pv-guest-agent-*.network"))) == 2
