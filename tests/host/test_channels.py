# SPDX-License-Identifier: Apache-2.0
"""`channels`: every channel of every domain is shown with whose it is, how far its drivers are, and who uses it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.__main__ import main
from host_agent.channels.discovery import survey
from host_agent.channels.listing import channel_values, channels, row_of
from host_agent.views.table import plain
from pv_channel import CHANNEL_NAME
from tests.host.fake_xenstored import Channel
from tests.host.patient import DOMID, UUID, Patient

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIPBOARD = "org.xenproject.guest.clipboard.0.1"


@pytest.fixture
def web1(tmp_path: Path) -> Iterator[Patient]:
    with Patient(tmp_path) as patient:
        yield patient


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text("ascii").strip()


def shown(web1: Patient) -> list[dict[str, Any]]:
    found = asyncio.run(survey(web1.where.xenstore))
    return [channel_values(channel) for channel in channels(found, CHANNEL_NAME)]


def test_a_channel_is_shown_with_both_of_its_ends(web1: Patient) -> None:
    assert shown(web1) == [
        {
            "domid": DOMID,
            "vm": "web1",
            "uuid": UUID,
            "console": "1",
            "stubdomain": None,
            "channel": CHANNEL_NAME,
            "whose": "ours",
            "connection": "socket",
            "path": str(web1.path),
            "at-path": "socket",
            "frontend-state": "connected",
            "backend-state": "connected",
            "listens": [{"pid": web1.qemu.pid, "command": comm(web1.qemu.pid), "uid": os.getuid()}],
            "connected": [{"pid": os.getpid(), "command": comm(os.getpid()), "uid": os.getuid()}],
        }
    ]


def test_another_applications_channel_is_shown_as_whose_it_is(web1: Patient) -> None:
    web1.xen.channel(DOMID, 2, Channel(CLIPBOARD, str(web1.sockets / "clip.sock")))
    web1.xen.channel(DOMID, 3, Channel("com.example.own", str(web1.sockets / "own.sock")))
    found = {one["channel"]: one for one in shown(web1)}
    assert "David Scott" in found[CLIPBOARD]["whose"]
    assert found["com.example.own"]["whose"] == ""
    assert (found[CLIPBOARD]["at-path"], found[CLIPBOARD]["listens"], found[CLIPBOARD]["connected"]) == ("nothing", [], [])


def test_a_terminal_is_shown_with_its_qemu_and_whoever_has_it_open(web1: Patient) -> None:
    master, slave = os.openpty()
    try:
        web1.xen.channel(DOMID, 2, Channel(CLIPBOARD, tty=os.ttyname(slave)))
        web1.xen.write(f"/local/domain/{DOMID}/device/console/2/tty", os.ttyname(slave), owner=0)
        found = shown(web1)[1]
    finally:
        os.close(master)
        os.close(slave)
    assert (found["connection"], found["path"], found["at-path"]) == ("pty", found["path"], "terminal")
    assert [one["pid"] for one in found["listens"]] == [web1.qemu.pid]
    assert [one["pid"] for one in found["connected"]] == [os.getpid()]


def test_a_guests_own_state_and_names_draw_nothing_on_the_terminal(web1: Patient) -> None:
    web1.xen.write(f"/local/domain/{DOMID}/device/console/1/state", b"\x1b[2J")
    web1.xen.write(f"/libxl/{DOMID}/device/console/1/name", b"org.\x1b[31m")
    found = channels(asyncio.run(survey(web1.where.xenstore)), CHANNEL_NAME)
    text = plain(("x",) * 10, [row_of(channel) for channel in found])
    assert "\x1b" not in text
    assert "\x1b" not in json.dumps([channel_values(channel) for channel in found])


def test_channels_stand_in_the_order_of_domains_and_consoles(web1: Patient) -> None:
    web1.xen.channel(DOMID, 10, Channel("com.example.ten", "/run/ten"))
    web1.xen.channel(DOMID, 2, Channel("com.example.two", "/run/two"))
    web1.xen.create(12, "web12", "", [Channel("com.example.one", "/run/one")])
    assert [(one["domid"], one["console"]) for one in shown(web1)] == [(7, "1"), (7, "2"), (7, "10"), (12, "1")]


def test_the_verb_prints_a_row_for_each_and_without_xen_one_line(
    web1: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(web1.xen.path))
    assert main(["channels"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2
    assert str(web1.path) in rows[1]
    assert main(["channels", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown(web1)
    monkeypatch.setenv("XENSTORED_PATH", str(web1.work / "nothing"))
    assert main(["channels"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "xenstore" in told.err
