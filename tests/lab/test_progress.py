# SPDX-License-Identifier: Apache-2.0
"""Long steps say what they are; short ones say nothing; programs that fail say why."""

from __future__ import annotations

import time

import pytest

from lab import progress
from lab.errors import LabError
from lab.programs import run


def test_a_short_step_is_silent() -> None:
    said: list[str] = []
    with progress.step(said.append, "a moment"):
        pass
    assert said == []


def test_a_long_step_says_what_it_is_at_again_and_again_and_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(progress, "REMINDER_SECONDS", 0.01)
    said: list[str] = []
    with progress.step(said.append, "building"):
        while len(said) < 3:
            time.sleep(0.01)
    assert all(line.startswith("lab: building … ") for line in said[:3])
    assert said[-1].startswith("lab: building took ")


def test_a_step_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    said: list[str] = []

    def fail() -> None:
        with progress.step(said.append, "building"):
            while not said:
                time.sleep(0.01)
            raise LabError

    with pytest.raises(LabError):
        fail()
    assert said[-1].startswith("lab: building failed after ")


def test_a_program_that_fails_is_an_error_with_what_it_printed() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"]) == "out\nerr\n"
    with pytest.raises(LabError, match=r"(?s)status 3:\nwhy"):
        run(["sh", "-c", "echo why; exit 3"])
    with pytest.raises(LabError, match="no program"):
        run(["no-such-program-here"])
