# SPDX-License-Identifier: Apache-2.0
"""Rows as a table for people: aligned text, and in colour where a terminal reads it. Cells must be safe to print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOUR_OF: Final = {
    "applied": "green", "unchanged": "green", "ready": "green",
    "failed": "red", "refused": "red", "rolled-back": "red", "key-changed": "red", "key-shared": "red", "bad-document": "red",
    "greeting": "yellow", "provisioning": "yellow", "unreachable": "yellow",
}  # fmt: skip


def show(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO | None = None) -> None:
    """Print the table to *out* (standard output)."""
    out = out or sys.stdout
    if out.isatty():
        _show_rich(header, rows, out)
    else:
        out.write(plain(header, rows))


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as aligned lines; a column that is empty in every row is left out."""
    columns = [column for column in range(len(header)) if any(row[column] for row in rows)]
    lines = [[header[c].upper() for c in columns], *([row[c] for c in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def _show_rich(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = [column for column in range(len(header)) if any(row[column] for row in rows)]
    for column in columns:
        table.add_column(header[column], overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[c], style=_COLOUR_OF.get(row[c], "")) for c in columns))
    Console(file=out, highlight=False).print(table)
