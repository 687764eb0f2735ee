# SPDX-License-Identifier: Apache-2.0
"""What the pages say is so: links lead somewhere, commands exist, documents are documents, tasks are tasks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import guest_agent
import host_agent
from host_agent.documents.check import check_all
from pv_channel import CHANNEL_NAME, registry

TOP = Path(__file__).parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "PROTOCOL.md", "SECURITY.md", "CHANGELOG.md"]
MAN_PAGES = sorted((TOP / "docs/man").glob("man*/*"))


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of *language* in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", (TOP / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", (TOP / page).read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (TOP / target).exists()]
    assert missing == []


def test_the_readmes_documents_are_some(tmp_path: Path) -> None:
    written = [block for block in blocks("README.md", "yaml") if re.search("^[a-z-]+:", block, re.MULTILINE)]
    for number, block in enumerate(written):
        named = re.match(r"# /etc/pv-host-agent/(\S+)", block)
        path = tmp_path / (named[1] if named else f"documents/{number}.yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(block, encoding="utf-8")
    verdicts = list(check_all(tmp_path / "documents"))
    assert len(verdicts) == len(written) >= 5
    assert [verdict.problem for verdict in verdicts if verdict.problem] == []


def test_the_readme_pins_the_uuid_of_its_own_xl_configuration() -> None:
    page = (TOP / "README.md").read_text(encoding="utf-8")
    (configured,) = re.findall(r'^uuid\s+= "([^"]+)"', page, re.MULTILINE)
    assert yaml.safe_load(blocks("README.md", "yaml")[0])["uuid"] == configured


def test_every_task_that_the_readme_names_exists() -> None:
    said = subprocess.run([TOP / "run"], capture_output=True, text=True, check=True).stdout
    tasks = set(re.findall(r"^  ([a-z-]+) {2,}", said, re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"\./run ([a-z][a-z-]*)", (TOP / page).read_text(encoding="utf-8")))
        assert named <= tasks, page


def test_every_verb_in_the_readme_and_the_man_pages_exists() -> None:
    for module in ("host_agent", "guest_agent"):
        name = f"pv-{module.replace('_', '-')}"
        helped = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout
        verbs = set(re.findall(r"^    ([a-z][a-z-]*)", helped, re.MULTILINE))
        readme = (TOP / "README.md").read_text(encoding="utf-8")
        named = set(re.findall(rf"^`?{name} ([a-z][a-z-]*)|`{name} ([a-z][a-z-]*)", readme, re.MULTILINE))
        named = {word for pair in named for word in pair if word}
        assert named <= verbs
        manual = (TOP / f"docs/man/man8/{name}.8").read_text(encoding="utf-8")
        described = set(re.findall(r"^\.It Cm ([a-z-]+)$", manual, re.MULTILINE))
        assert described == verbs


def test_one_version_is_said_everywhere() -> None:
    version = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert version == host_agent.VERSION == guest_agent.VERSION
    assert f"## {version} " in (TOP / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_registry_has_our_channel_and_a_shipped_rule_that_asks_for_it() -> None:
    records = registry.parse((TOP / "channel-registry.txt").read_text(encoding="utf-8"))
    assert CHANNEL_NAME in [record.name for record in records]
    assert f'RESULT=="{CHANNEL_NAME}"' in (TOP / "udev/60-pv-channel.rules").read_text(encoding="utf-8")


def test_the_architecture_names_every_file_with_its_own_first_sentence() -> None:
    page = (TOP / "ARCHITECTURE.md").read_text(encoding="utf-8")
    wrong = []
    for package in ("pv_channel", "guest_agent", "host_agent", "lab"):
        for path in sorted((TOP / package).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            sentence = " ".join(docstring.split("\n\n")[0].split()).rstrip(".")
            name = path.relative_to(TOP / package).as_posix()
            if path.name != "__init__.py" and f"| `{name}` | {sentence} |" not in page:
                wrong.append(f"| `{name}` | {sentence} |")
    assert wrong == []


@pytest.mark.parametrize("page", MAN_PAGES, ids=[page.name for page in MAN_PAGES])
def test_a_man_page_names_itself_and_its_licence(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    name, _, section = page.name.rpartition(".")
    assert text.startswith('.\\" SPDX-License-Identifier: Apache-2.0\n')
    assert f".Dt {name.upper()} {section}\n" in text
