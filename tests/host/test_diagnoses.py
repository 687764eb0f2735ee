# SPDX-License-Identifier: Apache-2.0
"""Diagnoses as pure functions of evidence, what explains what, and that nothing that others named gets out of a report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from host_agent.channels.endpoint import Domain
from host_agent.channels.ends import SOCKET, Ends, Listener
from host_agent.channels.processes import Process
from host_agent.channels.toolstack import Console
from host_agent.doctor import of_channel, of_host
from host_agent.doctor.at_host import Where, look_at_host
from host_agent.doctor.catalogue import OF_HOST, OF_VM
from host_agent.doctor.diagnosis import Layer, in_general
from host_agent.doctor.evidence import Case, Dom0, Evidence, Qemu, Record
from host_agent.doctor.examine import examine
from host_agent.doctor.qemu import qemu_of
from host_agent.doctor.report import catalogue, catalogue_text, nothing_wrong, text_of, values_of
from host_agent.ledger.standing import State
from pv_channel import CHANNEL_NAME

PATH: Final = "/run/pv-channel/web1.sock"
SERVICE: Final = Process(100, "pv-host-agent", 0, ("pv-host-agent", "serve"))
CHARDEV: Final = f"socket,id=libxl-channel0,path={PATH}"
QEMU: Final = Process(200, "qemu", 0, ("qemu", "-xen-domid", "7", "-chardev", CHARDEV))
DOM0: Final = Dom0(Path("/var/lib/pv-host-agent"), Path("/etc/pv-host-agent/documents"), service=SERVICE, vms=1)
CONSOLE: Final = Console(7, "1", CHANNEL_NAME, "socket", PATH, "4", "4", "", "chardev:libxl-channel0", has_frontend=True)
LISTENER: Final = Listener(here=True, processes=(QEMU,), clients=(SERVICE,))
HEALTHY: Final = Case(
    vm="web1", dom0=DOM0, channel=CHANNEL_NAME, now=1000.0, has_document=True, digest="d1", wanted_uuid="u",
    record=Record(State.READY, digest="d1", sessions=1, last_heartbeat=990.0), domains=(Domain(7, bytes(16), "web1", 200),),
    consoles=(CONSOLE,), console=CONSOLE, qemu=qemu_of(200, QEMU, 7), ends=Ends(PATH, SOCKET, 0, 0o755, (LISTENER,)),
)  # fmt: skip


def names(*cases: Case, dom0: Dom0 = DOM0) -> list[tuple[str, str]]:
    return [(found.vm, found.name) for found in examine(Evidence(dom0, cases))]


def test_nothing_is_wrong_with_what_is_healthy() -> None:
    assert names(HEALTHY) == []


def test_a_full_disk_is_told_by_what_is_free() -> None:
    assert names(dom0=DOM0._replace(free=of_host.LEAST_FREE_BYTES)) == []
    assert names(dom0=DOM0._replace(free=4096)) == [("", "disk-full")]


def test_a_file_system_on_which_nothing_can_be_put_is_full(tmp_path: Path) -> None:
    where = Where(Path("/proc"), tmp_path, (), CHANNEL_NAME, (), tmp_path)
    assert ("", "disk-full") in names(dom0=look_at_host(where))


def test_a_kernel_that_does_not_tell_of_sockets_is_told_of_and_nobody_is_accused() -> None:
    dom0 = DOM0._replace(peers_trouble="no unix_diag")
    assert names(HEALTHY._replace(dom0=dom0, ends=None), dom0=dom0) == [("", "no-socket-diagnosis")]


def test_what_is_more_fundamental_comes_first_and_says_what_it_explains() -> None:
    ill = HEALTHY._replace(qemu=Qemu(200, None, is_it=False), ends=Ends(PATH, SOCKET, 0, 0o755))
    dom0 = DOM0._replace(key_trouble="host.key: others can read it")
    found = examine(Evidence(dom0, (ill._replace(dom0=dom0),)))
    assert [each.name for each in found] == ["bad-host-key", "qemu-dead"]
    assert found[0].explains == ("web1: not-connected",)
    assert found[1].explains == ("nobody-listens",)


def test_what_is_wrong_with_one_vm_explains_nothing_of_another() -> None:
    silent = HEALTHY._replace(record=Record(State.GREETING, digest="d1"))
    off = HEALTHY._replace(vm="web2", domains=(), console=None, consoles=(), qemu=None, ends=None)
    assert names(off, silent) == [("web2", "domain-not-running"), ("web1", "no-agent")]


def test_what_a_guest_answered_is_told_whatever_is_wrong_with_its_channel_now() -> None:
    record = Record(State.READY, digest="d1", outcome="rolled-back", failed=(("hostname", "command-failed"),))
    off = HEALTHY._replace(domains=(), console=None, consoles=(), qemu=None, ends=None, record=record)
    assert names(off) == [("web1", "domain-not-running"), ("web1", "item-failed")]


def test_where_domains_are_not_known_none_is_said_to_be_off() -> None:
    dom0 = DOM0._replace(knows_domains=False)
    blind = HEALTHY._replace(dom0=dom0, domains=(), console=None, consoles=(), qemu=None)
    assert names(blind, dom0=dom0) == []


ALMOST: Final = ("org.pvchannel.config.2", "org.pvchannel.config", "ORG.pvchannel.config.1", "org.pvchannel.confg.1")


@pytest.mark.parametrize("name", ALMOST)
def test_a_name_that_is_almost_ours_is_told_from_another_applications(name: str) -> None:
    misnamed = CONSOLE._replace(name=name)
    assert names(HEALTHY._replace(console=None, consoles=(misnamed,))) == [("web1", "wrong-name")]
    clipboard = CONSOLE._replace(name="org.xenproject.guest.clipboard.0.1")
    assert names(HEALTHY._replace(console=None, consoles=(clipboard,))) == [("web1", "no-channel-configured")]


@pytest.mark.parametrize(("consoles", "good"), [(7, True), (8, False)])
def test_the_eighth_channel_has_no_terminal(consoles: int, good: bool) -> None:
    others = tuple(CONSOLE._replace(id=str(n), name=f"org.example.n{n}", path=f"/run/{n}") for n in range(1, consoles))
    ours = CONSOLE._replace(id=str(consoles))
    assert names(HEALTHY._replace(consoles=(*others, ours), console=ours)) == ([] if good else [("web1", "too-many-channels")])


def test_a_terminal_that_xl_dropped_is_seen_by_its_number() -> None:
    argv = ("qemu", "-xen-domid", "7", "-chardev", "pty,id=libxl-channel0", "-chardev", "pty,id=libxl-channel1")
    second = CONSOLE._replace(id="2", name="org.example.other", connection="pty", path="", tty="/dev/pts/4")
    qemu = qemu_of(200, QEMU._replace(argv=argv), 7)
    assert names(HEALTHY._replace(console=None, consoles=(second,), qemu=qemu)) == [("web1", "xl-dropped-first-entry")]


def test_a_process_that_has_the_pid_of_qemu_is_not_taken_for_it() -> None:
    assert qemu_of(200, QEMU, 7).is_it
    assert not qemu_of(200, QEMU, 8).is_it
    assert not qemu_of(200, Process(200, "sleep", 0, ("sleep", "7")), 7).is_it
    assert not qemu_of(200, None, 7).is_it


def test_a_path_with_a_comma_is_read_as_qemu_writes_it() -> None:
    argv = ("qemu", "-xen-domid", "7", "-chardev", "socket,id=libxl-channel3,path=/run/a,,b.sock,server=on,wait=off", "-chardev")
    assert [tuple(one) for one in qemu_of(200, QEMU._replace(argv=argv), 7).chardevs] == [
        ("libxl-channel3", "socket", "/run/a,b.sock")
    ]


def test_a_service_that_waits_in_the_queue_is_told_with_whom_it_waits_for() -> None:
    other = Process(300, "socat", 0, ("socat", "-", PATH))
    busy = HEALTHY._replace(ends=Ends(PATH, SOCKET, 0, 0o755, (LISTENER._replace(clients=(other,), queued=(SERVICE,)),)))
    (found,) = examine(Evidence(DOM0, (busy,)))
    assert found.name == "someone-else-connected"
    assert "300" in found.cure
    assert any("queue" in line for line in found.evidence)


HOSTILE: Final = "web1\x1b[2J\n; rm -rf /\u202e"


def test_nothing_that_others_named_draws_on_a_terminal_or_runs_in_a_shell() -> None:
    other = Process(300, "so\x1b[31m", 0, ("x\x1b]0;owned\x07",))
    ill = HEALTHY._replace(vm=HOSTILE, ends=Ends(HOSTILE, SOCKET, 0, 0o755, (LISTENER._replace(clients=(other,)),)))
    refused = HEALTHY._replace(vm=HOSTILE, record=Record("refused", detail=HOSTILE, digest="d1"))
    bad = HEALTHY._replace(vm=HOSTILE, document_error=HOSTILE, has_document=False, record=None)
    for case in (ill, refused, bad, HEALTHY._replace(vm=HOSTILE, namesake=None, domains=())):
        text = text_of(examine(Evidence(DOM0, (case,))))
        assert text
        assert re.fullmatch(r"[ -~\n]*", text)
    changed = HEALTHY._replace(vm="a; reboot", record=Record(State.KEY_CHANGED, digest="d1"))
    assert "forget-key 'a; reboot'" in text_of(examine(Evidence(DOM0, (changed,))))


def test_xl_is_told_the_domains_name_and_the_agent_the_vms() -> None:
    domain = HEALTHY.domains[0]._replace(name="one")
    dead = HEALTHY._replace(vm="web1", domains=(domain,), qemu=Qemu(200, None, is_it=False))
    assert "xl shutdown one" in examine(Evidence(DOM0, (dead,)))[0].cure


def test_a_fleet_that_is_not_served_is_one_finding() -> None:
    dom0 = DOM0._replace(service=None)
    fleet = [HEALTHY._replace(vm=f"web{n}", dom0=dom0, record=Record(State.GREETING, digest="d1")) for n in range(100)]
    assert names(*fleet, dom0=dom0) == [("", "service-not-running")]


def test_json_has_stable_names() -> None:
    evidence = Evidence(DOM0._replace(service=None), (HEALTHY,))
    values = values_of(examine(evidence), evidence)
    assert values.keys() == {"findings", "looked-at", "xen", "documents"}
    assert values["findings"][0].keys() == {"vm", "name", "verdict", "evidence", "cure", "explains"}
    assert values["looked-at"] == ["web1"]


def test_what_was_looked_at_is_said_of_one_vm_and_of_many() -> None:
    assert PATH in nothing_wrong(Evidence(DOM0, (HEALTHY,)))
    assert "2 VMs" in nothing_wrong(Evidence(DOM0, (HEALTHY, HEALTHY)))


def test_every_diagnosis_has_a_name_a_meaning_and_a_cure() -> None:
    known = catalogue()
    assert len(known) == len(OF_HOST) + len(OF_VM)
    for each in known:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", each["name"])
        assert each["meaning"]
        assert each["cure"]
        assert "{" not in each["cure"]
        assert each["name"] in catalogue_text()


def test_diagnoses_stand_in_the_order_of_their_layers() -> None:
    layers = [each.layer for each in OF_VM]
    assert layers == sorted(layers)
    assert {each.layer for each in OF_HOST} == {Layer.HOST}
    for diagnosis in OF_VM:
        assert all(layer >= diagnosis.layer for layer in diagnosis.explains)


def test_a_cure_in_general_has_capitals_for_what_is_filled_in() -> None:
    assert in_general("kill {pid}") == "kill PID"


def test_the_limits_of_the_kernels_driver_are_those_that_are_told() -> None:
    assert (of_channel.MAX_CHANNELS, of_channel.MAX_CONSOLE) == (7, 9)
