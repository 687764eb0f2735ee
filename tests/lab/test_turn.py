# SPDX-License-Identifier: Apache-2.0
"""Labs take turns, and a turn ends with whoever holds it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from lab import turn
from lab.errors import LabError
from lab.progress import silent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which one lab runs at a time."""
    monkeypatch.setattr(turn, "turns", lambda: 1)
    monkeypatch.setattr(turn, "LOOK_SECONDS", 0.02)


def test_a_free_turn_is_taken_at_once_and_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with turn.take(tmp_path, silent):
            pass


def test_a_program_that_inherited_the_turn_holds_it_until_it_ends(tmp_path: Path) -> None:
    with turn.take(tmp_path, silent) as held:
        holder = subprocess.Popen(["sleep", "300"], pass_fds=[held])
    said: list[str] = []

    def hear(text: str) -> None:
        said.append(text)
        holder.kill()

    with turn.take(tmp_path, hear):
        assert "waits for it to end" in said[0]
        assert holder.wait() != 0


def test_a_turn_that_never_comes_is_an_error_that_says_what_may_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "TURN_SECONDS", 0.05)
    with turn.take(tmp_path, silent), pytest.raises(LabError, match="lab stop"), turn.take(tmp_path, silent):
        pass


def test_as_many_labs_run_at_once_as_there_are_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "turns", lambda: 2)
    with turn.take(tmp_path, silent), turn.take(tmp_path, silent):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["turn-0", "turn-1"]
