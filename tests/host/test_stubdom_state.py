# SPDX-License-Identifier: Apache-2.0
"""A device model's state out by console 1 and in by console 2: whole or not at all, and what is not raw or late is said."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.__main__ import main
from host_agent.errors import BadFile, HostError
from host_agent.stubdom import restore as restoring
from host_agent.stubdom import save as saving
from host_agent.stubdom import state_file
from host_agent.stubdom.console_end import End
from host_agent.stubdom.readiness import NotReady, Why
from tests.host.fake_qmp import Oops
from tests.host.stubdom_dom0 import HOME, LONG, STATE, STUBDOMAIN, TARGET, Stubdomains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

QUIET = 0.1
SHORT = restoring.Wish(ready=0.3, send=2.0, running=0.5)
PATIENT = restoring.Wish(LONG, LONG, LONG)


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Stubdomains]:
    with Stubdomains(tmp_path) as one:
        one.published()
        yield one


def saved(dom0: Stubdomains, **more: Any) -> bytes:
    async def story(store: Client, pair: Pair) -> bytes:
        wish = saving.Wish(**{"seconds": LONG, "quiet_seconds": QUIET, **more})
        return await saving.save(store, dom0.places, pair, dom0.way, wish, dom0.said.append)

    dom0.up()
    state: bytes = dom0.tell(story)
    return state


def writes(dom0: Stubdomains, *parts: bytes) -> Callable[[Any], dict[str, Any]]:
    """What QEMU does for `xen-save-devices-state`: write to the console, and answer."""

    def write(arguments: Any) -> dict[str, Any]:
        assert arguments["filename"] == "/dev/hvc1"
        for part in parts:
            dom0.save.say(part)
        return {}

    return write


def answers(dom0: Stubdomains, *parts: bytes) -> None:
    dom0.qemu.answers["xen-save-devices-state"] = writes(dom0, *parts)


def test_what_qemu_writes_until_it_answers_is_the_state(dom0: Stubdomains) -> None:
    answers(dom0, STATE[:1000], STATE[1000:])
    assert saved(dom0) == STATE
    assert dom0.qemu.commands() == ["query-status", "xen-save-devices-state"]


def test_a_state_larger_than_any_buffer_is_whole(dom0: Stubdomains) -> None:
    big = state_file.MAGIC + os.urandom(3_000_000) + state_file.EOF
    answers(dom0, big)
    assert saved(dom0) == big


def test_what_is_still_on_its_way_when_qemu_answers_belongs_to_it(dom0: Stubdomains) -> None:
    late = threading.Timer(2 * QUIET, lambda: dom0.save.say(STATE[5000:]))

    def write(_: Any) -> dict[str, Any]:
        dom0.save.say(STATE[:5000].removesuffix(b"\0") + b"\xff")
        late.start()
        return {}

    dom0.qemu.answers["xen-save-devices-state"] = write
    assert saved(dom0) == STATE[:5000].removesuffix(b"\0") + b"\xff" + STATE[5000:]
    late.join()


@pytest.fixture
def pty_of_save(dom0: Stubdomains) -> Iterator[int]:
    """QEMU's end of a pty, as which dom0 has console 1."""
    qemus, ours = os.openpty()
    tty.setraw(ours)
    dom0.xen.write(f"/libxl/{STUBDOMAIN}/device/console/1/connection", "pty")
    dom0.xen.write(f"/local/domain/{STUBDOMAIN}/device/console/1/tty", os.ttyname(ours), 0)
    yield qemus
    os.close(qemus)
    os.close(ours)


def test_a_terminal_gives_the_state_too_and_what_an_earlier_one_left_is_thrown_away(dom0: Stubdomains, pty_of_save: int) -> None:
    os.write(pty_of_save, b"earlier")

    def write(_: Any) -> dict[str, Any]:
        rest = STATE
        while rest:
            rest = rest[os.write(pty_of_save, rest) :]
        return {}

    dom0.qemu.answers["xen-save-devices-state"] = write
    assert saved(dom0) == STATE
    assert [sentence for sentence in dom0.said if "7 bytes of something earlier were thrown away" in sentence]


@pytest.mark.parametrize(
    ("bytes_", "words"),
    [
        (b"", "0 bytes came, and are no whole state: it is empty; cure: nothing came by console 1"),
        (STATE.replace(b"\n", b"\r\n")[1:], "it does not begin as QEMU's state does; cure: pv-stubdom-launch holds"),
        (STATE[:-1] + b"\x01", "its end is missing"),
    ],
)
def test_what_is_no_whole_state_is_none(
    dom0: Stubdomains, bytes_: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "_LATE_SECONDS", 0.3)
    answers(dom0, bytes_)
    with pytest.raises(HostError, match=words):
        saved(dom0)


def test_more_than_a_state_can_have_is_read_and_not_kept(dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "MAX_STATE_BYTES", 100_000)
    answers(dom0, state_file.MAGIC + bytes(2_000_000))
    with pytest.raises(HostError, match=r"2000008 bytes came, and a state has at most 100000; none is kept"):
        saved(dom0)


def test_qemus_refusal_is_told(dom0: Stubdomains) -> None:
    def refuse(_: Any) -> None:
        raise Oops("save device state failed")

    dom0.qemu.answers["xen-save-devices-state"] = refuse
    with pytest.raises(HostError, match="QEMU refuses xen-save-devices-state: save device state failed"):
        saved(dom0)


def test_a_vm_that_waits_for_a_state_itself_is_not_saved(dom0: Stubdomains) -> None:
    dom0.qemu.answers["query-status"] = {"status": "inmigrate"}
    with pytest.raises(HostError, match=r"web1 \(7\) waits for a state to come in itself"):
        saved(dom0)
    assert "xen-save-devices-state" not in dom0.qemu.commands()


def test_a_vm_is_stopped_for_good_only_where_it_was_saved(dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_LATE_SECONDS", 0.2)
    dom0.qemu.answers |= {"stop": {}, "cont": {}}
    answers(dom0, STATE)
    saved(dom0, stop=True)
    assert dom0.qemu.commands() == ["query-status", "stop", "xen-save-devices-state"]
    answers(dom0, b"nonsense")
    with pytest.raises(HostError):
        saved(dom0, stop=True)
    assert dom0.qemu.commands()[3:] == ["query-status", "stop", "xen-save-devices-state", "cont"]


def test_a_dom0_qemu_that_goes_meanwhile_is_said(dom0: Stubdomains) -> None:
    dom0.qemu.answers["xen-save-devices-state"] = lambda _: dom0.save.hang_up()
    dom0.qemu.silent.add("xen-save-devices-state")
    threading.Thread(target=lambda: hang_up_once_asked(dom0)).start()
    with pytest.raises(HostError, match="its QEMU in dom0 has closed it"):
        saved(dom0)


def hang_up_once_asked(dom0: Stubdomains) -> None:
    deadline = time.monotonic() + LONG
    while "xen-save-devices-state" not in dom0.qemu.commands() and time.monotonic() < deadline:
        time.sleep(0.01)
    dom0.save.hang_up()


def test_a_qemu_that_does_not_answer_is_no_endless_wait(dom0: Stubdomains) -> None:
    dom0.qemu.silent.add("xen-save-devices-state")
    with pytest.raises(HostError, match=r"did not answer xen-save-devices-state within 0\.3 s"):
        saved(dom0, seconds=0.3)


def test_a_stubdomain_without_a_console_1_is_said_with_the_cure(dom0: Stubdomains) -> None:
    for path in (f"/libxl/{STUBDOMAIN}/device/console/1",):
        dom0.xen.rm(path)
    with pytest.raises(HostError, match=r"web1-dm \(9\) has no console 1 \(save\); cure: give it one"):
        saved(dom0)


def test_the_file_that_libxl_gives_console_1_is_read_from_where_it_ends(dom0: Stubdomains) -> None:
    file = dom0.work / "qemu-save.7"
    file.write_bytes(b"an earlier state")
    node = f"/local/domain/{STUBDOMAIN}/device/console/1"
    for key in ("name", "connection", "path"):
        dom0.xen.rm(f"/libxl/{STUBDOMAIN}/device/console/1/{key}")
    dom0.xen.write(f"{node}/output", f"file:{file}", 0)

    def write(_: Any) -> dict[str, Any]:
        with file.open("ab") as out:
            out.write(STATE)
        return {}

    dom0.qemu.answers["xen-save-devices-state"] = write
    assert saved(dom0) == STATE


# -- restore


def restored(dom0: Stubdomains, wish: restoring.Wish = PATIENT, state: bytes = STATE) -> str:
    async def story(store: Client, pair: Pair) -> str:
        return await restoring.restore(store, dom0.places, pair, dom0.way, wish, state, dom0.said.append)

    status: str = dom0.tell(story)
    return status


def ready(dom0: Stubdomains) -> None:
    dom0.xen.write(f"{HOME}/restore", "ready", STUBDOMAIN)


def test_a_state_is_sent_once_the_console_is_ready_and_qemu_is_waited_for(dom0: Stubdomains) -> None:
    seen: list[bytes] = []
    statuses = ["inmigrate", "inmigrate", "paused"]
    dom0.qemu.answers["query-status"] = lambda _: {"status": statuses.pop(0)}

    def launcher() -> None:
        time.sleep(0.2)
        seen.append(bytes(dom0.restore.heard))
        ready(dom0)
        deadline = time.monotonic() + LONG
        while bytes(dom0.restore.heard) != STATE and time.monotonic() < deadline:
            time.sleep(0.01)
        dom0.up()

    thread = threading.Thread(target=launcher)
    thread.start()
    assert restored(dom0) == "paused"
    thread.join()
    assert seen == [b""]
    assert bytes(dom0.restore.heard) == STATE
    assert dom0.xen.value(f"{HOME}/restore") == ""


def test_nothing_is_sent_where_the_console_is_not_ready(dom0: Stubdomains) -> None:
    with pytest.raises(NotReady) as told:
        restored(dom0, SHORT)
    assert told.value.why is Why.NOT_THERE
    assert f"{HOME}/restore" in str(told.value)
    assert not dom0.restore.heard


def test_a_console_that_echoes_is_said_to_have_spoilt_it(dom0: Stubdomains) -> None:
    dom0.restore.echoes = True
    ready(dom0)
    with pytest.raises(HostError, match="bytes came back: console 2 is not raw inside, and the state is spoilt"):
        restored(dom0)


def test_the_sign_is_good_for_one_state(dom0: Stubdomains) -> None:
    ready(dom0)
    with pytest.raises(NotReady):  # QEMU does not come up
        restored(dom0, SHORT)
    with pytest.raises(NotReady, match=f"{HOME}/restore"):
        restored(dom0, SHORT)
    assert bytes(dom0.restore.heard) == STATE


def test_a_qemu_that_does_not_read_is_no_endless_wait(dom0: Stubdomains) -> None:
    dom0.restore.reads = False
    ready(dom0)
    big = state_file.MAGIC + bytes(5_000_000)
    with pytest.raises(HostError, match=r"not all of 5000008 bytes were taken within 2 s: QEMU does not read them"):
        restored(dom0, SHORT, big)


def test_a_qemu_that_never_has_all_of_it_is_no_endless_wait(dom0: Stubdomains) -> None:
    dom0.qemu.answers["query-status"] = {"status": "inmigrate"}
    ready(dom0)
    dom0.up()
    with pytest.raises(HostError, match=r"still waits for more of its state after 0\.5 s"):
        restored(dom0, SHORT)


def test_a_pipe_of_libxls_is_left_to_qemu(dom0: Stubdomains) -> None:
    for key in ("name", "connection", "path"):
        dom0.xen.rm(f"/libxl/{STUBDOMAIN}/device/console/2/{key}")
    dom0.xen.write(f"/local/domain/{STUBDOMAIN}/device/console/2/output", "pipe:/var/lib/xen/x", 0)
    with pytest.raises(HostError, match=r"console 2 is pipe /var/lib/xen/x, which dom0's QEMU reads when the stubdomain starts"):
        restored(dom0)


# -- files and verbs


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "it is empty"), (b"PK\x03\x04" * 9, "does not begin as QEMU's state"), (STATE + b"\x01", "its end is missing")],
)
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "state"
    state_file.write(str(path), content)
    with pytest.raises(BadFile, match=words):
        state_file.read(str(path))


def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    state_file.write(str(path), STATE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert state_file.read(str(path)) == STATE
    path.chmod(0o620)
    with pytest.raises(BadFile, match="others may write to it"):
        state_file.read(str(path))
    with pytest.raises(BadFile, match="No such file"):
        state_file.read(str(tmp_path / "nothing"))


def usual(dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_agent.qemu.hotplug_session.Places.usual", lambda: dom0.places)


def test_the_verbs_save_to_a_file_and_restore_from_it(
    dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual(dom0, monkeypatch)
    answers(dom0, STATE)
    dom0.up()
    file, proxy = str(dom0.work / "state"), str(dom0.proxy)
    assert main(["dm", "save", "web1", file, "--proxy", proxy]) == 0
    assert capsys.readouterr().out.startswith(f"{len(STATE):,} bytes saved in ")
    assert Path(file).read_bytes() == STATE
    ready(dom0)
    assert main(["dm", "restore", "--stubdom", "9", "--proxy", proxy, "--json", file]) == 0
    assert json.loads(capsys.readouterr().out) == {"bytes": len(STATE), "status": "running"}


def test_an_old_file_is_untouched_where_saving_fails(dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch) -> None:
    usual(dom0, monkeypatch)
    monkeypatch.setattr(saving, "_LATE_SECONDS", 0.2)
    answers(dom0, b"nonsense")
    dom0.up()
    file = dom0.work / "state"
    file.write_bytes(b"old")
    assert main(["dm", "save", "web1", str(file), "--proxy", str(dom0.proxy)]) == 1
    assert file.read_bytes() == b"old"
    assert sorted(dom0.work.glob("state*")) == [file]
    assert main(["dm", "save", "web1", str(dom0.work / "no" / "state")]) == 1
    assert dom0.qemu.commands().count("xen-save-devices-state") == 1


def test_the_consoles_are_listed_with_what_they_are_for(
    dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual(dom0, monkeypatch)
    dom0.xen._console(STUBDOMAIN, 3, {"type": "ioemu", "output": "pty"}, None)
    dom0.xen.write(f"/local/domain/{STUBDOMAIN}/device/console/3/tty", "/dev/pts/404", 0)
    assert main(["dm", "consoles", "web1", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["stubdomain"], listed["target"]) == (STUBDOMAIN, TARGET)
    shown = [(each["console"], each["role"], each["inside"], each["end"], each["place"]) for each in listed["consoles"]]
    assert shown == [
        (0, "log", "/dev/hvc0", "pty", ""),
        (1, "save", "/dev/hvc1", "socket", str(dom0.save.path)),
        (2, "restore", "/dev/hvc2", "socket", str(dom0.restore.path)),
        (3, "serial", "/dev/hvc3", "pty", "/dev/pts/404"),
    ]
    assert f"pid {os.getpid()}" in listed["consoles"][1]["listens"][0]
    assert main(["dm", "consoles", "--stubdom", "web1-dm"]) == 0
    assert "restore" in capsys.readouterr().out


def test_an_end_is_shown_without_control_characters() -> None:
    assert str(End("socket", "/run/\x1b[2J")).isprintable()


def test_waiting_for_bytes_leaves_the_loop_free(dom0: Stubdomains) -> None:
    ticks = []

    async def story(store: Client, pair: Pair) -> bytes:
        async def tick() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        try:
            wish = saving.Wish(seconds=LONG, quiet_seconds=QUIET)
            return await saving.save(store, dom0.places, pair, dom0.way, wish, dom0.said.append)
        finally:
            ticking.cancel()

    answers(dom0, STATE)
    dom0.up()
    assert dom0.tell(story) == STATE
    assert len(ticks) > 10
