# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with dom0's own side, before any VM is looked at: Xen, the service, its files and its directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen
from host_agent.errors import shown
from host_agent.serve_lock import NAME as LOCK

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Dom0

#: A ledger with its log, and a few hundred documents' answers.
LEAST_FREE_BYTES: Final = 16 * 1024 * 1024
#: What the service has open beside one stream for each VM.
OTHER_DESCRIPTORS: Final = 64
#: Clocks are set by seconds now and then.
CLOCK_SECONDS: Final = 60.0


def _no_xen(dom0: Dom0) -> Seen | None:
    return Seen(f"no Xen here: {dom0.xen}", ("no domain, console or QEMU could be looked at",)) if dom0.xen else None


def _service_not_running(dom0: Dom0) -> Seen | None:
    if dom0.service is not None:
        return None
    lock = shown(dom0.state / LOCK)
    return Seen("the service is not running, so no VM is connected to", (f"no process has {lock} open, as 'serve' does",))


def _state_directory(dom0: Dom0) -> Seen | None:
    return _trouble(dom0.state_trouble, "the directory of keys and ledger cannot be used", state=shown(dom0.state))


def _host_key(dom0: Dom0) -> Seen | None:
    return _trouble(dom0.key_trouble, "this host's key cannot be used, so no guest can be greeted", state=shown(dom0.state))


def _no_host_key(dom0: Dom0) -> Seen | None:
    if dom0.has_key or dom0.key_trouble or dom0.state_trouble:
        return None
    return Seen("there is no host key yet, so no template can have pinned it", (f"there is no host.key in {shown(dom0.state)}",))


def _ledger(dom0: Dom0) -> Seen | None:
    return _trouble(dom0.ledger_trouble, "the ledger cannot be read, and what cannot be recorded is not sent")


def _disk(dom0: Dom0) -> Seen | None:
    if dom0.free is None or dom0.free >= LEAST_FREE_BYTES:
        return None
    where = shown(dom0.state)
    return Seen(
        "the disk of the ledger is full, and what cannot be recorded is not sent",
        (f"{dom0.free} bytes are free at {where}, and {LEAST_FREE_BYTES} should be",),
        (("state", where),),
    )


def _documents_directory(dom0: Dom0) -> Seen | None:
    return _trouble(dom0.documents_trouble, "the directory of documents cannot be used", documents=shown(dom0.documents))


def _sockets_directory(dom0: Dom0) -> Seen | None:
    directory, trouble = dom0.sockets_trouble or ("", "")
    return _trouble(trouble, "a directory of sockets cannot be used", sockets=shown(directory))


def _descriptors(dom0: Dom0) -> Seen | None:
    needed = dom0.vms + OTHER_DESCRIPTORS
    if dom0.service is None or dom0.descriptors is None or dom0.descriptors >= needed:
        return None
    return Seen(
        "the service may not open as many files as it has VMs",
        (f"process {dom0.service.pid} may have {dom0.descriptors} files open, and {dom0.vms} VMs need {needed}",),
        (("needed", str(2 * needed)),),
    )


def _peers(dom0: Dom0) -> Seen | None:
    return _trouble(dom0.peers_trouble, "who listens on a channel and who is connected cannot be told")


def _clock(dom0: Dom0) -> Seen | None:
    if dom0.ahead <= CLOCK_SECONDS:
        return None
    return Seen(
        "the clock went back: the ledger has times that are still to come, and ages are wrong until then",
        (f"its latest time is {dom0.ahead:.0f} s ahead of this host's clock",),
    )


def _trouble(trouble: str, verdict: str, **words: str) -> Seen | None:
    return Seen(verdict, (trouble,), tuple(words.items())) if trouble else None


DIAGNOSES: Final = (
    Diagnosis(
        "no-xen", Layer.HOST,
        "xenstore does not answer: this machine is no Xen dom0, or xenstored is not running",
        "run this in dom0, where 'xl info' answers and xenstored runs (systemctl status xenstored);"
        " for VMs that are known by their sockets alone: --no-xenstore",
        _no_xen,
    ),
    Diagnosis(
        "service-not-running", Layer.HOST,
        "no 'serve' runs on the state directory, so nobody connects to channels",
        "systemctl enable --now pv-host-agent; why it ended: journalctl -u pv-host-agent",
        _service_not_running, (Layer.CLIENT, Layer.AGENT),
    ),
    Diagnosis(
        "state-directory", Layer.HOST,
        "the directory of keys and ledger is missing, another user's or open to others; 'serve' refuses to use it",
        "pv-host-agent install; chown root {state}; chmod 700 {state}",
        _state_directory,
    ),
    Diagnosis(
        "bad-host-key", Layer.HOST,
        "the host key or its certificate is damaged, or others can read it",
        "chmod 600 {state}/host.key; a damaged one comes back from a backup, or anew by 'pv-host-agent keys init --force'"
        " (guests that pinned the old one then refuse this host); a certificate by 'pv-host-agent keys request'",
        _host_key, (Layer.CLIENT, Layer.AGENT),
    ),
    Diagnosis(
        "no-host-key", Layer.HOST,
        "there is no host key: 'serve' makes one when it starts, but a template should pin it before",
        "pv-host-agent keys init, and pin what it prints in the template",
        _no_host_key,
    ),
    Diagnosis(
        "ledger-trouble", Layer.HOST,
        "the ledger is damaged, unreadable, or was written by a newer pv-host-agent",
        "of a newer agent's: upgrade this one; of a damaged one: systemctl restart pv-host-agent sets it aside and begins another"
        " (guests' keys are pinned anew then: SECURITY.md)",
        _ledger,
    ),
    Diagnosis(
        "disk-full", Layer.HOST,
        "there is no room for the ledger; nothing is sent that cannot be recorded",
        "make room on the file system of {state} (df -h {state})",
        _disk,
    ),
    Diagnosis(
        "documents-directory", Layer.HOST,
        "the directory of documents is missing, or others than root decide what VMs become; 'serve' refuses to use it",
        "mkdir -p {documents}; chown root {documents}; chmod 700 {documents}",
        _documents_directory, (Layer.DOCUMENT, Layer.CLIENT, Layer.AGENT),
    ),
    Diagnosis(
        "sockets-directory", Layer.HOST,
        "the directory of channels' sockets is missing, or others than root can put sockets there",
        "mkdir -p {sockets}; chown root {sockets}; chmod 700 {sockets}; QEMU makes no directory:"
        " restart the VMs that lack a socket",
        _sockets_directory,
    ),
    Diagnosis(
        "few-descriptors", Layer.HOST,
        "the service's limit of open files is too low for the number of VMs, so some are never connected to",
        "systemctl edit pv-host-agent: [Service] LimitNOFILE={needed}; systemctl restart pv-host-agent",
        _descriptors,
    ),
    Diagnosis(
        "no-socket-diagnosis", Layer.HOST,
        "the kernel does not say who uses unix sockets, so who holds a channel stays unknown",
        "modprobe unix_diag, and run doctor again as root",
        _peers,
    ),
    Diagnosis(
        "clock-went-back", Layer.HOST,
        "the ledger has times in the future: this host's clock was ahead, and was set back",
        "nothing breaks; set the clock right by NTP (timedatectl) if it is wrong now",
        _clock,
    ),
)  # fmt: skip
