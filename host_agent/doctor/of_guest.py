# SPDX-License-Identifier: Apache-2.0
"""What can be wrong in the guest, as far as dom0 can see: its kernel's driver, its agent, whatever else is on its terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.channels.listing import state_word
from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen
from host_agent.ledger.standing import State
from host_agent.talk.timing import DEFAULT

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case

#: XenbusState (xen/include/public/io/xenbus.h): the states of a driver on its way up, and of one that is going.
_COMING: Final = ("1", "2", "3")
_GOING: Final = ("5", "6")
#: So many answers were missed that it is not a busy guest's delay.
HEARTBEAT_SECONDS: Final = 4 * (DEFAULT.ping_every + DEFAULT.pong)
_UNANSWERED: Final = (State.GREETING, State.UNREACHABLE)


def _kernel(case: Case) -> Seen | None:
    if case.console is None or not case.console.has_frontend or case.console.frontend_state not in _COMING:
        return None
    return Seen(
        "the guest's kernel has not connected to the channel",
        (_frontend(case), _backend(case), "right after a start this is the guest still booting"),
    )


def _closed(case: Case) -> Seen | None:
    if case.console is None or case.console.frontend_state not in _GOING:
        return None
    return Seen("the guest's kernel has closed the channel", (_frontend(case), "a guest that shuts down does that, too"))


def _frontend(case: Case) -> str:
    number, state = ("", "") if case.console is None else (case.console.id, case.console.frontend_state)
    node = f"/local/domain/{case.server}/device/console/{number}/state"
    return f"{node} is {state} ({state_word(state)}), and 4 (connected) would be right"


def _backend(case: Case) -> str:
    state = "" if case.console is None else case.console.backend_state
    return f"QEMU's end is ready: its state is {state} ({state_word(state)})"


def _strangers(case: Case) -> Seen | None:
    record = case.record
    if record is None or not _is_unanswered(case) or record.dropped <= record.echoed:
        return None
    return Seen(
        "something in the guest writes on the channel's terminal, and it is not the agent",
        (f"{record.dropped} lines came that are none of the protocol, {record.echoed} of our own came back", _greeted(case)),
    )


def _echoes(case: Case) -> Seen | None:
    record = case.record
    if record is None or not _is_unanswered(case) or not record.echoed or record.dropped > record.echoed:
        return None
    return Seen(
        "the guest's terminal sends back what it gets, as one does that no agent has opened",
        (f"{record.echoed} of our own lines came back, and {record.dropped} others, which an echo cut short", _greeted(case)),
    )


def _silence(case: Case) -> Seen | None:
    record = case.record
    if record is None or not _is_unanswered(case) or record.dropped or record.echoed:
        return None
    return Seen("the guest has never answered on the channel", ("nothing at all has come from it", _greeted(case)))


def _is_unanswered(case: Case) -> bool:
    """Whether we greet and no guest has ever answered."""
    return case.is_served and case.record is not None and case.record.state in _UNANSWERED and not case.record.sessions


def _greeted(case: Case) -> str:
    waiting = max((one.unread for one in case.ends.listeners if one.here), default=0) if case.ends is not None else 0
    full = f"; {waiting} bytes wait in QEMU, for nobody in the guest reads" if waiting else "; QEMU has read all that we sent"
    return f"the service is connected to {case.place}{full}"


def _stuck(case: Case) -> Seen | None:
    listener = None if case.ends is None else case.ends.listener
    if listener is None or not listener.unread or not case.is_served or case.record is None or not case.record.sessions:
        return None
    return Seen(
        "the guest has stopped reading: the channel's ring is full, and what was sent waits in QEMU",
        (
            f"{listener.unread} bytes of the service's wait at {case.place}",
            f"the ledger has {case.record.sessions} handshakes with the guest",
        ),
    )


def _silent(case: Case) -> Seen | None:
    record = case.record
    if record is None or not case.is_served or record.state not in _UNANSWERED or not record.sessions:
        return None
    return Seen(
        "the guest's agent answered before, and does not now",
        (f"the ledger has {record.sessions} handshakes with it, and since: {record.state}: {record.detail}", _greeted(case)),
    )


def _heartbeat(case: Case) -> Seen | None:
    record = case.record
    if record is None or case.dom0.service is None or record.state not in (State.READY, State.DEGRADED):
        return None
    age = case.now - record.last_heartbeat
    if not record.last_heartbeat or age < HEARTBEAT_SECONDS:
        return None
    return Seen(
        "the guest has not said for long that it is there",
        (f"its last sign of life is {age:.0f} s old, and it is asked every {DEFAULT.ping_every:.0f} s",),
    )


_AGENT: Final = (Layer.AGENT,)

DIAGNOSES: Final = (
    Diagnosis(
        "guest-kernel-old", Layer.KERNEL,
        "the guest's kernel does not take the channel up: it still boots, lacks CONFIG_HVC_XEN, or is of Dec 2021 to Nov 2023"
        " without 'hvc/xen: fix event channel handling for secondary consoles'",
        "if dmesg in the guest has 'xenconsole: probe of console-N failed with error -2': upgrade the guest's kernel;"
        " a guest that boots needs patience alone",
        _kernel, _AGENT,
    ),
    Diagnosis(
        "guest-closed", Layer.KERNEL,
        "the guest's driver was unbound, or the guest is shutting down; binding it again does not reconnect",
        "reboot the VM: xl reboot {domain}",
        _closed, _AGENT,
    ),
    Diagnosis(
        "strangers-on-tty", Layer.AGENT,
        "a getty, ModemManager or another program has the channel's terminal in the guest",
        "in the guest: fuser -v /dev/hvc1 (or its number) says who; systemctl mask --now serial-getty@hvc1;"
        " 'pv-guest-agent install' tells ModemManager to keep off; then restart the agent",
        _strangers, _AGENT,
    ),
    Diagnosis(
        "echo-only", Layer.AGENT,
        "the guest's terminal was opened and no agent reads it: it sends our lines back, as each does in its first state",
        "in the guest: 'pv-guest-agent channels' says whether it is installed and sees the channel;"
        " systemctl status 'pv-guest-agent@*' whether it runs",
        _echoes, _AGENT,
    ),
    Diagnosis(
        "no-agent", Layer.AGENT,
        "all is well up to the guest's kernel, and nobody answers: no agent is installed or running",
        "in the guest: 'pv-guest-agent channels' says whether it is installed and sees the channel; a template gets it by"
        " 'pv-guest-agent install'",
        _silence, _AGENT,
    ),
    Diagnosis(
        "guest-does-not-read", Layer.AGENT,
        "an agent that did answer reads no more: the guest hangs, is paused, or its agent does",
        "xl list shows whether the guest still uses CPU time; in it: systemctl restart 'pv-guest-agent@*';"
        " else: xl reboot {domain}",
        _stuck, _AGENT,
    ),
    Diagnosis(
        "agent-silent", Layer.AGENT,
        "an agent answered in an earlier session and does not in this one: the guest boots, or its agent has ended",
        "wait until the guest has booted; then in it: systemctl status 'pv-guest-agent@*' and its journal",
        _silent, _AGENT,
    ),
    Diagnosis(
        "heartbeat-old", Layer.AGENT,
        "the guest is provisioned, and has missed several questions whether it is there",
        "run doctor again in a minute: the service gives up a dead session by itself; if it stays: journalctl -u pv-host-agent",
        _heartbeat,
    ),
)  # fmt: skip
