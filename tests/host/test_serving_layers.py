# SPDX-License-Identifier: Apache-2.0
"""`serve` over defaults and groups: a change reaches the guests that it concerns, a fault none of them and the log once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tests.host.dom0 import Dom0, eventually, hostnames
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def zones(guest: FakeGuest) -> list[str]:
    """What a guest's time zone has been, one after the other."""
    return [str(document.timezone) for document in guest.applied]


def test_a_changed_group_reaches_its_vms_and_nobody_else(tmp_path: Path) -> None:
    dom0, web, db = Dom0(tmp_path), FakeGuest(), FakeGuest()
    (tmp_path / "groups").mkdir(mode=0o700)
    (tmp_path / "groups/web.yaml").write_text("timezone: UTC\n")
    dom0.document("vm1", "web1", inherit="[web]")
    dom0.document("vm2", "db1")

    async def story() -> None:
        await eventually(lambda: (zones(web), hostnames(db)) == (["UTC"], ["db1"]), "the first documents")
        (tmp_path / "groups/web.yaml").write_text("timezone: Europe/Rome\n")
        await eventually(lambda: zones(web) == ["UTC", "Europe/Rome"], "the group's change")
        (tmp_path / "defaults.yaml").write_text("timezone: Asia/Tokyo\n")
        await eventually(lambda: zones(db) == ["UNSET", "Asia/Tokyo"], "the defaults that came")

    with FakeQemu(dom0.sockets / "vm1.sock", web), FakeQemu(dom0.sockets / "vm2.sock", db):
        dom0.serve(story)
    assert zones(web) == ["UTC", "Europe/Rome"]


def test_bad_defaults_are_logged_once_and_leave_every_vm_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dom0, guests = Dom0(tmp_path), [FakeGuest() for _ in range(3)]
    names = [f"vm{number}" for number in range(3)]
    for name in names:
        dom0.document(name, name)

    async def story() -> None:
        await eventually(lambda: [hostnames(guest) for guest in guests] == [[name] for name in names], "the first documents")
        (tmp_path / "defaults.yaml").write_text("timezone: ../x\n")
        await eventually(lambda: all(dom0.vm(name)["document-error"] for name in names), "an error for each")
        (tmp_path / "defaults.yaml").write_text("# mended\n{}\n")
        await eventually(lambda: not any(dom0.vm(name)["document-error"] for name in names), "no error any more")

    with (
        FakeQemu(dom0.sockets / "vm0.sock", guests[0]),
        FakeQemu(dom0.sockets / "vm1.sock", guests[1]),
        FakeQemu(dom0.sockets / "vm2.sock", guests[2]),
        caplog.at_level(logging.ERROR),
    ):
        dom0.serve(story)
    assert caplog.text.count("defaults.yaml:1:11: timezone: ") == 1
    assert "and 2 more VMs; what was in force stays" in caplog.text
    assert [hostnames(guest) for guest in guests] == [[name] for name in names]
