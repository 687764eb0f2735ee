# SPDX-License-Identifier: Apache-2.0
"""Description files of backend programs: what one says, which are in force, and that nobody but root decides what is started."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.backends.choice import by_channel
from host_agent.backends.deciders import check_deciders, others_may_change
from host_agent.backends.descriptions import MAX_FILE_BYTES, Convention, parse, read
from host_agent.backends.directories import Fate, Found, directories, look
from host_agent.errors import BadFile

GOOD: dict[str, Any] = {"description": "Clipboard", "type": "org.example.clip.1", "binary": "/usr/libexec/clip"}
GPU: dict[str, Any] = {"description": "A GPU", "type": "gpu", "binary": "/usr/libexec/gpu"}
CHANNELS, VHOST_USER = Convention.CHANNELS, Convention.VHOST_USER
PATH = Path("/etc/x/50-x.json")


@pytest.fixture
def tree(tmp_path: Path) -> list[Path]:
    """Three directories, from general to specific."""
    made = [tmp_path / name for name in ("usr", "etc", "home")]
    for each in made:
        each.mkdir(mode=0o755)
    return made


def put(directory: Path, name: str, values: dict[str, Any] | str) -> Path:
    path = directory / name
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    path.chmod(0o644)
    return path


def fates(found: Found) -> list[tuple[str, str, Fate]]:
    return [(file.path.parent.name, file.path.name, file.fate) for file in found.files]


def said(content: dict[str, Any] | bytes, convention: Convention = CHANNELS) -> str:
    """What is complained of in a file."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(BadFile) as caught:
        parse(data, PATH, convention)
    text = str(caught.value)
    assert text.startswith(str(PATH))
    assert text.isprintable()
    return text


# -- one file


def test_a_file_without_channels_serves_the_channel_that_its_type_names() -> None:
    found = parse(json.dumps(GOOD).encode(), PATH, CHANNELS)
    assert found.channels == ("org.example.clip.1",)
    assert (found.type, found.binary, found.path) == ("org.example.clip.1", Path("/usr/libexec/clip"), PATH)


def test_a_file_can_name_several_channels_of_one_program() -> None:
    both = ["org.example.clip.1", "org.example.clip.2"]
    found = parse(json.dumps(GOOD | {"type": "clip", "channels": both}).encode(), PATH, CHANNELS)
    assert (found.type, found.channels) == ("clip", tuple(both))


def test_the_description_in_the_readme_is_one() -> None:
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (written,) = [block for block in re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "binary" in block]
    found = parse(written.encode(), PATH, CHANNELS)
    assert found.channels == ("org.example.backup.1",)


def test_tags_are_ignored_whatever_they_say() -> None:
    tags = ["", "type=gpu", "\x1b[2J"]
    assert parse(json.dumps(GPU | {"tags": tags}).encode(), PATH, VHOST_USER) == parse(json.dumps(GPU).encode(), PATH, VHOST_USER)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"type": "x", "binary": "/x"}, "missing required field `description`"),
        (GOOD | {"binary": "clip"}, "binary: clip is no absolute path"),
        (GOOD | {"binary": "/x\n/y"}, "binary: /x\\n/y is no absolute path"),
        (GOOD | {"binary": "/" + "x" * 5000}, "binary: "),
        (GOOD | {"binary": 7}, "binary: Expected `str`"),
        (GOOD | {"type": ""}, "type: "),
        (GOOD | {"type": "two words"}, "type: two words: a channel's name has"),
        (GOOD | {"channels": []}, "channels: "),
        (GOOD | {"channels": ["../x"]}, "channels: ../x: a channel's name has"),
        (GOOD | {"channels": "org.example.clip.1"}, "channels: "),
        (GOOD | {"tags": [1]}, "tags[0]: Expected `str`"),
        (GOOD | {"arguments": ["--x"]}, "arguments: unknown field"),
        (GOOD | {"\x1b[2J": 1}, "unknown field"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_the_place_in_it(values: dict[str, Any], words: str) -> None:
    assert words in said(values)


def test_what_is_no_json_object_is_refused() -> None:
    for data in (b"{", b"[]", b"null", b'"\xff"', b"[" * 60000, b"\0"):
        said(data)


def test_qemus_directories_take_no_word_of_ours() -> None:
    assert "type: org.example.clip.1 is none of QEMU's: 9p, " in said(GOOD, VHOST_USER)
    assert "channels: unknown field" in said(GPU | {"channels": ["x"]}, VHOST_USER)


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["description", "type", "binary", "tags", "channels", "x"]), x)).map(lambda x: json.dumps(x).encode()))
def test_nothing_that_a_file_can_hold_raises_anything_else(data: bytes) -> None:
    for convention in Convention:
        with suppress(BadFile):
            parse(data, PATH, convention)


def test_what_is_no_file_of_roots_own_is_refused_with_the_reason(tree: list[Path]) -> None:
    place = tree[0]
    good = put(place, "good.json", GOOD)
    (place / "link.json").symlink_to(good)
    os.mkfifo(place / "fifo.json")
    (place / "directory.json").mkdir()
    put(place, "open.json", GOOD).chmod(0o666)
    put(place, "long.json", " " * (MAX_FILE_BYTES + 1))
    why = {file.path.name: file.why for file in look(tree, CHANNELS).files}
    assert why["good.json"] == ""
    assert "a symbolic link" in why["link.json"]
    assert "not a regular file" in why["fifo.json"]
    assert "not a regular file" in why["directory.json"]
    assert "everybody may write to it, and so decide what is started; cure: " in why["open.json"]
    assert "longer than" in why["long.json"]
    assert all(str(place) in text for text in why.values() if text)


def test_a_file_that_is_gone_meanwhile_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="No such file"):
        read(tmp_path / "gone.json", CHANNELS)


# -- who decides


def status(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


def test_root_and_we_may_change_a_file_and_nobody_else() -> None:
    stranger, strangers = os.geteuid() + 12345, os.getegid() + 12345
    assert others_may_change(status(0o100644)) == ""
    assert others_may_change(status(0o100664, os.geteuid(), os.getegid())) == ""
    assert others_may_change(status(0o100644, stranger)) == f"belongs to uid {stranger}"
    assert others_may_change(status(0o100664, 0, strangers)) == f"the group {strangers} may write to it"
    assert others_may_change(status(0o100646)) == "everybody may write to it"
    assert others_may_change(status(0o041777)) == "everybody may write to it"
    assert others_may_change(status(0o041777), sticky_will_do=True) == ""
    assert others_may_change(status(0o120777)) == ""
    assert others_may_change(status(0o120777, stranger)) == f"belongs to uid {stranger}"


def test_every_directory_on_the_way_is_looked_at(tmp_path: Path) -> None:
    program = tmp_path / "a" / "b" / "program"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    check_deciders(program)
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(BadFile, match=rf"^{tmp_path}/a: everybody may write to it; cure: "):
        check_deciders(program)
    (tmp_path / "a").chmod(0o1777)
    check_deciders(program)


def test_links_on_the_way_are_followed_to_whoever_decides(tmp_path: Path) -> None:
    for name in ("open", "safe"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "safe" / "program").touch(0o755)
    (tmp_path / "open" / "link").symlink_to("../safe/program")
    (tmp_path / "first").symlink_to(tmp_path / "open")
    check_deciders(tmp_path / "first" / "link")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(BadFile, match=f"^{tmp_path}/open: everybody"):
        check_deciders(tmp_path / "first" / "link")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(BadFile, match="Too many levels of symbolic links"):
        check_deciders(tmp_path / "round" / "x")


# -- which are in force


def test_files_of_all_directories_are_sorted_by_name(tree: list[Path]) -> None:
    usr, etc, home = tree
    put(usr, "50-b.json", GOOD | {"binary": "/b"})
    put(etc, "60-c.json", GOOD | {"binary": "/c"})
    put(home, "40-a.json", GOOD | {"binary": "/a"})
    put(usr, "B.json", GOOD | {"binary": "/d"})
    found = look(tree, CHANNELS)
    assert [str(each.binary) for each in found.descriptions] == ["/a", "/b", "/c", "/d"]
    assert by_channel(found.descriptions)["org.example.clip.1"] == found.descriptions


def test_the_more_specific_directorys_file_takes_effect(tree: list[Path]) -> None:
    for directory in tree:
        put(directory, "50-x.json", GOOD | {"binary": f"/{directory.name}"})
    found = look(tree, CHANNELS)
    assert [str(each.binary) for each in found.descriptions] == ["/home"]
    assert [(where, f) for where, _, f in fates(found)] == [("home", Fate.TAKEN), ("etc", Fate.HIDDEN), ("usr", Fate.HIDDEN)]
    assert found.files[1].why == f"hidden by {tree[2]}/50-x.json"


def test_an_empty_file_hides_the_less_specific_ones(tree: list[Path]) -> None:
    usr, etc, _ = tree
    put(usr, "50-x.json", GOOD)
    put(usr, "60-y.json", GOOD | {"binary": "/y"})
    put(etc, "50-x.json", "")
    found = look(tree, CHANNELS)
    assert [str(each.binary) for each in found.descriptions] == ["/y"]
    assert fates(found)[:2] == [("etc", "50-x.json", Fate.EMPTY), ("usr", "50-x.json", Fate.HIDDEN)]
    assert found.complaints == ()


def test_an_empty_file_is_overruled_by_a_still_more_specific_one(tree: list[Path]) -> None:
    usr, etc, home = tree
    put(usr, "50-x.json", GOOD)
    put(etc, "50-x.json", "")
    put(home, "50-x.json", GOOD | {"binary": "/home"})
    assert [str(each.binary) for each in look(tree, CHANNELS).descriptions] == ["/home"]


def test_a_bad_file_is_skipped_and_what_it_was_to_replace_stays_hidden(tree: list[Path]) -> None:
    usr, etc, _ = tree
    put(usr, "50-x.json", GOOD)
    put(etc, "50-x.json", "{")
    put(usr, "60-y.json", GOOD | {"binary": "/y"})
    found = look(tree, CHANNELS)
    assert [str(each.binary) for each in found.descriptions] == ["/y"]
    (complaint,) = found.complaints
    assert complaint.startswith(f"{etc}/50-x.json: no JSON")


def test_a_file_that_is_no_json_by_its_name_is_not_looked_at(tree: list[Path]) -> None:
    for name in ("50-x.json~", ".50-x.json", "README", "50-x.json.swp"):
        put(tree[0], name, "{")
    assert look(tree, CHANNELS) == Found()


def test_in_a_directory_that_others_may_write_to_nothing_is_used_and_what_was_hidden_stays_hidden(tree: list[Path]) -> None:
    usr, etc, _ = tree
    put(usr, "50-x.json", GOOD)
    put(etc, "50-x.json", "")
    etc.chmod(0o1777)
    found = look(tree, CHANNELS)
    assert found.descriptions == ()
    assert fates(found)[:2] == [("etc", "50-x.json", Fate.SKIPPED), ("usr", "50-x.json", Fate.HIDDEN)]
    (complaint,) = found.complaints
    assert complaint == f"{etc}: everybody may write to it; cure: chown root {etc}; chmod go-w {etc}; nothing in {etc} is used"


def test_a_directory_that_is_none_is_complained_of_and_one_that_is_missing_is_not(tree: list[Path]) -> None:
    usr, etc, home = tree
    put(usr, "50-x.json", GOOD)
    etc.rmdir()
    home.rmdir()
    home.write_text("")
    found = look(tree, CHANNELS)
    assert len(found.descriptions) == 1
    assert found.complaints == (f"{home}: Not a directory; nothing in {home} is used",)


def test_directories_go_from_general_to_specific_and_roots_home_is_none() -> None:
    of = {"HOME": "/home/me", "XDG_CONFIG_HOME": "/cfg"}
    general = [Path("/usr/share/qemu/vhost-user"), Path("/etc/qemu/vhost-user")]
    assert directories(VHOST_USER, of, 1000) == [*general, Path("/cfg/qemu/vhost-user")]
    assert directories(VHOST_USER, {"HOME": "/home/me"}, 1000) == [*general, Path("/home/me/.config/qemu/vhost-user")]
    assert directories(VHOST_USER, of | {"XDG_CONFIG_HOME": "relative"}, 1000)[-1] == Path("/home/me/.config/qemu/vhost-user")
    assert directories(VHOST_USER, of, 0) == general
    assert directories(VHOST_USER, {}, 1000) == general
    assert directories(CHANNELS, of, 1000) == [
        Path("/usr/share/pv-host-agent/backends"), Path("/etc/pv-host-agent/backends"), Path("/cfg/pv-host-agent/backends"),
    ]  # fmt: skip
