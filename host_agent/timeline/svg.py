# SPDX-License-Identifier: Apache-2.0
"""A run as a picture: one SVG document that needs nothing else, with no script in it, readable on light and dark ground.

Words go into it as text nodes and attributes of an element tree, which is the one door that escapes them; outcomes are told by
word and pattern, colour only helps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from xml.etree import ElementTree as ET

from host_agent.timeline.bars import Lane, bars_of
from host_agent.timeline.durations import on_axis, spoken
from host_agent.timeline.report import total
from host_agent.timeline.runs import clock
from host_agent.timeline.scale import scale_of
from host_agent.timeline.style import PATTERNS, kind_of, style
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from host_agent.timeline.bars import Bar
    from host_agent.timeline.runs import Run
    from host_agent.timeline.scale import Scale

_WIDTH: Final = 1000
_MARGIN: Final = 24
_LEFT: Final = 190  # where the line begins; to its left stand names
_RIGHT: Final = _WIDTH - _MARGIN - 12
_TOP: Final = 104
_ROW: Final = 26
_BAR: Final = 16
_FOOT: Final = 58
#: A bar is seen, however short it was.
_LEAST: Final = 3.0
#: A character of the labels is about this wide.
_CHARACTER: Final = 6.6
_MARKS: Final = 8
#: Items are drawn up to this many rows; a picture is for a screen, the rest is in the table.
MAX_ITEM_ROWS: Final = 40
_MAX_NAME, _MAX_TITLE, _MAX_DETAIL = 22, 60, 200


class _Row(NamedTuple):
    """One row: what it is called, whether that is a lane's own name, and its bars."""

    name: str
    is_lane: bool
    bars: list[Bar]


def picture(run: Run) -> str:
    """The SVG document of *run*. No steps whatsoever make it raise, or larger than a few hundred kilobytes."""
    rows = _rows(bars_of(run))
    height = _TOP + _ROW * len(rows) + _FOOT
    box = {"viewBox": f"0 0 {_WIDTH} {height}", "width": str(_WIDTH), "height": str(height)}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **box, "role": "img", "aria-labelledby": "title desc"})
    name = printable(run.vm, _MAX_TITLE)
    _text_of(root, "title", f"{name}: {run.name}", id="title")
    _text_of(root, "desc", _description(run), id="desc")
    _text_of(root, "style", style())
    _patterns(root)
    ET.SubElement(root, "rect", {"class": "ground", "width": str(_WIDTH), "height": str(height), "rx": "10"})
    _head(root, run, name)
    scale = scale_of(run.steps)
    _axis(root, scale, len(rows))
    for number, row in enumerate(rows):
        _draw_row(root, scale, row, _TOP + _ROW * number)
    _foot(root, {bar.outcome for row in rows for bar in row.bars}, height)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _rows(bars: list[Bar]) -> list[_Row]:
    """A row for each lane that has a bar, and below that of the document one for each item by its name."""
    rows = []
    for lane in Lane:
        here = [bar for bar in bars if bar.lane is lane]
        if here and lane is not Lane.ITEM:
            rows.append(_Row(lane.value, is_lane=True, bars=here))
        elif here:
            items: dict[str, list[Bar]] = {}
            for bar in here:
                items.setdefault(bar.name, []).append(bar)
            rows += [_Row(name, is_lane=False, bars=bars) for name, bars in list(items.items())[:MAX_ITEM_ROWS]]
            if len(items) > MAX_ITEM_ROWS:
                rows.append(_Row(f"and {len(items) - MAX_ITEM_ROWS} more", is_lane=False, bars=[]))
    return rows


def _description(run: Run) -> str:
    """The picture in words, for who does not see it."""
    steps = "; ".join(f"{spoken(step.at)} {step.what} {step.detail}".rstrip() for step in run.steps)
    return f"{total(run)}. {run.subject}. Steps: {steps}."


def _patterns(root: ET.Element) -> None:
    defs = ET.SubElement(root, "defs")
    for kind, strokes in PATTERNS.items():
        box = {"id": f"pv-{kind}", "class": kind, "width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
        pattern = ET.SubElement(defs, "pattern", box)
        ET.SubElement(pattern, "rect", {"class": kind, "width": "6", "height": "6"})
        ET.SubElement(pattern, "path", {"class": "hatch", "d": strokes})


def _head(root: ET.Element, run: Run, name: str) -> None:
    line = _text(root, _MARGIN, 38, "", "name")
    line.text = name
    _text_of(line, "tspan", f"  {run.name}", **{"class": "quiet", "dx": "8"})
    about = " - ".join(part for part in (printable(run.subject, 90), clock(run.began)) if part)
    _text(root, _MARGIN, 60, about, "quiet")
    _text(root, _MARGIN, 80, total(run).removeprefix(f"{run.name}: "), "total")


def _axis(root: ET.Element, scale: Scale, rows: int) -> None:
    """Marks with their times, and the waits that are folded."""
    bottom = _TOP + _ROW * rows
    for fold in scale.folds:
        begin, end = _x(scale, fold.begin), _x(scale, fold.end)
        box = {"class": "folded", "x": _n(begin), "y": str(_TOP - 6), "width": _n(end - begin), "height": str(bottom - _TOP + 6)}
        group = ET.SubElement(root, "g")
        _text_of(group, "title", f"{spoken(fold.end - fold.begin)} of waiting, shown shorter")
        ET.SubElement(group, "rect", box)
        label = f"~ {spoken(fold.end - fold.begin)} ~"
        if end - begin > len(label) * _CHARACTER:
            _text(group, (begin + end) / 2, bottom + 16, label, "mark", "middle")
    step, marks = scale.ticks(_MARKS)
    free = 0.0
    for mark in marks:
        x = _x(scale, mark)
        ET.SubElement(root, "line", {"class": "grid", "x1": _n(x), "x2": _n(x), "y1": str(_TOP - 6), "y2": str(bottom)})
        label = on_axis(mark, step)
        half = len(label) * _CHARACTER / 2
        if x - half >= free:
            _text(root, x, bottom + 16, label, "mark", "middle")
            free = x + half + _CHARACTER


def _draw_row(root: ET.Element, scale: Scale, row: _Row, top: int) -> None:
    ET.SubElement(root, "line", {"class": "line", "x1": str(_MARGIN), "x2": str(_RIGHT), "y1": str(top), "y2": str(top)})
    kind, x = ("lane", _MARGIN) if row.is_lane else ("item", _MARGIN + 14)
    _text(root, x, top + 18, printable(row.name, _MAX_NAME), kind)
    for number, bar in enumerate(row.bars, 1):
        _draw_bar(root, scale, bar, top, with_words=number == len(row.bars))


def _draw_bar(root: ET.Element, scale: Scale, bar: Bar, top: int, *, with_words: bool) -> None:
    begin, end = _x(scale, bar.begin), _x(scale, bar.end)
    end = max(end, begin + _LEAST)
    group = ET.SubElement(root, "g", {"class": f"bar {kind_of(bar)}"})
    words = _words(bar)
    name = printable(bar.name, _MAX_DETAIL)
    detail = "" if bar.detail == bar.name else printable(bar.detail, _MAX_DETAIL)
    told = (name if not words.startswith(name) else "", words, f"from {spoken(bar.begin)} on", detail)
    _text_of(group, "title", ": ".join(part for part in told if part))
    box = {"x": _n(begin), "y": str(top + (_ROW - _BAR) // 2), "width": _n(end - begin), "height": str(_BAR), "rx": "2"}
    ET.SubElement(group, "rect", box)
    if with_words:
        _label(group, begin, end, top + 18, words, inside=bar.lane is Lane.CHANNEL)


def _label(group: ET.Element, begin: float, end: float, y: float, words: str, *, inside: bool) -> None:
    """The words of a bar where there is room for them: *inside*, if that is asked for, after it, before it, or else in it."""
    room = len(words) * _CHARACTER + 8
    if inside and end - begin > room:
        _text(group, end - 6, y, words, "words in", "end")
    elif end + room <= _RIGHT + _MARGIN:
        _text(group, end + 6, y, words, "words")
    elif begin - room >= _LEFT:
        _text(group, begin - 6, y, words, "words", "end")
    else:
        _text(group, end - 6, y, words, "words in", "end")


def _words(bar: Bar) -> str:
    """What is said of a bar beside it: what came of it, and how long it took."""
    took = spoken(bar.end - bar.begin) if bar.end > bar.begin else ""
    what = bar.name if bar.lane is Lane.CHANNEL else printable(bar.outcome, _MAX_NAME)
    return " ".join(part for part in (what, took) if part)


def _foot(root: ET.Element, outcomes: Iterable[str], height: int) -> None:
    """What the kinds of bar that occur mean."""
    x = float(_LEFT)
    for outcome in sorted(set(outcomes) - {""}):
        shown = printable(outcome, _MAX_NAME)
        group = ET.SubElement(root, "g", {"class": f"bar {kind_of(outcome)}"})
        ET.SubElement(group, "rect", {"x": _n(x), "y": str(height - 26), "width": "14", "height": "12", "rx": "2"})
        _text(group, x + 20, height - 16, shown, "mark")
        x += 20 + len(shown) * _CHARACTER + 22
        if x > _RIGHT - 80:
            break


def _x(scale: Scale, at: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * scale.place(at)


def _n(number: float) -> str:
    return f"{number:.1f}"


def _text(parent: ET.Element, x: float, y: float, words: str, kind: str, anchor: str = "start") -> ET.Element:
    element = ET.SubElement(parent, "text", {"x": _n(x), "y": _n(y), "class": kind, "text-anchor": anchor})
    element.text = words
    return element


def _text_of(parent: ET.Element, tag: str, words: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = words
