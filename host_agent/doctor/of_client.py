# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with who is connected to a channel in dom0: somebody else is, or the service is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen

if TYPE_CHECKING:
    from host_agent.channels.processes import Process
    from host_agent.doctor.evidence import Case


def _someone_else(case: Case) -> Seen | None:
    others = _others(case)
    if not others or case.ends is None:
        return None
    queued = case.dom0.service is not None and case.dom0.service in [each for one in case.ends.listeners for each in one.queued]
    turn = ("the service is connected, and waits in QEMU's queue",) if queued else ()
    return Seen(
        "another program is connected to the channel, and QEMU serves one at a time",
        (*(f"connected to {case.ends.path}: {other}, {' '.join(other.argv)[:200]}" for other in others), *turn),
        (("pid", str(others[0].pid)),),
    )


def _others(case: Case) -> list[Process]:
    if case.ends is None:
        return []
    ours = None if case.dom0.service is None else case.dom0.service.pid
    qemu = None if case.qemu is None else case.qemu.pid
    return [one for one in dict.fromkeys(case.ends.clients) if one.pid not in (ours, qemu)]


def _not_connected(case: Case) -> Seen | None:
    service = case.dom0.service
    if service is None or case.ends is None or case.is_served or case.dom0.peers_trouble:
        return None
    if service in case.ends.clients:  # it waits for its turn
        return None
    says = "the ledger does not know the VM" if case.record is None else f"the ledger: {case.record.state}: {case.record.detail}"
    return Seen(
        "the service runs, and is not connected to the channel",
        (f"process {service.pid} has no end of {case.ends.path}", says),
        (("documents", str(case.dom0.documents)),),
    )


DIAGNOSES: Final = (
    Diagnosis(
        "someone-else-connected", Layer.CLIENT,
        "another program holds the channel; whatever the guest says goes to that one",
        "end it (kill {pid}) if it has no business there; it may be a 'pv-host-agent push', a socat, or a second host agent",
        _someone_else, (Layer.CLIENT, Layer.AGENT),
    ),
    Diagnosis(
        "not-connected", Layer.CLIENT,
        "nothing is wrong with the channel, and the service does not use it: it waits to try again, or serves other documents",
        "wait a minute and run doctor again; then: journalctl -u pv-host-agent, and does it read {documents}?",
        _not_connected, (Layer.AGENT,),
    ),
)  # fmt: skip
