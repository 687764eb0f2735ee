# SPDX-License-Identifier: Apache-2.0
"""The journal's own protocol, against a real datagram socket and a reader of it; the catalogue of what can happen."""

from __future__ import annotations

import array
import logging
import os
import re
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.log import journal
from host_agent.log.happenings import Fields, Happening, noted
from host_agent.log.journal import IDENTIFIER, Journal, encode, priority, stderr_is_journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOP = Path(__file__).parents[2]
CATALOG = TOP / "systemd/pv-channel-agents.catalog"
Entry = dict[str, list[str]]


def parse(data: bytes) -> Entry:
    """What journald makes of a datagram."""
    entry: Entry = defaultdict(list)
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(data[:8], "little")
            value, end, data = data[8 : 8 + length], data[8 + length : 9 + length], data[9 + length :]
            assert end == b"\n"
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name), name
        entry[name.decode()].append(value.decode())
    return dict(entry)


class Journald:
    """Somebody who reads the journal's socket at *path*."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __enter__(self) -> Self:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()
        Path(self.path).unlink()

    def entries(self) -> list[Entry]:
        """What has come."""
        found: list[Entry] = []
        while True:
            try:
                data, rights, flags, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return found
            assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            found.append(parse(_read(rights[0][2]) if rights else data))


def _read(right: bytes) -> bytes:
    (descriptor,) = array.array("i", right)
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    with Journald(tmp_path / "journal") as reader:
        yield reader


@pytest.fixture
def log(journald: Journald) -> Iterator[logging.Logger]:
    """A logger of its own, to the journal."""
    handler = Journal(journald.path)
    logger = logging.Logger("test")  # outside the tree, so that nothing of it stays
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_a_line_carries_its_priority_its_id_and_whom_it_is_about(log: logging.Logger, journald: Journald) -> None:
    log.warning(
        "%s: it failed", "vm1",
        extra=noted(Happening.FAILED, vm="vm1", domid=7, generation=3, outcome="failed", item=["network", "users"]),
    )  # fmt: skip
    log.debug("plain")
    assert journald.entries() == [
        {
            "MESSAGE": ["vm1: it failed"],
            "PRIORITY": ["4"],
            "SYSLOG_IDENTIFIER": [IDENTIFIER],
            "MESSAGE_ID": [Happening.FAILED.message_id],
            "PV_VM": ["vm1"],
            "PV_DOMID": ["7"],
            "PV_GENERATION": ["3"],
            "PV_OUTCOME": ["failed"],
            "PV_ITEM": ["network", "users"],
        },
        {"MESSAGE": ["plain"], "PRIORITY": ["7"], "SYSLOG_IDENTIFIER": [IDENTIFIER]},
    ]


def test_what_is_not_known_is_no_field(log: logging.Logger, journald: Journald) -> None:
    log.info("x", extra=noted(Happening.SEEN, vm="vm1", uuid="", domid=None, item=[]))
    (entry,) = journald.entries()
    assert {name for name in entry if name.startswith("PV_")} == {"PV_VM"}


@given(st.lists(st.tuples(st.sampled_from(["MESSAGE", "PV_VM", "PV_ITEM"]), st.text())))
def test_no_value_can_make_another_field(fields: list[tuple[str, str]]) -> None:
    found = parse(encode(fields))
    expected: dict[str, list[str]] = defaultdict(list)
    for name, value in fields:
        expected[name].append(value.encode("utf-8", "backslashreplace").decode())
    assert found == expected


@pytest.mark.parametrize("value", ["a\nPRIORITY=0", "\n", "a=b\n_UID=0\n", "=", "\x00\udcff", "\nMESSAGE\n\x01\0\0\0\0\0\0\0x\n"])
def test_a_guests_word_stays_one_value_all_the_way(value: str, log: logging.Logger, journald: Journald) -> None:
    log.info("%s", value, extra=noted(Happening.REFUSED, vm=value))
    (entry,) = journald.entries()
    assert entry["MESSAGE"] == entry["PV_VM"] == [value.encode("utf-8", "backslashreplace").decode()]
    assert set(entry) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "MESSAGE_ID", "PV_VM"}


def test_a_fault_brings_its_traceback_and_what_fits_no_datagram_goes_as_a_file(
    log: logging.Logger, journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_MESSAGE", 1 << 20)
    try:
        raise ValueError("x" * 500_000)
    except ValueError:
        log.exception("a fault")
    (entry,) = journald.entries()
    assert entry["MESSAGE"][0].startswith("a fault\nTraceback (most recent call last):\n")
    assert entry["MESSAGE"][0].endswith("x" * 500_000)


def test_a_sentence_has_an_end(log: logging.Logger, journald: Journald) -> None:
    log.error("x" * 1_000_000)
    (entry,) = journald.entries()
    assert len(entry["MESSAGE"][0]) == journal.MAX_MESSAGE


def test_a_busy_journal_gets_what_waits_later_and_hears_how_much_is_missing(
    log: logging.Logger, journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_WAITING_BYTES", 100_000)
    for number in range(5000):
        log.info("line %d", number)
    got: list[str] = []
    while entries := journald.entries():
        got += [entry["MESSAGE"][0] for entry in entries]
        log.handlers[0].flush()
    missing = 5000 - (len(got) - 1)
    assert 0 < missing < 5000
    assert got[:-1] == [f"line {number}" for number in range(len(got) - 1)]
    assert got[-1] == f"{missing} lines were not logged: the journal did not take them"


def test_a_journal_that_is_started_anew_gets_what_was_said_meanwhile(tmp_path: Path) -> None:
    journald = Journald(tmp_path / "journal")
    with journald:
        handler = Journal(journald.path)
    handler.handle(logging.makeLogRecord({"msg": "nobody is there", "levelno": logging.INFO}))
    with journald:
        handler.handle(logging.makeLogRecord({"msg": "again", "levelno": logging.INFO}))
        assert [entry["MESSAGE"] for entry in journald.entries()] == [["nobody is there"], ["again"]]
    handler.close()


def test_a_line_that_cannot_be_made_stops_nothing_and_is_counted(log: logging.Logger, journald: Journald) -> None:
    log.info("%d", "no number")
    assert [entry["MESSAGE"] for entry in journald.entries()] == [["1 lines were not logged: the journal did not take them"]]


def test_without_a_socket_there_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Journal(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("level", "number"), [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)]
)
def test_priorities_are_syslogs(level: int, number: int) -> None:
    assert priority(level) == number


def test_standard_error_is_the_journal_only_where_it_is_that_stream(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file:
        status = os.fstat(file.fileno())
        right = f"{status.st_dev}:{status.st_ino}"
        assert stderr_is_journal(right, file.fileno())
        assert not stderr_is_journal(f"{right}0", file.fileno())
        assert not stderr_is_journal("", file.fileno())
    assert not stderr_is_journal(right, 10_000)


def run(tmp_path: Path, stream: str) -> str:
    """What the command writes on standard error that says one line of log; STDERR in *stream* is what that is."""
    path = tmp_path / "stderr"
    code = f"""
import os
from pathlib import Path
from host_agent import __main__ as command
from host_agent.log import journal
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = {stream!r}.replace("STDERR", f"{{status.st_dev}}:{{status.st_ino}}")
journal.Journal.__init__.__defaults__ = ({str(tmp_path / "nowhere")!r},)
command._log(verbose=False)
import logging
logging.getLogger("pv-host-agent").warning("a line")
"""
    with path.open("w") as stderr:
        subprocess.run([sys.executable, "-c", code], stderr=stderr, check=True, cwd=TOP)
    return path.read_text()


def test_where_the_journal_has_no_socket_lines_carry_their_priority(tmp_path: Path) -> None:
    assert run(tmp_path, "STDERR") == "<4>a line\n"


def test_redirected_standard_error_gets_lines_for_people(tmp_path: Path) -> None:
    assert re.fullmatch(r"\d{4}-\S+ \S+ WARNING a line\n", run(tmp_path, "1:2"))


def catalog() -> Mapping[str, str]:
    """The file's subjects by their ids."""
    parts = re.split(r"^-- (\S+)\n", CATALOG.read_text("utf-8"), flags=re.MULTILINE)[1:]
    entries = dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(entries) == len(parts) / 2
    return entries


def test_the_catalogue_and_the_code_agree() -> None:
    entries = catalog()
    assert {happening.message_id: happening.subject for happening in Happening} == {
        number: text.splitlines()[0].removeprefix("Subject: ") for number, text in entries.items()
    }
    assert len({happening.message_id for happening in Happening}) == len(Happening)
    for number, text in entries.items():
        assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", number)  # a random uuid, RFC 9562
        head, _, body = text.partition("\n\n")
        assert head.splitlines()[1:] == ["Defined-By: pv-channel-agents", "Documentation: man:pv-host-agent(8)"]
        assert body.strip()


def test_the_catalogue_names_fields_that_there_are() -> None:
    named = {one or other for one, other in re.findall(r"@(\w+)@|(PV_\w+)=", CATALOG.read_text("utf-8"))}
    assert named <= {f"PV_{name.upper()}" for name in Fields.__annotations__}
