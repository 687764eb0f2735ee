# SPDX-License-Identifier: Apache-2.0
"""From evidence to findings: what is wrong, the most fundamental first, with what of the rest it explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from host_agent.doctor.catalogue import OF_HOST, OF_VM
from host_agent.doctor.diagnosis import About, finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.doctor.diagnosis import Diagnosis, Finding, Seen
    from host_agent.doctor.evidence import Case, Dom0, Evidence

Of = TypeVar("Of")


class _Kept:
    """A diagnosis that applies and that none before it explains."""

    def __init__(self, diagnosis: Diagnosis[Case] | Diagnosis[Dom0], about: About, seen: Seen) -> None:
        self.diagnosis, self.about, self.seen = diagnosis, about, seen
        self.explains: list[str] = []

    def finding(self) -> Finding:
        """It, for the operator."""
        return finding(self.diagnosis.name, self.diagnosis.cure, self.about, self.seen, tuple(self.explains))


def examine(evidence: Evidence) -> list[Finding]:
    """What is wrong with the host, and then with each VM; nothing is named on its own that follows from something before it."""
    of_host = [_Kept(diagnosis, About(), seen) for diagnosis, seen in _applying(OF_HOST, evidence.dom0)]
    kept = list(of_host)
    for case in evidence.cases:
        of_vm: list[_Kept] = []
        about = About(case.vm, case.domains[0].name if case.domains else "")
        for diagnosis, seen in _applying(OF_VM, case):
            cause = next((one for one in (*of_host, *of_vm) if diagnosis.layer in one.diagnosis.explains), None)
            if cause is None:
                of_vm.append(_Kept(diagnosis, about, seen))
            else:
                cause.explains.append(diagnosis.name if cause.about.vm else f"{case.vm}: {diagnosis.name}")
        kept += of_vm
    return [one.finding() for one in kept]


def _applying(diagnoses: Sequence[Diagnosis[Of]], of: Of) -> list[tuple[Diagnosis[Of], Seen]]:
    looked = ((diagnosis, diagnosis.look(of)) for diagnosis in diagnoses)
    return [(diagnosis, seen) for diagnosis, seen in looked if seen is not None]
