# SPDX-License-Identifier: Apache-2.0
"""The manual of pv-stubdom-launch has each option, each exit status with its meaning, and the start of a stubdomain's init."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from host_agent.stubdom.launch_arguments import DIRECTORY, END_SECONDS, RESTORE_SECONDS, START_SECONDS, VCHAN_SECONDS
from host_agent.stubdom.launch_command import MIGRATION
from host_agent.stubdom.launch_failure import MEANINGS

TOP = Path(__file__).parents[2]
MANUAL = (TOP / "docs/man/man8/pv-stubdom-launch.8").read_text(encoding="utf-8")


def test_the_manual_has_each_option_in_its_synopsis_and_in_its_list() -> None:
    command = [sys.executable, "-m", "host_agent.stubdom.launch", "--help"]
    helped = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TOP).stdout
    options = set(re.findall(r"^  --([a-z-]+)", helped, re.MULTILINE)) - {"version"}
    assert len(options) > 10
    assert set(re.findall(r"^\.Op Fl Fl ([a-z-]+)", MANUAL, re.MULTILINE)) == options
    assert set(re.findall(r"^\.It Fl Fl ([a-z-]+)", MANUAL, re.MULTILINE)) == options


def test_the_manual_says_what_each_exit_status_means() -> None:
    said = re.findall(r"^\.It (\d+)\n(.*)\.$", MANUAL, re.MULTILINE)
    assert said == [(str(status.value), meaning) for status, meaning in MEANINGS.items()]


def test_the_manual_has_the_defaults() -> None:
    for seconds, what in (
        (START_SECONDS, "For QEMU to answer"),
        (VCHAN_SECONDS, "For the proxy to serve after that"),
        (RESTORE_SECONDS, "For the whole state to come"),
        (END_SECONDS, "before it is killed"),
    ):
        assert f"{what}; {seconds:g} by default.\n" in MANUAL
    assert f".Pa {DIRECTORY} .\n" in MANUAL
    assert all(f"migration.{name.decode()}=off" in MANUAL for name in MIGRATION)


def test_the_command_is_installed_by_the_manuals_name() -> None:
    scripts = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts["pv-stubdom-launch"] == "host_agent.stubdom.launch:main"
