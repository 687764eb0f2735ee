# SPDX-License-Identifier: Apache-2.0
"""The conformance suite for backend programs: a bad program fails just its sentence, a good one none; nothing of them is left."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.backends.conformance import SENTENCES
from host_agent.backends.examination import Force, Judged, Patience, Result, Verdict, conforms
from host_agent.backends.trial import Trial
from tests.host.conforming import FAKE, FAULTS, NEVER_TRIED, Fault, check_fault, examined, fakes_that_run, named, results

if TYPE_CHECKING:
    from collections.abc import Callable


TOP = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_bad_program_fails_exactly_its_sentence(fault: Fault) -> None:
    check_fault(fault)


def test_a_good_program_fails_nothing_even_one_that_floods_its_log() -> None:
    found = examined("floods-its-log")
    assert named(found, Result.FAIL) == set()
    assert named(found, Result.NOT_TESTED) == NEVER_TRIED
    assert fakes_that_run() == []


def test_a_program_that_cannot_do_anything_is_tried_to_the_end() -> None:
    found = results(Path("/bin/true"), [], Patience(60, 60, 60, 60))
    assert {"print-capabilities", "socket-path", "fd", "fails-early"} <= named(found, Result.FAIL)
    assert "pass" not in {each.value for each in found.values()}


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """A fake as a file that can be started."""

    def made(fault: str) -> Path:
        path = tmp_path / "fake"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{FAKE}" {fault} "$@"\n')
        path.chmod(0o755)
        return path

    return made


def test_the_command_says_each_sentence_and_what_was_seen(
    program: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = {"description": "A fake", "type": "org.example.fake.1", "binary": os.fspath(program("none"))}
    (tmp_path / "descriptions").mkdir()
    (tmp_path / "descriptions/50-fake.json").write_text(json.dumps(description))
    words = ["--json", "--strict", "--directory", os.fspath(tmp_path / "descriptions"), "--timeout", "60"]
    assert main(["backends", "check", *words, os.fspath(program("none"))]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["conforms"]
    assert [each["sentence"] for each in said["sentences"]] == [sentence.words for sentence in SENTENCES]
    (described,) = [each for each in said["sentences"] if each["name"] == "described"]
    assert described["result"] == "pass"
    assert "50-fake.json: A fake" in described["seen"]
    assert "sigterm: pass" in err


def test_the_command_ends_with_1_where_a_mandatory_sentence_is_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "check", "/bin/true"]) == 1
    out = capsys.readouterr().out
    assert "fail        must    --print-capabilities: Output to stdout the back-end capabilities" in out
    assert "/bin/true does not conform" in out


def test_the_command_says_what_is_no_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "check", "/etc/passwd"]) == 1
    assert "/etc/passwd: no program that can be started" in capsys.readouterr().err


def test_a_sentence_that_may_be_followed_decides_nothing_and_one_that_should_be_only_strictly() -> None:
    good, bad = Verdict(Result.PASS, ""), Verdict(Result.FAIL, "")
    judged = [Judged(sentence, good if sentence.force is Force.MUST else bad) for sentence in SENTENCES]
    assert conforms(judged)
    assert not conforms(judged, (Force.MUST, Force.SHOULD))
    assert not conforms([Judged(sentence, Verdict(Result.NOT_TESTED, "")) for sentence in SENTENCES])


def test_each_sentence_that_is_tried_stands_in_the_page_that_has_them_all() -> None:
    lines = (TOP / "docs/conformance/backend-programs.md").read_text(encoding="utf-8").splitlines()
    said = " ".join(line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("|"))
    assert [sentence.words for sentence in SENTENCES if sentence.words not in said] == []


def test_each_sentence_stands_after_those_that_it_needs() -> None:
    before: set[str] = set()
    for sentence in SENTENCES:
        assert set(sentence.needs) <= before
        before.add(sentence.name)


def test_what_a_program_prints_is_kept_in_bounds() -> None:
    with Trial(["/bin/sh", "-c", "yes >&2 & yes"]) as trial:
        assert trial.until(lambda: trial.prints_too_much and len(trial.errors) == 8192, 60)
        for _ in range(100):
            trial.until(lambda: False, 0.001)
        assert (len(trial.output), len(trial.errors)) == (65537, 8192)
