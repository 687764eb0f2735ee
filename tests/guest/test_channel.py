# SPDX-License-Identifier: Apache-2.0
"""Which tty is ours: what xenstore answers, in what order, and what udev's helper makes of the same."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys
import threading
import time
import tty as terminal
from argparse import Namespace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.channel import ChannelMissing, Console, candidates, channel_name_of, consoles, predict
from guest_agent.channels import describe, show
from guest_agent.registry import BadRegistry, records
from guest_agent.xenbus import MAX_PAYLOAD, Xenbus, XenbusError
from pv_channel import CHANNEL_NAME
from pv_channel.errors import LocalError
from pv_channel.registry import claim
from tests.guest.channel_ends import FakeXenstore

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).parent.parent.parent
HELPER = TOP / "udev/pv-channel-name"
OTHER = "org.xenproject.guest.clipboard.0.1"
EVENT = struct.pack("=IIII", 15, 0, 0, 9) + b"state\0tok"


def console(number: int, name: str | None = OTHER, *, order: int | None = None, state: str = "Connected") -> Console:
    """A console that the kernel met as its *number* says, unless told otherwise."""
    return Console(number, state, number if order is None else order, name)


# xenstore


def test_a_node_is_read() -> None:
    store = FakeXenstore({"device/console/1/name": b"org.example.1"})
    assert Xenbus(store.descriptor).read("device/console/1/name") == b"org.example.1"
    store.close()


def test_a_node_that_is_empty_reads_as_empty_without_a_read_of_nothing() -> None:
    store = FakeXenstore({"device/console/1/name": b""})
    assert Xenbus(store.descriptor).read("device/console/1/name") == b""
    store.close()


def test_a_missing_node_is_none() -> None:
    store = FakeXenstore({})
    assert Xenbus(store.descriptor).read("device/console/1/name") is None
    store.close()


def test_watch_events_between_question_and_answer_are_passed_over() -> None:
    store = FakeXenstore({"device/console/1/name": b"org.example.1"}, before=EVENT * 3)
    xenbus = Xenbus(store.descriptor)
    assert [xenbus.read("device/console/1/name") for _ in range(2)] == [b"org.example.1"] * 2
    store.close()


def test_watch_events_without_end_are_no_wait_without_end() -> None:
    store = FakeXenstore({"a": b"b"}, before=EVENT * 100)
    with pytest.raises(XenbusError, match="many events"):
        Xenbus(store.descriptor).read("a")
    store.close()


def test_an_answer_to_another_question_is_not_taken_for_ours() -> None:
    stale = struct.pack("=IIII", 2, 999, 0, 5) + b"stale"
    store = FakeXenstore({"a": b"fresh"}, before=stale)
    assert Xenbus(store.descriptor).read("a") == b"fresh"
    store.close()


def test_an_answer_longer_than_any_can_be_is_an_error_and_is_not_waited_for() -> None:
    store = FakeXenstore({"a": b"b"}, before=struct.pack("=IIII", 2, 1, 0, MAX_PAYLOAD + 1))
    with pytest.raises(XenbusError, match="4097 bytes"):
        Xenbus(store.descriptor).read("a")
    store.close()


def test_a_silent_xenstore_is_an_error_in_bounded_time() -> None:
    store = FakeXenstore({}, silent=True)
    began = time.monotonic()
    with pytest.raises(XenbusError, match=r"no answer within 0\.2 s"):
        Xenbus(store.descriptor, seconds=0.2).read("a")
    assert time.monotonic() - began < 5
    store.close()


def test_a_machine_without_xenbus_is_told_so() -> None:
    with pytest.raises(XenbusError, match="no Xen guest"):
        Xenbus.open("/nonexistent/xenbus")


def test_a_name_that_would_draw_on_the_terminal_is_shown_escaped() -> None:
    store = FakeXenstore({"device/console/1/name": b"\x1b[2Jx\n" + b"y" * 500})
    name = channel_name_of(Xenbus(store.descriptor), 1)
    assert name is not None
    assert name.startswith("\\x1b[2Jx\\ny")
    assert len(name) <= 128
    store.close()


# prediction


def test_consoles_are_met_in_the_order_of_their_making_and_others_on_the_bus_are_no_consoles() -> None:
    bus = [("vif-0", "Connected", 1), ("console-2", "Connected", 9), ("console-10", "Closed", 7), ("console-1", "Connected", 8)]
    found = consoles(lambda: [*bus, ("console-0", "", 3), ("console-1x", "", 3)], lambda number: f"n{number}")
    assert [(c.number, c.name) for c in found] == [(10, "n10"), (1, "n1"), (2, "n2")]


def test_an_only_channel_is_hvc1_whatever_its_number_unless_others_were_there_before_it() -> None:
    found = candidates([console(3, CHANNEL_NAME)], CHANNEL_NAME)
    assert found == [f"/dev/hvc{slot}" for slot in range(1, 8)]


def test_with_consoles_2_and_3_the_second_is_hvc2_and_every_other_tty_is_tried_after_it() -> None:
    found = candidates([console(2), console(3, CHANNEL_NAME)], CHANNEL_NAME)
    assert found[0] == "/dev/hvc2"
    assert sorted(found) == [f"/dev/hvc{slot}" for slot in range(1, 8)]


def test_the_primary_console_is_never_a_candidate() -> None:
    many = [console(number) for number in range(1, 9)]
    for position in range(7):
        ours = [*many[:position], many[position]._replace(name=CHANNEL_NAME), *many[position + 1 :]]
        assert "/dev/hvc0" not in candidates(ours, CHANNEL_NAME)


def test_a_console_that_is_not_connected_takes_no_tty() -> None:
    assert predict([console(1, state="Closed"), console(2)]) == {2: 1}


def test_console_10_takes_no_tty() -> None:
    assert predict([console(1), console(10, order=2), console(2, order=3)]) == {1: 1, 2: 2}


def test_the_eighth_console_has_no_tty() -> None:
    found = [*(console(number) for number in range(1, 8)), console(8, CHANNEL_NAME)]
    with pytest.raises(ChannelMissing, match="has no tty"):
        candidates(found, CHANNEL_NAME)


def test_a_missing_channel_is_told_with_what_there_is() -> None:
    with pytest.raises(ChannelMissing, match=rf"console-1 \({OTHER}\), console-2 \(no name\)"):
        candidates([console(1), console(2, None)], CHANNEL_NAME)


# the verb


def test_channels_are_shown_with_name_state_tty_and_owner(capsys: pytest.CaptureFixture[str]) -> None:
    found = [console(1, CHANNEL_NAME), console(2), console(3, "org.example.mine"), console(4, None, state="Closed")]
    assert show(Namespace(json=True, registry=None), lambda: found) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["tty"], row["state"], row["owner"] and row["owner"][:10]) for row in rows] == [
        ("/dev/hvc1", "Connected", "this agent"),
        ("/dev/hvc2", "Connected", "Share clip"),
        ("/dev/hvc3", "Connected", None),
        (None, "Closed", None),
    ]
    assert show(Namespace(json=False, registry=None), lambda: found) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["device", "state", "tty", "name", "owner"]
    assert len(table) == 5


def test_a_guest_without_channels_is_told_what_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Namespace(json=False, registry=None), list) == 0
    assert "channel=" in capsys.readouterr().out


def test_channels_that_cannot_be_told_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def silent() -> list[Console]:
        raise XenbusError("xenstore: no answer within 5 s")

    assert show(Namespace(json=False, registry=None), silent) == 1
    assert "no answer" in capsys.readouterr().err


def test_the_registrys_own_file_gives_the_clipboard_to_another_application() -> None:
    with pytest.raises(LocalError, match="belongs to another application"):
        claim(records(None), OTHER)


def test_a_registry_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "registry"
    with pytest.raises(BadRegistry, match="No such file"):
        records(str(path))
    path.write_text("    N: a.b\nC: no indent\n")
    with pytest.raises(BadRegistry, match="registry: line 2"):
        records(str(path))


def test_nobodys_rows_are_none() -> None:
    assert describe([], []) == []


# udev's helper


@pytest.fixture(scope="module")
def helper() -> Any:
    """The helper as a module."""
    loader = SourceFileLoader("pv_channel_name", str(HELPER))
    spec = spec_from_loader("pv_channel_name", loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    return module


@pytest.fixture
def device() -> Iterator[str]:
    """A raw pty in the place of /dev/xen/xenbus, with a xenstored behind it that also tells of watches."""
    names = {f"device/console/{number}/name": name for number, name in ((1, OTHER.encode()), (2, CHANNEL_NAME.encode()))}
    store = FakeXenstore(names | {"device/console/3/name": b"two words\n"}, before=EVENT)
    master, slave = pty.openpty()
    terminal.setraw(slave)
    threading.Thread(target=store.serve, args=(master,), daemon=True).start()
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)
    store.close()


@pytest.fixture
def bus(tmp_path: Path) -> str:
    """A bus on which the kernel met console-2 before console-1."""
    for name in ("console-2", "console-1", "vif-0"):
        (tmp_path / name).mkdir()
    inodes = [(tmp_path / name).stat().st_ino for name in ("console-2", "console-1")]
    assert inodes == sorted(inodes), "this file system does not number directories as sysfs does"
    return str(tmp_path)


@pytest.mark.parametrize(
    ("asked", "status", "printed"),
    [
        ("console-2", 0, CHANNEL_NAME),
        ("console-1", 0, OTHER),
        ("hvc1", 0, CHANNEL_NAME),
        ("hvc2", 0, OTHER),
        ("hvc3", 1, ""),
        ("console-3", 1, ""),
        ("console-4", 1, ""),
        ("hvc0", 1, ""),
        ("console-0", 1, ""),
        ("ttyS0", 1, ""),
        ("", 1, ""),
    ],
)
def test_the_helper_prints_the_channels_name_or_nothing(
    helper: Any, device: str, bus: str, capsys: pytest.CaptureFixture[str], asked: str, status: int, printed: str
) -> None:
    assert helper.main([asked], bus, device) == status
    assert capsys.readouterr().out.strip() == printed


def test_the_helper_waits_for_a_dead_xenstore_only_so_long(helper: Any, monkeypatch: pytest.MonkeyPatch, bus: str) -> None:
    monkeypatch.setattr(helper, "SECONDS", 0.2)
    master, slave = pty.openpty()
    terminal.setraw(slave)
    began = time.monotonic()
    assert helper.main(["console-1"], bus, os.ttyname(slave)) == 1
    assert time.monotonic() - began < 5
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("arguments", [[], ["console-1"], ["hvc1"], ["\udcff"]])
def test_the_helper_complains_to_nobody_where_there_is_no_xen(arguments: list[str]) -> None:
    done = subprocess.run([HELPER, *arguments], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
