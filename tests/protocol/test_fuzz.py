# SPDX-License-Identifier: Apache-2.0
"""The fuzzer itself: a short run finds nothing, a planted fault is found, and a seed repeats its run."""

from __future__ import annotations

import random
import re

import pytest

from fuzz import __main__ as fuzz
from fuzz.ends import Rig
from fuzz.parsers import PARSERS, Parser
from pv_channel.errors import PeerError


def test_a_short_run_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["1.5", "--seed", "7"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("seed 7\n")
    assert re.search(r"[1-9]\d* cases, \d+/s; [1-9]\d* sessions started again", said)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_what_a_parser_is_fed_at_first_is_good(parser: Parser) -> None:
    for seed in parser.seeds:
        parser.parse(seed)


def test_a_parser_that_raises_something_else_is_found_with_its_bytes() -> None:
    def planted(data: bytes) -> None:
        if b"\xff" in data:
            raise UnicodeDecodeError("utf-8", data, 0, 1, "planted")
        raise PeerError("dropped")

    broken = PARSERS[1]._replace(parse=planted, prepare=None)
    source = random.Random(1)
    found = None
    for _ in range(10_000):
        try:
            fuzz.attack(broken, source)
        except fuzz.Crash as exc:
            found = str(exc)
            break
    assert found is not None
    assert re.search(r"(?s)planted.*in hexadecimal: \w*ff", found)


def test_a_crash_is_exit_1_and_tells_its_seed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def planted(data: bytes) -> None:
        raise KeyError(len(data))

    monkeypatch.setattr(fuzz, "PARSERS", (PARSERS[0]._replace(parse=planted),))
    assert fuzz.main(["1", "--seed", "9"]) == 1
    said = capsys.readouterr().err
    assert "the bytes, in hexadecimal: " in said
    assert "python -m fuzz 1 --seed 9" in said


def test_the_same_seed_carries_the_same_bytes() -> None:
    wires = []
    for _ in range(2):
        rig = Rig(random.Random("a seed"))
        rig.hostile()
        wires.append(rig.wire)
    assert wires[0] == wires[1]
    assert any(data for _, data in wires[0])
