# SPDX-License-Identifier: Apache-2.0
"""A guest's result made safe to print: as rows for a table, and as values for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pv_channel.messages import MAX_DETAIL, MAX_LOG_LINE
from pv_channel.text import printable

if TYPE_CHECKING:
    from host_agent.talk.notices import Settlement
    from pv_channel.messages import ItemResult, Result

#: An ssh public key is ASCII and as long as an RSA key of 16,384 bits.
_MAX_KEY: Final = 2048

ITEM_HEADER: Final = ("item", "outcome", "reason", "detail")


def item_rows(items: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """One row an item, its log below it."""
    rows = []
    for item in items:
        rows.append((item["item"], item["outcome"], item["reason"], item["detail"]))
        rows += [("", "", "", f"| {line}") for line in item["log"]]
    return rows


def item_value(item: str, outcome: str, reason: str, detail: str, log: list[str]) -> dict[str, Any]:
    """One item as JSON values."""
    return {
        "item": printable(item, 40), "outcome": printable(outcome, 40), "reason": printable(reason, 40),
        "detail": printable(detail, MAX_DETAIL), "log": [printable(line, MAX_LOG_LINE) for line in log],
    }  # fmt: skip


def item_values(items: list[ItemResult]) -> list[dict[str, Any]]:
    """Each item as JSON values."""
    return [item_value(item.item, item.outcome.value, _word(item.reason), item.detail, item.log) for item in items]


def result_values(result: Result) -> dict[str, Any]:
    """The whole as JSON values, everything in it printable ASCII."""
    return {
        "reason": printable(_word(result.reason), 40),
        "path": printable(result.path, MAX_DETAIL),
        "detail": printable(result.detail, MAX_DETAIL),
        "milliseconds": result.milliseconds,
        "items": item_values(result.items),
        "host-keys": [printable(key, _MAX_KEY) for key in result.host_keys],
    }


def item_text(item: ItemResult) -> str:
    """One item in one line."""
    parts = [f"{printable(item.item, 40)} {item.outcome.value}", printable(_word(item.reason), 40), printable(item.detail, 200)]
    return ": ".join(part for part in parts if part)


def why(settlement: Settlement) -> str:
    """Why it is not a good one, in one line: what the guest said of the whole, else of the first item that failed."""
    result = settlement.result
    failed = next((item for item in settlement.items if item.outcome.value in ("failed", "refused")), None)
    if failed is not None and (result is None or not _word(result.reason)):
        parts = [printable(failed.item, 40), printable(_word(failed.reason), 40), printable(failed.detail, MAX_DETAIL)]
    elif result is not None:
        parts = [printable(result.path, 200), printable(_word(result.reason), 40), printable(result.detail, MAX_DETAIL)]
    else:
        parts = []
    return ": ".join(part for part in parts if part)


def _word(reason: object) -> str:
    return reason if isinstance(reason, str) else ""
