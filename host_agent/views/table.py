# SPDX-License-Identifier: Apache-2.0
"""Rows as a table for people: aligned text, and in colour where a terminal reads it. Cells must be safe to print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, TextIO

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

#: The colour of a word that says how something is. What is only off, or away, has none.
COLOUR_OF: Final = {
    "applied": "green", "unchanged": "green", "ready": "green",
    "failed": "red", "refused": "red", "rolled-back": "red", "key-changed": "red", "key-shared": "red", "bad-document": "red",
    "degraded": "red", "greeting": "yellow", "provisioning": "yellow", "pending": "yellow",
}  # fmt: skip
#: A longer cell is text, and folds; shorter ones are words, and stay whole.
_WORDS: Final = 36
#: Text in less than this is not worth reading.
_LEAST_TEXT: Final = 28
_GAP: Final = 2


def show(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO | None = None, *, less: Sequence[str] = ()) -> None:
    """Print the table to *out* (standard output). On a narrow terminal the columns *less* are left out, one after the other."""
    out = out or sys.stdout
    if out.isatty():
        _show_rich(header, rows, out, less)
    else:
        out.write(plain(header, rows))


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as aligned lines; a column that is empty in every row is left out."""
    columns = _filled(header, rows)
    lines = [[header[c].upper() for c in columns], *([row[c] for c in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def drawn(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int, less: Sequence[str] = (), *, folds: bool = True
) -> Table:
    """The table for a terminal of *width* columns; long text folds, or else is cut: then each row has one line."""
    from rich.table import Table
    from rich.text import Text

    widths = {c: max(len(header[c]), *(len(row[c]) for row in rows)) for c in _filled(header, rows)} if rows else {}
    for name in less:
        if sum(min(w, _LEAST_TEXT) if w > _WORDS else w for w in widths.values()) + _GAP * len(widths) > width:
            widths.pop(header.index(name), None)
    texts = [column for column, natural in widths.items() if natural > _WORDS]
    of_words = sum(natural for column, natural in widths.items() if column not in texts) + _GAP * len(widths)
    room = max((width - of_words) // max(len(texts), 1), _LEAST_TEXT)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in widths:
        table.add_column(header[column], overflow="fold" if column in texts else "ellipsis", no_wrap=column not in texts)
    for row in rows:
        cells = {c: printable(row[c], room) if c in texts and not folds else row[c] for c in widths}
        table.add_row(*(Text(cell, style=COLOUR_OF.get(cell, "")) for cell in cells.values()))
    return table


def _filled(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [column for column in range(len(header)) if any(row[column] for row in rows)]


def _show_rich(header: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO, less: Sequence[str]) -> None:
    from rich.console import Console

    console = Console(file=out, highlight=False)
    console.print(drawn(header, rows, console.width, less))
