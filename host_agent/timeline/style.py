# SPDX-License-Identifier: Apache-2.0
"""How the picture of a run looks: colours that the colour-blind tell apart, and a pattern for each kind of bad end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.ledger.standing import Moment
from host_agent.talk.notices import DEGRADED, GOOD
from host_agent.timeline.bars import LOST, UNDER_WAY, Lane
from pv_channel.messages import Outcome

if TYPE_CHECKING:
    from host_agent.timeline.bars import Bar

_KIND: Final = {
    **dict.fromkeys(GOOD, "good"), Outcome.UNCHANGED.value: "same", Moment.IN_FORCE: "same", Moment.CONFIRMED: "good",
    Moment.SEALED: "sealed", Moment.REPORTED: "sealed",
    Outcome.FAILED.value: "bad", Outcome.REFUSED.value: "bad", Moment.REJECTED: "bad", DEGRADED: "bad",
    Outcome.ROLLED_BACK.value: "back", LOST: "lost", UNDER_WAY: "open", Outcome.PENDING.value: "open",
}  # fmt: skip

#: The colours of each kind on light and on dark ground; drawing programs know no variables of CSS, so each has its own rule.
_COLOURS: Final = {
    "good": ("#1f8a70", "#3fbf9b"), "same": ("#8aa4bd", "#7f9ab5"), "sealed": ("#3d6fa8", "#6fa3df"),
    "bad": ("#c8402f", "#f0705e"), "back": ("#d98a1f", "#f0ad4e"), "lost": ("#8c5a4a", "#c59485"),
    "open": ("#7b5ea7", "#ab8fdd"), "plain": ("#aeb4bd", "#6b727d"), "wait": ("#d5d9de", "#3c424c"),
    "ground": ("#fcfbf8", "#1c1f25"), "ink": ("#23272e", "#e8eaed"), "quiet": ("#5f6671", "#a7aeb8"),
    "grid": ("#e2e5e9", "#343943"), "fold": ("#eceae4", "#262a31"),
}  # fmt: skip
#: The strokes over the kinds that have a pattern, in a square of 6.
PATTERNS: Final = {"bad": "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2", "back": "M-1,5 l2,2 M0,0 l6,6 M5,-1 l2,2", "lost": "M0,3 h6",
                   "open": "M3,0 v6", "fold": "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2"}  # fmt: skip
_PLACED: Final = """
text { font: 12px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; white-space: pre }
.name { font-size: 21px; font-weight: 600 } .name .quiet { font-size: 15px; font-weight: 400 }
.total { font-size: 14px } .lane { font-weight: 600 } .mark, .words { font-size: 11px }
.grid, .line { stroke-width: 1 } .hatch { fill: none; stroke-width: 1.4; opacity: .75 } .fold .hatch { opacity: .12 }
.folded { fill: url(#pv-fold) }
.in { paint-order: stroke; stroke-width: 3px; stroke-linejoin: round }
"""


def style() -> str:
    """The picture's rules: for light ground, and for readers whose ground is dark."""
    return _PLACED + _rules(0) + "@media (prefers-color-scheme: dark) {\n" + _rules(1) + "}\n"


def _rules(ground: int) -> str:
    colour = {kind: colours[ground] for kind, colours in _COLOURS.items()}
    fills = {f".{kind}": colour[kind] for kind in colour if kind not in ("ink", "grid")} | {"text, .item": colour["ink"]}
    rules = [f"{selector} {{ fill: {shade} }}" for selector, shade in fills.items()]
    rules += [f".bar.{kind} > rect {{ fill: url(#pv-{kind}) }}" for kind in PATTERNS if kind != "fold"]
    rules += [f".grid, .line {{ stroke: {colour['grid']} }}", f".hatch {{ stroke: {colour['ground']} }}"]
    rules += [f".fold .hatch {{ stroke: {colour['ink']} }}", f".in {{ stroke: {colour['ground']} }}"]
    return "\n".join(rules) + "\n"


def kind_of(bar: Bar | str) -> str:
    """Which of the kinds that `style` knows *bar*, or a bar of that outcome, is drawn as."""
    if isinstance(bar, str):
        return _KIND.get(bar, "plain")
    return "wait" if bar.lane is Lane.CHANNEL and bar.end > bar.begin else _KIND.get(bar.outcome, "plain")
