# SPDX-License-Identifier: Apache-2.0
"""A guest's plan made safe to show: as lines for people, and as values for JSON. Both agents show it the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pv_channel.messages import MAX_DETAIL, MAX_STEP
from pv_channel.text import printable

if TYPE_CHECKING:
    from pv_channel.messages import Planned, PlannedItem


def problem(planned: Planned) -> str:
    """Why the document would be refused, or the first of its items that cannot be; empty where it is possible."""
    if _word(planned.reason):
        path, detail = printable(planned.path, MAX_DETAIL), printable(planned.detail, MAX_DETAIL)
        return _joined("refused", path, _word(planned.reason), detail)
    impossible = next((item for item in planned.items if _word(item.reason)), None)
    return "" if impossible is None else _impossible(impossible)


def is_change(planned: Planned) -> bool:
    """Whether anything would be changed."""
    return any(item.steps for item in planned.items)


def lines(planned: Planned) -> list[str]:
    """Each item, with its steps below it; or why the whole is refused."""
    if _word(planned.reason):
        return [problem(planned)]
    shown = []
    for item in planned.items:
        remark = printable(item.detail, MAX_DETAIL)
        if _word(item.reason):
            shown.append(_impossible(item))
        else:
            nothing = "" if item.steps else ": nothing to do"
            shown.append(printable(item.item, 40) + (f" ({remark})" if remark else "") + nothing)
        shown += [f"  {printable(step, MAX_STEP)}" for step in item.steps]
    return (shown or ["nothing to do: the document names no item"]) + ["(there is more than a message holds)"] * planned.cut


def values(planned: Planned) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "generation": planned.generation,
        "outcome": "refused" if _word(planned.reason) else "failed" if problem(planned) else "planned",
        "changes": is_change(planned),
        "reason": _word(planned.reason),
        "path": printable(planned.path, MAX_DETAIL),
        "detail": printable(planned.detail, MAX_DETAIL),
        "items": [
            {
                "item": printable(item.item, 40),
                "reason": _word(item.reason),
                "detail": printable(item.detail, MAX_DETAIL),
                "steps": [printable(step, MAX_STEP) for step in item.steps],
            }
            for item in planned.items
        ],
        "cut": planned.cut,
    }


def _impossible(item: PlannedItem) -> str:
    return _joined(printable(item.item, 40), "cannot be", _word(item.reason), printable(item.detail, MAX_DETAIL))


def _word(reason: object) -> str:
    return printable(reason, 40) if isinstance(reason, str) else ""


def _joined(*parts: str) -> str:
    return ": ".join(part for part in parts if part)
