# SPDX-License-Identifier: Apache-2.0
"""All VMs at a glance: a row for each, how many stand where, and only those that stand as the operator asks."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from host_agent.errors import HostError
from host_agent.ledger.standing import State
from host_agent.views.verdict import Verdict
from host_agent.views.vm_values import ago
from pv_channel.messages import Outcome
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER: Final = ("vm", "state", "domid", "wanted", "applied", "outcome", "why", "address", "heard")
#: What a narrow terminal can do without, the least missed first.
LESS: Final = ("outcome", "domid", "address", "wanted", "heard", "applied")
#: Where no terminal folds it, a reason is cut to what a line of this many columns leaves it, or a bit more.
_LINE: Final = 120
_WHY, _LEAST_WHY, _MOST_WHY = HEADER.index("why"), 32, 200
#: The words for where a VM stands, in the order of a summary: what is well, on its way, away, and wrong.
WORDS: Final = (
    State.READY, State.PROVISIONING, State.GREETING, State.UNREACHABLE, State.DEGRADED,
    Outcome.FAILED.value, Outcome.ROLLED_BACK.value, State.REFUSED,
    State.KEY_CHANGED, State.KEY_SHARED, State.BAD_DOCUMENT, State.REMOVED,
)  # fmt: skip


def rows_of(vms: list[dict[str, Any]], now: float, *, folded: bool) -> list[tuple[str, ...]]:
    """A row for each of *vms*, as `vm_values` has them, under `HEADER`. *folded* is whether a long reason may be whole."""
    rows = [_row_of(vm, now) for vm in vms]
    if folded or not rows:
        return rows
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    room = max(_LINE - sum(widths) + widths[_WHY] - 2 * (len(HEADER) - 1), _LEAST_WHY)
    return [(*row[:_WHY], printable(row[_WHY], room), *row[_WHY + 1 :]) for row in rows]


def _row_of(vm: dict[str, Any], now: float) -> tuple[str, ...]:
    heard = max(vm["last-heard"], vm["last-heartbeat"])
    return (
        vm["vm"],
        vm["standing"],
        "" if vm["domid"] is None else str(vm["domid"]),
        "again" if vm["reprovision"] else str(vm["generation-wanted"] or "new"),
        str(vm["generation-applied"] or "-"),
        vm["outcome"],
        "" if vm["verdict"] == Verdict.READY.value else printable(vm["why"], _MOST_WHY),
        (vm["facts"]["addresses"] or [""])[0].partition("/")[0],
        ago(now - datetime.fromisoformat(heard).timestamp()) if heard else "never",
    )


def summary(words: Iterable[str]) -> str:
    """How many VMs there are, and how many stand at each of these *words*."""
    counts = Counter(words)
    total = counts.total()
    in_order = [word for word in WORDS if word in counts] + [word for word in counts if word not in WORDS]
    of_each = ", ".join(f"{counts[word]:,} {word}" for word in in_order)
    return f"{total:,} VM{'' if total == 1 else 's'}{of_each and ': '}{of_each}"


def only(vms: list[dict[str, Any]], asked: str | None) -> list[dict[str, Any]]:
    """Those that stand at one of the words in *asked*, comma-separated; raise `HostError` for a word that is none."""
    if asked is None:
        return vms
    words = {word.strip() for word in asked.split(",")}
    unknown = sorted(words - set(WORDS))
    if unknown:
        raise HostError(f"--only {printable(unknown[0])}: no VM can stand there; one of {', '.join(WORDS)}")
    return [vm for vm in vms if words & {vm["standing"], vm["state"]}]
