# SPDX-License-Identifier: Apache-2.0
"""Files of the document's own: how they are written, whose they are, what comes back when they go, and what is not touched."""

from __future__ import annotations

import os
import stat
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent import files
from guest_agent.actions.write_files import ORIGINALS, original_of
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import Machine, document, provision

if TYPE_CHECKING:
    from pathlib import Path

OURS = "ada:ada"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """As ever."""
    return Machine(tmp_path)


def give(machine: Machine, *entries: dict[str, Any], generation: int = 1, instance: str = "i-1", **fields: Any) -> ItemResult:
    """The item's result; each file is the caller's own, for only root gives one away."""
    owned = [{"owner": OURS} | entry for entry in entries]
    return next(
        item
        for item in provision(machine, document(generation, instance, write_files=owned, **fields)).items
        if item.item == "write-files"
    )


def test_a_file_has_its_content_mode_and_the_directories_that_it_needs(machine: Machine) -> None:
    entry = {"path": "/etc/app/conf.d/one.conf", "content": "a=1\n", "permissions": "0640"}
    item = give(machine, entry)
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "1 file")
    path = machine.root / "etc/app/conf.d/one.conf"
    assert path.read_text() == "a=1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert give(machine, entry, generation=2).outcome is Outcome.UNCHANGED


def test_bytes_come_as_base64(machine: Machine) -> None:
    give(machine, {"path": "/etc/app.key", "content": b64encode(b"\0\xff").decode(), "encoding": "b64"})
    assert (machine.root / "etc/app.key").read_bytes() == b"\0\xff"


def test_a_mode_that_has_changed_is_put_right(machine: Machine) -> None:
    entry = {"path": "/etc/app.conf", "content": "a\n"}
    give(machine, entry)
    (machine.root / "etc/app.conf").chmod(0o666)
    assert give(machine, entry, generation=2).outcome is Outcome.APPLIED
    assert stat.S_IMODE((machine.root / "etc/app.conf").stat().st_mode) == 0o644


def test_what_stood_there_before_comes_back_with_its_mode_when_the_entry_goes(machine: Machine) -> None:
    machine.write("etc/motd", b"the administrator's\n", 0o604)
    before = machine.snapshot()
    give(machine, {"path": "/etc/motd", "content": "ours\n"}, {"path": "/etc/new/file", "content": "x"})
    assert machine.read("etc/motd") == "ours\n"
    give(machine, {"path": "/etc/motd", "content": "ours again\n"}, generation=2)
    assert not (machine.root / "etc/new/file").exists()
    assert give(machine, generation=3).detail == "none"
    (machine.root / "etc/new").rmdir()
    assert machine.snapshot() == before
    assert list((machine.root / ORIGINALS.lstrip("/")).iterdir()) == []


def test_a_file_that_was_the_same_already_stays_when_the_entry_goes(machine: Machine) -> None:
    machine.write("etc/motd", b"same\n")
    give(machine, {"path": "/etc/motd", "content": "same\n"})
    give(machine, generation=2)
    assert machine.read("etc/motd") == "same\n"


def test_originals_are_roots_alone_to_see(machine: Machine) -> None:
    machine.write("etc/motd", b"old\n")
    give(machine, {"path": "/etc/motd", "content": "ours\n"})
    kept = machine.root / original_of("/etc/motd").lstrip("/")
    assert kept.read_bytes() == b"old\n"
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("link", [False, True])
def test_an_absent_file_goes_and_comes_back(machine: Machine, *, link: bool) -> None:
    path = machine.root / "etc/nologin"
    if link:
        path.symlink_to("/etc/hosts")
    else:
        path.write_text("closed\n")
    before = machine.snapshot()
    assert give(machine, {"path": "/etc/nologin", "absent": True}).detail == "1 absent"
    assert not os.path.lexists(path)
    assert give(machine, {"path": "/etc/nologin", "absent": True}, generation=2).outcome is Outcome.UNCHANGED
    give(machine, generation=3)
    assert machine.snapshot() == before


def test_what_somebody_makes_where_there_shall_be_nothing_is_a_conflict_until_nobody_asks(machine: Machine) -> None:
    machine.write("etc/nologin", b"closed\n")
    give(machine, {"path": "/etc/nologin", "absent": True})
    machine.write("etc/nologin", b"somebody's\n")
    assert give(machine, {"path": "/etc/nologin", "absent": True}, generation=2).reason == "conflict"
    assert give(machine, generation=2).outcome is Outcome.APPLIED
    assert machine.read("etc/nologin") == "somebody's\n"


def test_a_file_that_somebody_changed_after_us_is_a_conflict_unless_overwritten(machine: Machine) -> None:
    machine.write("etc/motd", b"old\n")
    give(machine, {"path": "/etc/motd", "content": "ours\n"})
    machine.write("etc/motd", b"admin's\n")
    for entries in ([{"path": "/etc/motd", "content": "newer\n"}], []):
        item = give(machine, *entries, generation=2)
        assert (item.reason, "/etc/motd" in item.detail) == ("conflict", True)
        assert machine.read("etc/motd") == "admin's\n"
    give(machine, {"path": "/etc/motd", "content": "newer\n"}, generation=2, overwrite=["write-files"])
    assert machine.read("etc/motd") == "newer\n"
    give(machine, generation=3)
    assert machine.read("etc/motd") == "old\n"


def test_a_symbolic_link_is_not_written_through(machine: Machine) -> None:
    (machine.root / "etc/link").symlink_to("hosts")
    before = machine.snapshot()
    item = give(machine, {"path": "/etc/link", "content": "x"})
    assert (item.reason, "/etc/link" in item.detail) == ("symlink", True)
    assert machine.snapshot() == before


@pytest.mark.parametrize(("owner", "reason"), [("nobody-here", "no-user"), ("ada:nogroup-here", "no-group")])
def test_an_owner_whom_the_machine_does_not_have_is_named(machine: Machine, owner: str, reason: str) -> None:
    assert give(machine, {"path": "/etc/x", "owner": owner}).reason == reason


def test_an_owner_may_come_with_the_same_document(machine: Machine) -> None:
    """With the ids of whoever runs the tests, for only root gives a file away."""
    machine.write("etc/group", machine.read("etc/group").replace("ada:x:", "other:x:").encode())
    assert give(machine, {"path": "/etc/x", "owner": "ada:other"}).outcome is Outcome.APPLIED


def test_a_file_that_another_item_writes_is_said_in_one_place(machine: Machine) -> None:
    item = give(machine, {"path": "/etc/hostname", "content": "x\n"}, local_hostname="web1")
    assert (item.reason, "hostname" in item.detail) == ("conflict", True)


def test_a_directory_is_not_replaced(machine: Machine) -> None:
    machine.directory("etc/app")
    assert give(machine, {"path": "/etc/app", "content": "x"}).reason == "not-a-file"
    assert give(machine, {"path": "/etc/app", "absent": True}).reason == "not-a-file"


def test_what_others_may_not_read_is_shown_to_nobody(machine: Machine, journals: list[str]) -> None:
    machine.write("etc/app.key", b"an older SECRET", 0o600)
    raw = document(write_files=[{"path": "/etc/app.key", "content": "a SECRET\n", "permissions": "0600", "owner": OURS}])
    shown = str(machine.provisioner().plan(raw, None))
    assert "SECRET" not in shown
    assert "/etc/app.key" in shown
    result = provision(machine, raw)
    assert "SECRET" not in str(result)
    assert "SECRET" not in "".join(journals)
    assert b"SECRET" not in (machine.root / "var/lib/pv-guest-agent/state.json").read_bytes()
    assert journals


def test_a_new_instance_takes_over_what_the_old_one_left(machine: Machine) -> None:
    machine.write("etc/motd", b"old\n")
    give(machine, {"path": "/etc/motd", "content": "ours\n"}, {"path": "/etc/gone", "content": "x"})
    machine.write("etc/motd", b"changed by hand\n")
    give(machine, {"path": "/etc/motd", "content": "the clone's\n"}, instance="i-2")
    assert machine.read("etc/motd") == "the clone's\n"
    assert not (machine.root / "etc/gone").exists()
    give(machine, instance="i-2", generation=2)
    assert machine.read("etc/motd") == "old\n"


def test_a_link_that_anybody_can_have_made_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    tmp_path.chmod(0o777)
    with pytest.raises(OSError, match="symbolic links"), files.directory(str(tmp_path / "link")):
        pass
