# SPDX-License-Identifier: Apache-2.0
"""The manual of pv-host-agent says of each verb what its parser takes, and names every diagnosis and every kind of log line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.cli import parser
from host_agent.doctor.catalogue import OF_HOST, OF_VM
from host_agent.ledger.standing import State
from host_agent.log.happenings import Happening
from host_agent.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).parents[2]
MANUAL = (TOP / "docs/man/man8/pv-host-agent.8").read_text(encoding="utf-8")
#: Said once, of all verbs that have them.
COMMON = {"state", "channel", "json", "help"}


def section(verb: str) -> str:
    """What the manual says of *verb*."""
    (found,) = re.findall(rf"^\.It Cm {verb}\n(.*?)(?=^\.It Cm |^\.S[sh] )", MANUAL, re.DOTALL | re.MULTILINE)
    return str(found)


def listed(heading: str) -> list[tuple[str, str]]:
    """The items of the list in the section *heading*, and what it says of each, on a line of its own."""
    (found,) = re.findall(rf"^\.Sh {heading}\n(.*?)(?=^\.Sh )", MANUAL, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\.It \S+ (\S+)\n(.*)\n", found, re.MULTILINE)


def parsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """*top* and all below it."""
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def options(verb: str) -> set[str]:
    """The long options of *verb*, without dashes."""
    mine = [each for each in parsers(parser()) if f"{each.prog} ".startswith(f"pv-host-agent {verb} ")]
    shown = [action for each in mine for action in each._actions if action.help != argparse.SUPPRESS]
    return {option[2:] for action in shown for option in action.option_strings if option.startswith("--")}


@pytest.mark.parametrize("verb", VERBS)
def test_the_manual_says_of_each_option_what_it_does_and_of_none_that_there_is_not(verb: str) -> None:
    said = set(re.findall(r"Fl Fl ([a-z-]+)", section(verb)))
    assert said - COMMON == options(verb) - COMMON


def test_the_options_of_several_commands_are_said_once() -> None:
    for name in COMMON:
        assert f"Fl Fl {name}" in MANUAL[: MANUAL.index(".Ss Documents")]


def test_every_diagnosis_is_in_the_manual_with_its_meaning_and_in_the_doctors_order() -> None:
    meanings = [(d.name, d.meaning) for d in OF_HOST] + [(d.name, d.meaning) for d in OF_VM]
    assert listed("DIAGNOSES") == [(name, f"{meaning}.") for name, meaning in meanings]


def test_every_kind_of_log_line_is_in_the_manual_with_its_id() -> None:
    assert listed("JOURNAL") == [(each.message_id, f"{each.subject}.") for each in Happening]


def test_every_word_for_where_a_vm_stands_is_in_the_manual() -> None:
    words = {value for name, value in vars(State).items() if name.isupper()}
    assert [word for word in words if not re.search(rf"^\.It Ic .*\b{word}\b", section("status"), re.MULTILINE)] == []
