# SPDX-License-Identifier: Apache-2.0
"""What doctor tells: its findings for people and for programs, what it looked at where it found nothing, and its catalogue."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from host_agent.doctor.catalogue import OF_HOST, OF_VM
from host_agent.doctor.diagnosis import in_general
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.doctor.diagnosis import Finding
    from host_agent.doctor.evidence import Case, Dom0, Evidence

_WIDTH: Final = 110
#: A fleet's worth of consequences is no help.
_MOST_EXPLAINED: Final = 12


def text_of(found: Sequence[Finding]) -> str:
    """The findings for people, each with what was seen and the cure."""
    return "\n\n".join(_paragraph(each) for each in found)


def _paragraph(found: Finding) -> str:
    about = found.vm or "this host"
    lines = [f"{about}: {found.verdict} [{found.name}]"]
    lines += [_line("seen", evidence) for evidence in found.evidence]
    lines.append(_line("cure", found.cure))
    if found.explains:
        more = len(found.explains) - _MOST_EXPLAINED
        rest = f" and {more} more" if more > 0 else ""
        lines.append(_line("so", f"this explains: {', '.join(found.explains[:_MOST_EXPLAINED])}{rest}"))
    return "\n".join(lines)


def _line(label: str, text: str) -> str:
    first, rest = f"  {label + ':':<6}", " " * 8
    # Words are paths and commands, and stay whole.
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def nothing_wrong(evidence: Evidence) -> str:
    """What was looked at, where nothing was found."""
    vms = evidence.cases
    if len(vms) == 1:
        return f"nothing wrong found: {printable(_looked_at(vms[0], evidence.dom0), 500)}"
    served = sum(case.is_served for case in vms)
    return f"nothing wrong found: {_host(evidence.dom0)}; {len(vms)} VMs, of which {served} are connected to"


def _host(dom0: Dom0) -> str:
    fleet = "" if dom0.fleet is None else f", its part in the fleet as dom0 {printable(dom0.fleet.dom0, 100)}"
    return f"the service, its key, ledger, directories, disk and limits{fleet}"


def _looked_at(case: Case, dom0: Dom0) -> str:
    parts = [_host(dom0), f"{case.vm}'s document"]
    if case.is_running:
        parts.append(f"domain {case.domid}")
    if case.qemu is not None:
        parts.append(f"its QEMU (pid {case.qemu.pid})")
    if case.place:
        parts.append(f"the channel at {case.place} and who is connected to it")
    if case.record is not None:
        parts.append(f"what is on record (state {case.record.state})")
    return ", ".join(parts)


def values_of(found: Sequence[Finding], evidence: Evidence) -> dict[str, Any]:
    """The same as ``--json`` prints it. The names are an interface: add, never change."""
    return {
        "findings": [
            {
                "vm": each.vm,
                "name": each.name,
                "verdict": each.verdict,
                "evidence": list(each.evidence),
                "cure": each.cure,
                "explains": list(each.explains),
            }
            for each in found
        ],
        "looked-at": [case.vm for case in evidence.cases],
        "xen": evidence.dom0.knows_domains,
        "documents": evidence.dom0.source,
    }


def catalogue() -> list[dict[str, str]]:
    """Every diagnosis: its name, what it means, and its cure, with capitals for what a finding fills in."""
    known = [(each.name, each.meaning, each.cure) for each in OF_HOST] + [(each.name, each.meaning, each.cure) for each in OF_VM]
    return [{"name": name, "meaning": meaning, "cure": in_general(cure)} for name, meaning, cure in known]


def catalogue_text() -> str:
    """The catalogue for people."""
    return "\n\n".join(
        "\n".join((each["name"], _line("is", each["meaning"]), _line("cure", each["cure"]))) for each in catalogue()
    )
