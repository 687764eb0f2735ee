# SPDX-License-Identifier: Apache-2.0
"""A real first boot, told: both agents as processes, and what `timeline` says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from lab.demo import document
from tests.pair.conftest import DEADLINE_SECONDS

if TYPE_CHECKING:
    from tests.pair.conftest import Stage

SVG = "{http://www.w3.org/2000/svg}"


def said(stage: Stage, *arguments: str) -> str:
    """What pv-host-agent prints on this stage's ledger."""
    command = [sys.executable, "-m", "host_agent", *arguments, "--state", str(stage.work / "host")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(stage: Stage, *arguments: str) -> Any:
    """The same, of `timeline --json`."""
    return json.loads(said(stage, "timeline", "vm1", "--json", *arguments))


def test_a_first_boot_is_told_from_the_channel_to_the_answer_and_a_change_after_it_is_told_by_itself(stage: Stage) -> None:
    stage.serve(document("web1"))
    stage.start_guest()
    said(stage, "wait", "--all", "--timeout", str(DEADLINE_SECONDS))
    boot = told(stage)
    words = [step["step"] for step in boot["steps"]]
    items = [step["detail"] for step in boot["steps"] if step["step"] == "item"]
    assert words == ["seen", "connected", "greeting", "sealed", "sent", *["item"] * len(items), "answered"]
    assert (boot["first"], boot["outcome"], boot["about"]) == (True, "applied", "generation 1 of i-demo")
    assert items
    assert set(items) == boot["items"].keys()
    root = ET.fromstring(said(stage, "timeline", "vm1", "--svg", "-"))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert [item for item in items if item not in texts] == []

    stage.write_document(document("web2"))
    said(stage, "wait", "--all", "--generation", "2", "--timeout", str(DEADLINE_SECONDS))
    change = told(stage)
    assert (change["first"], change["steps"][0]["step"], change["about"]) == (False, "sent", "generation 2 of i-demo")
    assert told(stage, "--run", str(boot["run"])) == boot | {"items": {}, "guest-milliseconds": 0}
