# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent backends check`: try a program against each sentence of QEMU's backend program conventions."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError, shown
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.backends.examination import Judged

_SECONDS: Final = 10.0
_HOW: Final = """
The program is started some twenty times, each time for a moment, and whatever it starts is killed. Its own arguments come after
'--': what it needs to serve anything at all. Each sentence is one that a program must follow, should follow, or may; the exit
status is 0 if all of the first have passed, with --strict all of the second, too.
"""


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.usage = "pv-host-agent backends check [--timeout S] [--directory DIR] [--strict] [--json] PROGRAM [-- ARGUMENT ...]"
    verb.epilog = _HOW
    verb.add_argument("program", metavar="PROGRAM", help="a path, or a name to be found in $PATH")
    patience = "seconds that it has to start, to answer, and to end (default: %(default)g)"
    verb.add_argument("--timeout", type=options.seconds, default=_SECONDS, metavar="S", help=patience)
    where = "a directory of description files, beside QEMU's and ours; may be repeated"
    verb.add_argument("--directory", type=Path, action="append", default=[], metavar="DIR", help=where)
    verb.add_argument("--strict", action="store_true", help="take 'should' for 'must'")
    options.as_json(verb)


def run(arguments: Namespace) -> int:
    """A row for each sentence, on standard output."""
    from host_agent.backends.conformance import SENTENCES
    from host_agent.backends.examination import Force, Patience, conforms, examine

    program, seconds = _program(arguments.program), arguments.timeout
    patience = Patience(seconds, seconds, seconds, seconds)
    judged = []
    for each in examine(program, arguments.after, SENTENCES, patience, arguments.directory):
        print(f"{each.sentence.name}: {each.verdict.result.value}", file=sys.stderr, flush=True)
        judged.append(each)
    good = conforms(judged, (Force.MUST, Force.SHOULD) if arguments.strict else (Force.MUST,))
    _show(judged, program, good=good, as_json=arguments.json)
    return 0 if good else 1


def _program(text: str) -> Path:
    """The program as an absolute path; raise `HostError` where there is none."""
    found = shutil.which(text)
    if found is None or not os.access(found, os.X_OK):
        raise HostError(f"{shown(text)}: no program that can be started; cure: its path, or a name that is in $PATH")
    return Path(found).absolute()


def _show(judged: list[Judged], program: Path, *, good: bool, as_json: bool) -> None:
    if as_json:
        values = {"program": shown(program), "conforms": good, "sentences": [each.values() for each in judged]}
        options.print_json(values)
        return
    if sys.stdout.isatty():
        _show_table(judged)
    else:  # sentences in columns are for eyes
        for sentence, verdict in judged:
            print(f"{verdict.result.value:10}  {sentence.force.value:6}  {sentence.words}\n{'':20}{verdict.seen}")
    print(f"{shown(program)} {'conforms' if good else 'does not conform'}")


def _show_table(judged: list[Judged]) -> None:
    from host_agent.views.table import show

    rows = [(verdict.result.value, sentence.force.value, sentence.words, verdict.seen) for sentence, verdict in judged]
    show(("result", "force", "sentence", "seen"), rows)
