# SPDX-License-Identifier: Apache-2.0
"""A ledger that is damaged steps aside with all that belongs to it, and the new one has what documents and guests say."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.errors import LedgerDamaged, LedgerTrouble
from host_agent.ledger import schema as ledger_schema
from host_agent.ledger.ledger import ANEW_SECONDS, Ledger
from host_agent.ledger.set_aside import KEPT, mend, open_sound, set_aside
from host_agent.views.status import View
from pv_channel.messages import ItemResult, Outcome, Result
from tests.host.dom0 import Dom0, eventually
from tests.host.fakes import FakeGuest, FakeQemu
from tests.host.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = b"k" * 32
PAGE = 4096


def filled(state: Path, vms: int = 300) -> Path:
    """A ledger with some VMs in it; its file."""
    ledger = Ledger.open(state)
    for number in range(vms):
        key = f"vm{number}"
        ledger.want(key, key, None, "d")
        ledger.pin(key, number.to_bytes(32, "big"))
        ledger.event(key, "something happened" * 10)
        ledger.settle(key, 1, Result(1, Outcome.APPLIED, [ItemResult("hostname", Outcome.APPLIED)]), "0.1.0", applied=True)
    ledger.close()
    return state / ledger_schema.FILE_NAME


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_within_a_page(path: Path) -> None:
    os.truncate(path, 3 * PAGE + 100)


def overwrite(path: Path) -> None:
    """Every page from the fourth on, as a disk that mixed them up would."""
    with path.open("r+b") as file:
        file.seek(3 * PAGE)
        file.write(os.urandom(path.stat().st_size - 3 * PAGE))


def garble(path: Path) -> None:
    path.write_bytes(b"something else entirely" * 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


DAMAGES = [truncate, cut_within_a_page, overwrite, garble, empty]


def aside_of(state: Path) -> list[Path]:
    """What was set aside, oldest first."""
    return sorted(path for path in state.glob("ledger.sqlite.corrupt-*") if not path.name.endswith(("-wal", "-shm")))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_kept_as_it_is_and_a_new_one_is_begun(state: Path, damage: Callable[[Path], None]) -> None:
    path = filled(state)
    damage(path)
    damaged = path.read_bytes()
    ledger, said = open_sound(state)
    ledger.want("vm1", "vm1", None, "d")
    assert ledger.meet("vm1", "vm1", KEY).known.lost
    ledger.check()
    ledger.close()
    (aside,) = aside_of(state)
    assert aside.read_bytes() == damaged
    assert "the ledger is damaged (" in said
    assert aside.name in said
    assert "key is pinned anew, WITHOUT a check against the one before" in said


@pytest.mark.parametrize("damage", DAMAGES)
def test_verbs_that_read_say_so_and_touch_nothing(
    state: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled(state)
    damage(path)
    damaged = path.read_bytes()
    main(["status", "--state", str(state)])
    main(["status", "vm299", "--state", str(state)])
    main(["forget-key", "vm299", "--state", str(state)])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if damage in (garble, empty):
        assert "the ledger is damaged (" in said.err
        assert "start or restart 'pv-host-agent serve'" in said.err
        assert path.read_bytes() == damaged
    assert aside_of(state) == []


@pytest.mark.parametrize("wal", [None, b"", b"garbage" * 5000])
def test_a_sound_ledger_stays_whatever_a_crash_left_beside_it(state: Path, wal: bytes | None) -> None:
    path = filled(state)
    if wal is not None:
        path.with_name(f"{path.name}-wal").write_bytes(wal)
    ledger, said = open_sound(state)
    assert said == ""
    assert ledger.meet("vm7", "vm7", (7).to_bytes(32, "big")).known.guest_key == (7).to_bytes(32, "big")
    ledger.close()
    assert aside_of(state) == []


def test_trouble_that_is_no_damage_sets_nothing_aside(state: Path) -> None:
    path = filled(state)
    path.rename(state / "elsewhere")
    path.mkdir()
    with pytest.raises(LedgerTrouble) as caught:
        open_sound(state)
    assert not isinstance(caught.value, LedgerDamaged)
    assert path.is_dir()
    path.rmdir()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerTrouble, match="newer pv-host-agent"):
        open_sound(state)
    assert aside_of(state) == []


@pytest.mark.parametrize("broken", ["link", "permissions"])
def test_a_ledger_that_cannot_be_reached_is_trouble_and_not_replaced(state: Path, broken: str) -> None:
    path = filled(state)
    if broken == "link":
        path.unlink()
        path.symlink_to(state / "gone" / "ledger")
    else:
        state.chmod(0o755)
    with pytest.raises(Exception, match=r"ledger\.sqlite|chmod 700"):
        open_sound(state)
    assert aside_of(state) == []


def test_what_was_not_yet_in_the_file_itself_goes_along(state: Path, tmp_path: Path) -> None:
    path = filled(state, 3)
    ledger = Ledger.open(state)
    ledger.want("late", "late", None, "d")
    ledger.commit()
    crashed = tmp_path / "crashed"
    shutil.copytree(state, crashed)  # as a killed process leaves it
    ledger.close()
    aside = set_aside(crashed / path.name)
    db = sqlite3.connect(aside)
    assert db.execute("SELECT count(*) FROM vm WHERE key='late'").fetchone() == (1,)
    db.close()


def test_the_first_that_were_set_aside_and_the_latest_are_kept(state: Path) -> None:
    path = filled(state, 1)
    first = path.read_bytes()
    for number in range(KEPT + 3):
        aside = set_aside(path)
        path.write_bytes(b"%d" % number)
        path.with_name(f"{path.name}-wal").write_bytes(b"wal")
    assert len(aside_of(state)) == KEPT
    assert aside_of(state)[0].read_bytes() == first
    assert aside in aside_of(state)
    assert len(list(state.glob("*.corrupt-*-wal"))) == KEPT - 1


def test_a_second_look_that_finds_nothing_wrong_keeps_the_ledger(state: Path) -> None:
    filled(state)
    ledger = Ledger.open(state)
    is_anew, said = mend(ledger, LedgerDamaged("a disk said so"))
    assert (is_anew, said) == (False, "a disk said so; a second look finds nothing wrong with it, and it stays in use")
    assert ledger.meet("vm7", "vm7", KEY).known.guest_key == (7).to_bytes(32, "big")
    ledger.close()
    assert aside_of(state) == []


def test_a_ledger_that_cannot_be_mended_yet_refuses_everything_and_raises_nothing_else(state: Path) -> None:
    path = filled(state)
    ledger = Ledger.open(state)
    garble(path)
    state.joinpath("ledger.sqlite-wal").unlink(missing_ok=True)
    ledger.abandon_file()
    ledger.event("vm1", "lost")
    for step in (ledger.commit, ledger.prove, ledger.states, lambda: ledger.want("a", "a", None, "d")):
        with pytest.raises(LedgerTrouble):
            step()
        ledger.abandon()
    assert ledger.changes == -1
    is_anew, said = mend(ledger, LedgerDamaged("x"))
    assert is_anew
    assert "it was set aside" in said
    ledger.want("a", "a", None, "d")
    ledger.close()


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


def test_a_ledger_that_is_damaged_while_it_is_served_from_is_begun_anew_from_documents_and_guests(
    dom0: Dom0, caplog: pytest.LogCaptureFixture
) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")
    for number in range(2, 60):
        dom0.document(f"vm{number}", "web")
    path = dom0.state / ledger_schema.FILE_NAME

    async def story() -> None:
        await eventually(lambda: dom0.vm("vm1").get("state") == "ready", "served")
        other = sqlite3.connect(path)  # which has everybody read the file itself again
        other.execute("UPDATE vm SET detail='' WHERE key='vm2'")
        other.commit()
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        other.close()
        overwrite(path)
        dom0.document("vm1", "web2")
        await eventually(lambda: bool(aside_of(dom0.state)), "set aside")
        await eventually(lambda: dom0.vm("vm1").get("state") == "ready", "served again")
        await eventually(lambda: dom0.vm("vm1").get("generation-applied") == 2, "and with the newest document")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(story)
    assert [str(document.local_hostname) for document in guest.applied] == ["web1", "web2"]
    vm = dom0.vm("vm1")
    assert vm["guest-key"]
    assert vm["host-keys"] == ["ssh-ed25519 AAAA host"]
    assert any("met again after the ledger was lost, and pinned anew" in event["what"] for event in vm["events"])
    assert dom0.vm("vm59")["state"] == "unreachable"
    assert caplog.text.count("it was set aside as ledger.sqlite.corrupt-") == 1


def test_a_service_that_starts_on_a_damaged_ledger_says_what_is_lost(dom0: Dom0) -> None:
    dom0.state.mkdir(mode=0o700)
    garble(dom0.state / ledger_schema.FILE_NAME)
    dom0.document("vm1", "web1")
    guest = FakeGuest()
    words = ("--documents", str(dom0.documents), "--sockets", str(dom0.sockets), "--state", str(dom0.state), "--no-xenstore")
    with FakeQemu(dom0.sockets / "vm1.sock", guest), Running("serve", *words) as running:
        running.read_until("met again after the ledger was lost, and pinned anew")
        running.interrupt()
    assert "it was set aside as ledger.sqlite.corrupt-" in running.text
    assert "WITHOUT a check against the one before" in running.text


def test_guests_of_documents_that_were_there_are_met_again_and_later_ones_for_the_first_time(state: Path) -> None:
    now = 1000.0
    ledger = Ledger.open(state, lambda: now)
    ledger.replaces_another()
    ledger.want("old", "old", None, "d")
    now += ANEW_SECONDS
    ledger.want("new", "new", None, "d")
    assert ledger.meet("old", "old", KEY).known.lost
    assert not ledger.meet("new", "new", b"n" * 32).known.lost
    ledger.pin("old", KEY)
    assert not ledger.meet("old", "old", KEY).known.lost
    ledger.close()


def test_a_ledger_of_schema_3_is_brought_up_to_date_with_all_that_it_says(state: Path) -> None:
    state.mkdir(mode=0o700)
    db = sqlite3.connect(state / ledger_schema.FILE_NAME)
    for step in ledger_schema._STEPS[:3]:
        db.executescript(step)
    db.execute(
        "INSERT INTO vm (key, name, guest_key, generation_sent, digest_sent, generation_applied, generation_items, outcome,"
        " events) VALUES ('vm1', 'vm1', ?, 3, 'd', 3, 3, 'applied', 1)", (KEY,),
    )  # fmt: skip
    db.execute("INSERT INTO event VALUES ('vm1', 0, 1000.0, 'once')")
    db.execute("INSERT INTO item VALUES ('vm1', 0, 'hostname', 'applied', '', '', '')")
    db.execute("PRAGMA user_version = 3")
    db.commit()
    db.close()
    ledger = Ledger.open(state)
    known = ledger.meet("vm1", "vm1", KEY).known
    assert (known.guest_key, known.generation_sent, known.generation_items, known.reprovision, known.lost) == (KEY, 3, 3, 0, 0)
    ledger.event("vm1", "twice")
    ledger.audit("vm1", "somebody", "did something")
    ledger.seen("vm1", 7, "/run/vm1.sock")
    ledger.close()
    with View(state) as view:
        vm = view.named("vm1")
        assert [event["what"] for event in vm["events"]] == ["once", "twice"]
        assert [item["item"] for item in vm["items"]] == ["hostname"]
        assert [what for _, _, what, _ in view.moments("vm1")] == ["seen"]
