# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent timeline`: the steps of a VM's first boot, or of any run, as a table, as a picture, or as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import BadFile, HostError, shown
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.timeline.runs import Run

_STDOUT: Final = Path("-")


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Show what a VM's latest run was made of, from the moment its channel was seen, or a changed document was sent, to its"
        " guest's answer: each step, when it was, and how long until the next. A run whose guest had everything already is passed"
        " over for the latest that was sent something. In the bars, # is work and - is waiting; a wait longer than all the work"
        " is drawn shorter than it was."
    )
    options.vm(verb)
    which = verb.add_mutually_exclusive_group()
    which.add_argument("--run", dest="number", type=int, metavar="N", help="the run with this number instead of the latest")
    which.add_argument("--runs", action="store_true", help="list the runs that are on record instead")
    how = verb.add_mutually_exclusive_group()
    how.add_argument("--svg", type=Path, metavar="FILE", help="draw a picture into FILE instead (-: to standard output)")
    options.as_json(how)
    options.state(verb)


def run(arguments: Namespace) -> int:
    """Print it, or draw it."""
    from host_agent.timeline.runs import chosen, runs_of
    from host_agent.views.status import View

    with View(arguments.state) as view:
        runs = runs_of(view, arguments.vm)
    if not arguments.runs:
        _tell(chosen(runs, arguments.number), arguments)
    elif arguments.svg is None:
        _list(runs, as_json=arguments.json)
    else:
        raise HostError("--svg draws one run, and --runs lists them: say only one of them")
    return 0


def _tell(one: Run, arguments: Namespace) -> None:
    from host_agent.timeline import report

    if arguments.svg is not None:
        from host_agent.timeline.svg import picture

        _draw(picture(one), arguments.svg)
    elif arguments.json:
        options.print_json(report.values(one))
    else:
        print(report.title(one))
        _show(report.HEADER, report.rows_of(one))
        print(report.total(one))


def _list(runs: list[Run], *, as_json: bool) -> None:
    from host_agent.timeline import report

    if as_json:
        options.print_json([report.values(one) for one in runs])
    else:
        _show(report.RUNS_HEADER, report.list_of(runs))


def _show(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from host_agent.views.table import show

    show(header, rows)


def _draw(picture: str, path: Path) -> None:
    from host_agent.files import PUBLIC_FILE, write_whole

    if path == _STDOUT:
        sys.stdout.write(picture)
        return
    if path.exists() and not path.is_file():
        raise BadFile(f"{shown(path)}: not a file that a picture can replace; '-' is standard output")
    try:
        write_whole(path, picture.encode(), PUBLIC_FILE)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None
    print(f"{shown(path)}: drawn", file=sys.stderr)
