# SPDX-License-Identifier: Apache-2.0
"""README's chapter on running it: its definitions are of one VM, its samples are what the commands print, its diagnoses exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from host_agent.__main__ import main
from host_agent.doctor.catalogue import OF_HOST, OF_VM
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.standing import Moment
from pv_channel import CHANNEL_NAME
from pv_channel.messages import ItemResult, Outcome, Result
from tests.docs.test_pages import blocks

if TYPE_CHECKING:
    import pytest

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")
PICTURE = TOP / "docs/first-boot.svg"
#: The first boot that the README shows: when since the step before, which step, and its detail.
STORY = [
    (0.004, Moment.CONNECTED, "/run/pv-channel/web1.sock"),
    (0.001, Moment.GREETING, ""),
    (18.2, Moment.SEALED, "met for the first time, and pinned"),
    (0.005, Moment.SENT, "generation 1 of i-web1"),
    (0.084, Moment.ITEM, "hostname"),
    (0.031, Moment.ITEM, "users"),
    (0.212, Moment.ITEM, "network"),
    (0.401, Moment.ANSWERED, "applied"),
]


def tell(state: Path) -> None:
    """Make the ledger of that boot."""
    now = 1795248902.25
    ledger = Ledger.open(state, lambda: now)
    ledger.want("web1", "web1", None, "d")
    ledger.seen("web1", 7, "/run/pv-channel/web1.sock")
    for later, what, detail in STORY:
        now += later
        ledger.moment("web1", what, detail)
        if what == Moment.SEALED:
            ledger.pin("web1", b"k" * 32)
    items = [ItemResult(detail, Outcome.APPLIED) for _, what, detail in STORY if what == Moment.ITEM]
    ledger.settle("web1", 1, Result(1, Outcome.APPLIED, items, milliseconds=702), "0.1.0", applied=True)
    ledger.close()


def test_the_timeline_of_the_readme_is_what_the_command_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(tmp_path / "state")
    assert main(["timeline", "web1", "--state", str(tmp_path / "state")]) == 0
    assert f"```\n{capsys.readouterr().out}```\n" in README


def test_the_picture_of_the_readme_is_what_the_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(tmp_path / "state")
    assert main(["timeline", "web1", "--state", str(tmp_path / "state"), "--svg", "-"]) == 0
    drawn = capsys.readouterr().out
    assert f"]({PICTURE.relative_to(TOP)})" in README
    assert PICTURE.read_text(encoding="ascii") == f"<!-- SPDX-License-Identifier: Apache-2.0 -->\n{drawn}"


def test_the_definition_for_libvirt_is_of_the_same_vm_as_that_for_xl() -> None:
    (text,) = blocks("README.md", "xml")
    domain = ET.fromstring(text)
    said = dict(re.findall(r'^(\w+) += "([^"]+)"', README, re.MULTILINE))
    assert {name: domain.findtext(name) for name in ("name", "uuid")} == {name: said[name] for name in ("name", "uuid")}
    assert [domain.findtext(f"os/{name}") for name in ("kernel", "initrd", "cmdline")] == [
        said[name] for name in ("kernel", "ramdisk", "cmdline")
    ]
    channel = domain.find("devices/channel")
    assert channel is not None
    target, source = channel.find("target"), channel.find("source")
    assert target is not None
    assert source is not None
    assert f"connection=socket,name={CHANNEL_NAME},path={source.get('path')}" in README
    assert (target.get("type"), target.get("name")) == ("xen", CHANNEL_NAME)


def test_every_diagnosis_that_the_readme_explains_is_one() -> None:
    table = README[README.index("### When doctor speaks") : README.index("### Year in")]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([a-z-]+)`", row)]
    known = {diagnosis.name for diagnosis in OF_HOST} | {diagnosis.name for diagnosis in OF_VM}
    assert len(named) > 10
    assert set(named) <= known
