# SPDX-License-Identifier: Apache-2.0
"""Every diagnosis is provoked: a healthy dom0 is made ill in one way, and doctor, which looks for itself, says so and only so."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

import pytest

from host_agent.__main__ import main
from host_agent.doctor import of_fleet
from host_agent.doctor.catalogue import OF_HOST, OF_VM
from host_agent.doctor.report import nothing_wrong, text_of
from host_agent.errors import HostError
from host_agent.ledger.known import Counted
from host_agent.ledger.standing import State
from host_agent.serve_lock import is_served
from host_agent.talk.judgement import refusal_text
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import Refusal, uuid_bytes
from pv_channel.messages import ItemResult, Outcome
from pv_channel.session import Refused
from tests.host.fake_xenstored import Channel
from tests.host.patient import BACKEND, DOMID, FRONTEND, LIBXL, UUID, Patient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OTHER_UUID: Final = "7a1c0b6e-3a52-4a0e-9c58-0d5c1f0e7b11"


@pytest.fixture
def web1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """In good health."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Patient(tmp_path) as patient:
        yield patient
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# -- what makes it ill: each returns what else doctor then has to say, besides the diagnosis itself


def no_xen(web1: Patient) -> None:
    web1.where = web1.where._replace(xenstore=(web1.work / "no-xenstored",))


def service_not_running(web1: Patient) -> None:
    web1.stop_service()


def state_directory(web1: Patient) -> None:
    web1.state.chmod(0o755)


def bad_host_key(web1: Patient) -> None:
    (web1.state / "host.key").chmod(0o644)


def no_host_key(web1: Patient) -> None:
    (web1.state / "host.key").unlink()


def ledger_trouble(web1: Patient) -> None:
    (web1.state / "ledger.sqlite").write_bytes(b"not a database at all" * 1000)
    for log in web1.state.glob("ledger.sqlite-*"):
        log.unlink()


def documents_directory(web1: Patient) -> None:
    web1.documents.chmod(0o777)


def sockets_directory(web1: Patient) -> None:
    web1.sockets.chmod(0o777)


def few_descriptors(web1: Patient) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def clock_went_back(web1: Patient) -> None:
    web1.provision(ahead=5000.0)


def bad_document(web1: Patient) -> None:
    (web1.documents / "web1.yaml").write_text("local-hostname: not a name\n")


def two_documents(web1: Patient) -> None:
    web1.document("twin", f"uuid: {UUID}\n")


def no_document(web1: Patient) -> None:
    (web1.documents / "web1.yaml").unlink()


def document_not_taken_up(web1: Patient) -> None:
    web1.document("web1", f"uuid: {UUID}\n", hostname="changed")


def another_uuid(web1: Patient) -> None:
    web1.xen.write(f"/local/domain/{DOMID}/vm", f"/vm/{OTHER_UUID}", owner=0)


def two_domains(web1: Patient) -> None:
    web1.xen.create(8, "web1--incoming", UUID)


def domain_not_running(web1: Patient) -> None:
    web1.xen.destroy(DOMID)


def domain_paused(web1: Patient) -> None:
    web1.xl("web1  7  256  1  --p---  1.0\n")


def xl_dropped_first_entry(web1: Patient) -> None:
    for node in (LIBXL, FRONTEND, BACKEND):
        web1.xen.rm(node)


def wrong_name(web1: Patient) -> None:
    web1.xen.write(f"{LIBXL}/name", "org.pvchanel.config.1")


def no_channel_configured(web1: Patient) -> None:
    xl_dropped_first_entry(web1)
    other = web1.sockets / "clipboard.sock"
    web1.xen.channel(DOMID, 2, Channel("org.xenproject.guest.clipboard.0.1", str(other)))
    web1.start_qemu(other, listens=[web1.path])


def odd_connection(web1: Patient) -> None:
    web1.xen.write(f"{LIBXL}/connection", "Socket")


def no_place(web1: Patient) -> None:
    web1.xen.write(f"{LIBXL}/connection", "pty")


def shared_path(web1: Patient) -> None:
    web1.xen.create(8, "web2", "", [Channel("org.example.other", str(web1.path))])


def too_many_channels(web1: Patient) -> None:
    web1.xen.rm(LIBXL)
    web1.xen.channel(DOMID, 10, Channel(CHANNEL_NAME, str(web1.path)))
    web1.xen.write(f"/local/domain/0/backend/console/{DOMID}/10/state", "2")


def no_frontend(web1: Patient) -> None:
    web1.xen.rm(FRONTEND)


def no_qemu(web1: Patient) -> None:
    web1.xen.rm(f"/local/domain/{DOMID}/image/device-model-pid")


def qemu_dead(web1: Patient) -> None:
    os.kill(web1.qemu.pid, signal.SIGKILL)
    web1.qemu.wait()


def qemu_not_ready(web1: Patient) -> None:
    web1.xen.write(f"{BACKEND}/state", "1")


def no_socket(web1: Patient) -> None:
    web1.document("web9")
    web1.vm, web1.where = "web9", web1.where._replace(xenstore=())


def path_too_long(web1: Patient) -> None:
    web1.xen.write(f"{LIBXL}/path", f"/run/{'long/' * 30}web1.sock")


def directory_open_to_others(web1: Patient) -> None:
    directory = web1.work / "open"
    directory.mkdir()
    directory.chmod(0o777)
    _moved(web1, directory / "web1.sock")


def squatted(web1: Patient) -> None:
    web1.path.unlink()
    web1.path.symlink_to(web1.work / "elsewhere")


def socket_replaced(web1: Patient) -> None:
    web1.another_listener(web1.path)


def socket_missing(web1: Patient) -> None:
    web1.path.unlink()


def nobody_listens(web1: Patient) -> None:
    web1.disconnect()
    web1.start_qemu(web1.path, listens=[])
    web1.path.unlink()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(os.fspath(web1.path))


def not_a_socket(web1: Patient) -> None:
    web1.path.unlink()
    web1.path.write_text("")
    web1.start_qemu(web1.path, listens=[])


def someone_else_connected(web1: Patient) -> None:
    web1.disconnect()
    web1.another_program(web1.path)
    web1.connect()


def not_connected(web1: Patient) -> None:
    web1.disconnect()


def guest_kernel_old(web1: Patient) -> None:
    web1.xen.write(f"{FRONTEND}/state", "1")


def guest_closed(web1: Patient) -> None:
    web1.xen.write(f"{FRONTEND}/state", "6")


def strangers_on_tty(web1: Patient) -> None:
    web1.never_met()
    web1.stands(counted=Counted(dropped=3, echoed=2))


def echo_only(web1: Patient) -> None:
    web1.never_met()
    web1.stands(counted=Counted(echoed=2))


def no_agent(web1: Patient) -> None:
    web1.never_met()
    web1.stands()


def guest_does_not_read(web1: Patient) -> None:
    web1.disconnect()
    web1.start_qemu(deaf=True)
    web1.connect()
    web1.send(b"is anybody there?")


def agent_silent(web1: Patient) -> None:
    web1.stands()


def heartbeat_old(web1: Patient) -> None:
    web1.provision(ahead=-1000.0)


def key_changed(web1: Patient) -> None:
    _quarrel(web1, State.KEY_CHANGED)


def key_shared(web1: Patient) -> None:
    _quarrel(web1, State.KEY_SHARED)


def wrong_vm(web1: Patient) -> None:
    _refuses(web1, Refused(Refusal.UUID, uuid_bytes(OTHER_UUID)))


def wrong_key(web1: Patient) -> None:
    _refuses(web1, Refused(Refusal.HOST_KEY, bytes(12)))


def key_revoked(web1: Patient) -> None:
    _refuses(web1, Refused(Refusal.REVOKED, bytes(16)))


def network_put_back(web1: Patient) -> None:
    web1.provision(ItemResult("network", Outcome.FAILED, "unconfirmed"), whole=Outcome.ROLLED_BACK)


def item_failed(web1: Patient) -> None:
    web1.provision(ItemResult("hostname", Outcome.FAILED, "command-failed"), whole=Outcome.ROLLED_BACK)


def document_refused(web1: Patient) -> None:
    web1.provision(whole=Outcome.REFUSED, reason="bad-document", path="network.ethernets")


def _moved(web1: Patient, path: Path) -> None:
    """The channel is at *path*, and all of it works."""
    web1.disconnect()
    web1.path = path
    web1.xen.write(f"{LIBXL}/path", str(path))
    web1.start_qemu(path)
    web1.connect()


def _quarrel(web1: Patient, state: str) -> None:
    ledger = web1.ledger()
    ledger.block(UUID, state, bytes(32), "nothing was sent")
    ledger.close()


def _refuses(web1: Patient, refused: Refused) -> None:
    web1.stands(State.REFUSED, refusal_text(refused, web1.document("web1", f"uuid: {UUID}\n")))


PROVOKED: Final[dict[str, Callable[[Patient], None]]] = {
    provoke.__name__.replace("_", "-"): provoke
    for provoke in (
        no_xen, service_not_running, state_directory, bad_host_key, no_host_key, ledger_trouble, documents_directory,
        sockets_directory, few_descriptors, clock_went_back, bad_document, two_documents, no_document, document_not_taken_up,
        another_uuid, two_domains, domain_not_running, domain_paused, xl_dropped_first_entry, wrong_name, no_channel_configured,
        odd_connection, no_place, shared_path, too_many_channels, no_frontend, no_qemu, qemu_dead, qemu_not_ready, no_socket,
        path_too_long, directory_open_to_others, squatted, socket_replaced, socket_missing, nobody_listens, not_a_socket,
        someone_else_connected, not_connected, guest_kernel_old, guest_closed, strangers_on_tty, echo_only, no_agent,
        guest_does_not_read, agent_silent, heartbeat_old, key_changed, key_shared, wrong_vm, wrong_key, key_revoked,
        network_put_back,
        item_failed, document_refused,
    )
}  # fmt: skip
#: What cannot be had on a machine that works: tests/host/test_diagnoses.py has the pure part of these.
PURE: Final = {"disk-full", "no-socket-diagnosis"}
#: What takes a fleet: tests/host/test_doctor_of_a_fleet.py has them.
FLEETS: Final = {diagnosis.name for diagnosis in (*of_fleet.OF_HOST, *of_fleet.OF_VM)}
NAMES: Final = [diagnosis.name for diagnosis in OF_HOST] + [diagnosis.name for diagnosis in OF_VM]


def test_a_dom0_in_good_health_has_nothing_wrong(web1: Patient) -> None:
    assert text_of(web1.findings()) == ""
    assert str(web1.path) in nothing_wrong(web1.evidence())


@pytest.mark.parametrize("name", PROVOKED)
def test_what_is_wrong_is_found_and_nothing_else(web1: Patient, name: str) -> None:
    PROVOKED[name](web1)
    found = web1.findings()
    assert [each.name for each in found] == [name], text_of(found)
    assert found[0].evidence
    assert "{" not in found[0].cure


def test_a_channel_on_a_terminal_is_as_good_as_a_socket(web1: Patient) -> None:
    web1.disconnect()
    master, slave = os.openpty()  # this process is the service, and has QEMU's end beside its own
    try:
        web1.xen.write(f"{LIBXL}/connection", "pty")
        web1.xen.write(f"{FRONTEND}/tty", os.ttyname(slave), owner=0)
        web1.start_qemu(web1.path, listens=[])
        assert text_of(web1.findings()) == ""
        os.close(slave)
        slave = -1
        assert [each.name for each in web1.findings()] == ["not-connected"]
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


def test_the_service_itself_is_recognised_by_its_lock_and_its_stream(web1: Patient) -> None:
    web1.stop_service()
    with web1.real_service() as service:
        deadline = time.monotonic() + 30
        while (case := web1.evidence().cases[0]).dom0.service is None or not case.is_served:
            assert service.poll() is None
            assert time.monotonic() < deadline, text_of(web1.findings())
            time.sleep(0.05)
        assert case.dom0.service.pid == service.pid
        service.kill()
        service.wait()
    assert [each.name for each in web1.findings()] == ["service-not-running"]


def test_the_whole_host_is_looked_at_where_no_vm_is_named(web1: Patient) -> None:
    web1.vm = None
    assert text_of(web1.findings()) == ""
    web1.document("off", "uuid: 7a1c0b6e-3a52-4a0e-9c58-0d5c1f0e7b11\n")
    assert text_of(web1.findings()) == ""  # it does not run, which is in order
    web1.xen.create(9, "stray", "", [Channel(CHANNEL_NAME, str(web1.sockets / "stray.sock"))])
    (web1.documents / "worse.yaml").write_text("local-hostname: not a name\n")
    found = {(each.vm, each.name) for each in web1.findings()}
    assert {("stray", "no-document"), ("worse", "bad-document")} <= found
    assert {vm for vm, _ in found} == {"stray", "worse"}


@pytest.mark.parametrize("vm", ["web1", UUID, UUID.upper(), str(DOMID)])
def test_a_vm_is_called_by_name_uuid_or_domid(web1: Patient, vm: str) -> None:
    web1.vm = vm
    assert [case.vm for case in web1.evidence().cases] == ["web1"]


def test_a_vm_that_nothing_is_known_of_is_an_error_that_says_so(web1: Patient) -> None:
    web1.vm = "web17"
    with pytest.raises(HostError, match="web17: no document, no record"):
        web1.findings()


def test_without_a_directory_of_documents_no_vm_is_said_to_lack_one(web1: Patient) -> None:
    (web1.documents / "web1.yaml").unlink()
    web1.documents.rmdir()
    found = web1.findings()
    assert [each.name for each in found] == ["documents-directory"]
    assert found[0].explains == ("web1: no-document",)


def test_looking_leaves_everything_as_it_was(web1: Patient) -> None:
    before = _content(web1)
    web1.findings()
    assert _content(web1) == before
    assert is_served(web1.state)
    assert web1.stream_is_alive()


def _content(web1: Patient) -> dict[str, bytes]:
    sqlites = ("-shm", "-wal")  # any reader makes them, and the last one leaves them empty
    files = [path for path in web1.work.rglob("*") if path.is_file() and not path.name.endswith(sqlites)]
    return {str(path): path.read_bytes() for path in files}


def test_the_verb_prints_findings_and_its_status_says_whether_there_are_any(
    web1: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(web1.xen.path))
    words = ["--state", str(web1.state), "--documents", str(web1.documents), "--sockets", str(web1.sockets)]
    assert main(["doctor", *words]) == 0
    assert capsys.readouterr().out.startswith("nothing wrong found: ")
    web1.stop_service()
    assert main(["doctor", "web1", *words]) == 1
    assert "[service-not-running]" in capsys.readouterr().out
    assert main(["doctor", "web1", "--json", *words]) == 1
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["service-not-running"]


def test_without_xen_the_verb_says_so_in_one_line_and_looks_at_the_host(
    web1: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(web1.work / "nothing"))
    web1.stop_service()
    words = ["--state", str(web1.state), "--documents", str(web1.documents), "--sockets", str(web1.sockets)]
    assert main(["doctor", *words]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "no Xen here" in line] == lines[:1]
    assert any("[service-not-running]" in line for line in lines)
    assert main(["doctor", "--no-xenstore", *words]) == 1
    assert "no Xen here" not in capsys.readouterr().out


def test_the_catalogue_prints_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--list"]) == 0
    assert capsys.readouterr().out.startswith("no-xen\n")
    assert main(["doctor", "--list", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == NAMES


def test_no_diagnosis_is_without_a_test_that_provokes_it() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert set(NAMES) == PROVOKED.keys() | PURE | FLEETS
