# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with the QEMU that carries a domain's channels: none, dead, or not yet there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen, beyond

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case

#: XenbusStateInitialising: what the toolstack wrote, and QEMU changes when it has taken the console up.
_NOT_TAKEN_UP: Final = "1"


def _no_qemu(case: Case) -> Seen | None:
    if not case.is_running or case.console is None or case.qemu is not None:
        return None
    node = f"/local/domain/{case.server}/image/device-model-pid"
    return Seen("the domain has no QEMU, and channels are QEMU's", (f"{node} is missing, or is not dom0's",))


def _dead(case: Case) -> Seen | None:
    qemu = case.qemu
    if not case.is_running or qemu is None or qemu.is_it:
        return None
    node = f"/local/domain/{case.server}/image/device-model-pid is {qemu.pid}"
    if qemu.process is None:
        return Seen("the domain's QEMU is dead; its channels are, too", (f"{node}, and there is no such process",))
    what = f"and that is {qemu.process}, which has no '-xen-domid {case.server}'"
    return Seen("the domain's QEMU is dead; its channels are, too", (node, what))


def _not_ready(case: Case) -> Seen | None:
    if case.console is None or case.console.backend_state not in ("", _NOT_TAKEN_UP):
        return None
    node = f"/local/domain/0/backend/console/{case.server}/{case.console.id}/state"
    state = case.console.backend_state or "missing"
    return Seen("QEMU has not taken the channel up", (f"{node} is {state}; 2 to 4 would be right",))


_BEYOND: Final = beyond(Layer.QEMU)

DIAGNOSES: Final = (
    Diagnosis(
        "no-qemu", Layer.QEMU,
        "the toolstack wrote down no QEMU for the domain, and xenconsoled serves the primary console alone",
        "create the VM anew; with a channel in its configuration xl starts a QEMU for it (is qemu-system-xen installed?)",
        _no_qemu, (Layer.QEMU, *_BEYOND),
    ),
    Diagnosis(
        "qemu-dead", Layer.QEMU,
        "the domain runs on without its QEMU; more than 2 kB from the guest would hang one of its CPUs",
        "why: the newest /var/log/xen/qemu-dm-{domain}.log*, and dmesg; nothing but a new start brings it back:"
        " xl shutdown {domain} (or xl destroy {domain}), then create it anew",
        _dead, (Layer.QEMU, *_BEYOND),
    ),
    Diagnosis(
        "qemu-not-ready", Layer.QEMU,
        "QEMU runs and does not know of this channel: it is still starting, or has no console of the kind",
        "wait a few seconds; then: the newest /var/log/xen/qemu-dm-{domain}.log*, and create the VM anew",
        _not_ready, _BEYOND,
    ),
)  # fmt: skip
