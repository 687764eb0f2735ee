# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent check`: say what is wrong with documents, defaults and groups, before anything is sent."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import shown
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator

    from host_agent.documents.check import Verdict
    from host_agent.documents.layers import Choice

#: How often a long check says how far it is.
_SAID_EVERY: Final = 2.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Say what is wrong with VMs' documents, defaults and groups: by file, line and the path inside. Without FILE everything"
        " in the documents' directory and beside it is checked, and that no VM has two documents. A file that lies in the"
        " directory, or any file where --documents is given, is checked over its defaults and groups; another stands alone."
        " defaults.* and what lies in a directory 'groups' is checked as a part of a document."
    )
    verb.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a document, defaults or a group, YAML or JSON")
    verb.add_argument("--merged", action="store_true", help="print the whole document of the one FILE, and which file said what")
    options.documents(verb)
    options.as_json(verb)


def run(arguments: Namespace) -> int:
    """One line per file: what is wrong with it, or that it is good."""
    from host_agent.documents.check import check_all, check_files

    choice = options.layers_by(arguments)
    if arguments.merged:
        return _merged(arguments, choice)
    verdicts = list(check_files(arguments.files, choice) if arguments.files else _progress(check_all(choice.documents)))
    if arguments.json:
        options.print_json([{"file": str(verdict.path), "problem": verdict.problem} for verdict in verdicts])
    elif arguments.files:
        print("\n".join(verdict.problem or f"{shown(verdict.path)}: ok" for verdict in verdicts))
    else:
        _show_all(verdicts, choice.documents)
    return 1 if any(verdict.problem for verdict in verdicts) else 0


def _show_all(verdicts: list[Verdict], documents: Path) -> None:
    """Each fault once, and the sum."""
    from host_agent.documents.faults import Faults

    faults, shared = Faults(), [verdict for verdict in verdicts if verdict.is_shared]
    for verdict in verdicts:
        if verdict.problem is not None and not verdict.is_shared:
            faults.add(verdict.problem, verdict.path)
    lines = faults.lines()
    unused = [verdict.problem for verdict in shared if verdict.problem and not any(verdict.problem in line for line in lines)]
    wrong = sum(verdict.problem is not None for verdict in verdicts)
    sums = f"documents: {len(verdicts) - len(shared)}, defaults and groups: {len(shared)}, wrong: {wrong}"
    print("\n".join([*unused, *lines, f"{shown(documents)}: {sums}"]))


def _progress(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    said = time.monotonic()
    for number, verdict in enumerate(verdicts, 1):
        yield verdict
        if time.monotonic() - said >= _SAID_EVERY:
            said = time.monotonic()
            print(f"{number} files checked", file=sys.stderr, flush=True)


def _merged(arguments: Namespace, choice: Choice) -> int:
    if len(arguments.files) != 1:
        print("pv-host-agent check: --merged takes one FILE", file=sys.stderr)
        return 2
    from host_agent.documents.document_file import stack_of
    from host_agent.documents.text_file import text_of
    from host_agent.documents.yaml_text import dump

    path = arguments.files[0]
    fields = list(stack_of(text_of(path), path, choice.layers(path)).fields())
    if arguments.json:
        options.print_json({field.name: {"value": field.value, "files": [str(file) for file in field.files]} for field in fields})
    for field in () if arguments.json else fields:
        print(f"# {', '.join(shown(file) for file in field.files)}\n{dump({field.name: field.value})}", end="")
    return 0
