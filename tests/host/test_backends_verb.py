# SPDX-License-Identifier: Apache-2.0
"""`backends`: every file with what became of it, every channel with who is to serve it and who does; `backends run`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.__main__ import main
from pv_channel import CHANNEL_NAME
from tests.host.channel_program import described, install, is_no_more, is_over
from tests.host.dom0 import eventually
from tests.host.fake_xenstored import Channel
from tests.host.patient import DOMID, UUID, Patient
from tests.host.running import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIP, AGENT = "org.example.clip.1", "org.example.agent.1"
#: A vhost-user program that does nothing but listen.
_DEVICE = """#!{python} -IS
import os, signal, socket, sys
if "--print-capabilities" in sys.argv:
    print('{{"type": "input", "features": {features}}}')
    sys.exit()
path = sys.argv[1].removeprefix("--socket-path=")
print("arguments", *sys.argv[2:], flush=True)
if "--fail" in sys.argv:
    sys.exit("no such device")
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
if "--end" in sys.argv:
    listener.accept()
    sys.exit(5)
signal.pause()
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory of description files."""
    directory = tmp_path / "backends"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture
def web1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    (tmp_path / "dom0").mkdir(mode=0o700)
    with Patient(tmp_path / "dom0") as patient:
        monkeypatch.setenv("XENSTORED_PATH", str(patient.xen.path))
        yield patient


def device(directory: Path, name: str, features: str = "[]") -> Path:
    path = directory / name
    path.write_text(_DEVICE.format(python=sys.executable, features=features))
    path.chmod(0o755)
    return path


def listed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    assert main(["backends", "--json", *words]) == status
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_every_file_is_listed_with_what_became_of_it(
    web1: Patient, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    etc = tmp_path / "etc"
    clip = install(tmp_path, "clip", CLIP, features=["fast"])
    described(files, "10-clip.json", CLIP, clip, channels=[CLIP, AGENT], description="The \x1b[2J clipboard")
    described(files, "20-hidden.json", CLIP, clip)
    described(etc, "20-hidden.json", CLIP, clip).write_text("")
    described(files, "30-bad.json", CLIP, Path("relative"))
    described(files, "40-missing.json", CLIP, tmp_path / "missing")
    values = listed(capsys, "--directory", str(files), "--directory", str(etc))
    assert values["directories"] == [str(files), str(etc)]
    assert [(Path(each["file"]).name, each["is"]) for each in values["files"]] == [
        ("10-clip.json", "taken"), ("20-hidden.json", "empty"), ("20-hidden.json", "hidden"), ("30-bad.json", "skipped"),
        ("40-missing.json", "unusable"),
    ]  # fmt: skip
    first, _, hidden, bad, missing = values["files"]
    assert first == {
        "file": f"{files}/10-clip.json", "is": "taken", "type": CLIP, "serves": [CLIP, AGENT], "program": str(clip),
        "features": ["fast"], "description": "The \\x1b[2J clipboard", "why": "",
    }  # fmt: skip
    assert hidden["why"] == f"hidden by {etc}/20-hidden.json"
    assert bad["why"] == f"{files}/30-bad.json: binary: relative is no absolute path of a program"
    assert missing["why"].endswith("missing: No such file or directory")


def test_every_channel_is_listed_with_who_is_to_serve_it_and_who_does(
    web1: Patient, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described(files, "10-missing.json", CLIP, tmp_path / "missing")
    clip = install(tmp_path, "clip", CLIP)
    described(files, "20-clip.json", CLIP, clip)
    described(files, "30-agent.json", AGENT, tmp_path / "missing")
    for number, name in enumerate((CLIP, AGENT, "org.example.nobodys.1"), 2):
        web1.xen.channel(DOMID, number, Channel(name, str(web1.sockets / f"{number}.sock")))
    channels = listed(capsys, "--directory", str(files))["channels"]
    assert [(each["channel"], each["program"], each["why"]) for each in channels] == [
        (CHANNEL_NAME, "", "ours: 'pv-host-agent serve' speaks on it itself"),
        (CLIP, str(clip), f"{files}/20-clip.json is the first that serves it and can be used"),
        (AGENT, "", f"none of its programs can be used: {files}/30-agent.json"),
        ("org.example.nobodys.1", "", "no file says of a program that it serves this"),
    ]
    assert (channels[0]["vm"], channels[0]["uuid"], channels[0]["domid"]) == ("web1", UUID, DOMID)
    assert [each["pid"] for each in channels[0]["connected"]] == [os.getpid()]


def test_the_table_says_the_same(web1: Patient, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = install(tmp_path, "clip", CLIP)
    described(files, "20-clip.json", CLIP, clip)
    assert main(["backends", "--directory", str(files)]) == 0
    header, file, empty, _, channel = capsys.readouterr().out.splitlines()
    assert header.split() == ["FILE", "IS", "TYPE", "PROGRAM"]
    assert file.split() == [f"{files}/20-clip.json", "taken", CLIP, str(clip)]
    assert empty == ""
    assert channel.endswith("ours: 'pv-host-agent serve' speaks on it itself")


def test_without_xen_the_files_are_shown_all_the_same(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(tmp_path / "nothing"))
    described(files, "20-clip.json", CLIP, install(tmp_path, "clip", CLIP))
    assert main(["backends", "--json", "--directory", str(files)]) == 1
    said = capsys.readouterr()
    assert [each["is"] for each in json.loads(said.out)["files"]] == ["taken"]
    assert said.err.startswith("pv-host-agent: no xenstore at ")
    assert said.err.endswith("; the channels of VMs are left out\n")


def test_in_qemus_directories_a_word_that_is_none_of_qemus_is_skipped(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described(files, "10-ours.json", CLIP, install(tmp_path, "clip", CLIP))
    described(files, "20-input.json", "input", device(tmp_path, "input", '["no-grab"]'))
    values = listed(capsys, "--vhost-user", "--directory", str(files))
    assert [(each["is"], each["type"], each["features"]) for each in values["files"]] == [
        ("skipped", "", []), ("taken", "input", ["no-grab"]),
    ]  # fmt: skip
    assert "channels" not in values


# -- run


@pytest.fixture
def words(files: Path, tmp_path: Path) -> list[str]:
    """The command that starts the device that can do most."""
    (tmp_path / "sockets").mkdir(mode=0o700)
    described(files, "10-plain.json", "input", device(tmp_path, "plain"))
    described(files, "20-rich.json", "input", device(tmp_path, "rich", '["no-grab"]'))
    return ["backends", "run", "input", "--directory", str(files), "--socket-path", str(tmp_path / "sockets" / "input.sock")]


def test_the_first_program_that_has_the_features_runs_until_the_command_is_ended(words: list[str], tmp_path: Path) -> None:
    for more, name in ((), "plain"), (("--feature", "no-grab"), "rich"):
        with Running(*words, *more, "--", "--evdev-path=/dev/x", "--", "-v") as running:
            running.read_until("listens at ")
            assert "arguments --evdev-path=/dev/x -- -v" in running.text
            assert f"{tmp_path}/{name} (pid " in running.text
            assert stat.S_ISSOCK((tmp_path / "sockets/input.sock").stat().st_mode)
            pid = int(running.text.partition("(pid ")[2].partition(")")[0])
            running.process.send_signal(signal.SIGTERM)
            assert running.end() == 128 + signal.SIGTERM
            assert is_no_more(pid)
        (tmp_path / "sockets/input.sock").unlink()


def test_a_program_that_fails_early_is_told_of_and_its_end_is_the_commands(words: list[str], tmp_path: Path) -> None:
    with Running(*words, "--", "--fail") as running:
        assert running.end() == 1
        assert "no such device\n" in running.text
        assert "plain ended with status 1 before it listened; what it said is above" in running.text
    with Running(*words, "--", "--end") as running, socket.socket(socket.AF_UNIX) as client:
        running.read_until("listens at ")
        client.connect(str(tmp_path / "sockets/input.sock"))
        assert running.end() == 5


def test_a_program_ends_with_the_command_that_is_killed(words: list[str]) -> None:
    with Running(*words) as running:
        running.read_until("listens at ")
        pid = int(running.text.partition("(pid ")[2].partition(")")[0])
        running.process.kill()
        asyncio.run(eventually(lambda: is_over(pid), "it has ended"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": "gpu"}, "no program of type gpu can be started: no file describes one"),
        ({"run": "run --feature=evdev-path"}, "no program of type input with evdev-path can be started: "),
        ({"input.sock": "x" * 100}, "a socket's path is absolute here, and has at most 107 bytes"),
        ({"sockets": "nowhere"}, "nowhere: No such file or directory; cure: make the directory, mode 700"),
        ({"sockets": "open"}, "open: everybody may write there; cure: chmod 700"),
        ({"input.sock": "file"}, "something else than a socket is there; cure: remove it"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_said_before_anything_is_started(
    words: list[str], change: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "sockets/file").touch()
    for old, new in change.items():
        words = [part for word in words for part in (word.replace(old, new) if old in word else word).split()]
    assert main(words) == 1
    assert said in capsys.readouterr().err
