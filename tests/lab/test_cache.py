# SPDX-License-Identifier: Apache-2.0
"""The cache: whole layers under the hash of what they are made from."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING

import pytest

from lab.cache import KEPT_PER_LAYER, Cache, default_directory, key_of, key_of_tree
from lab.progress import silent

if TYPE_CHECKING:
    from pathlib import Path


def test_a_key_changes_with_any_input_and_with_where_one_ends() -> None:
    keys = [key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of(["ab", "c"]), key_of("c", "ab"), key_of("ab", ["c"], [])]
    assert len(set(keys)) == len(keys)
    assert key_of("ab", "c") == keys[0]


def test_a_trees_key_changes_with_content_name_and_mode_but_not_with_bytecode(tmp_path: Path) -> None:
    def key() -> str:
        return key_of_tree(tmp_path, [tmp_path / "package", tmp_path / "alone"])

    (tmp_path / "package/inner").mkdir(parents=True)
    (tmp_path / "package/inner/a.py").write_text("a")
    (tmp_path / "alone").write_text("alone")
    keys = [key()]
    (tmp_path / "package/inner/__pycache__").mkdir()
    (tmp_path / "package/inner/__pycache__/a.pyc").write_text("compiled")
    assert key() == keys[0]
    (tmp_path / "package/inner/a.py").write_text("b")
    keys.append(key())
    (tmp_path / "package/inner/a.py").rename(tmp_path / "package/inner/b.py")
    keys.append(key())
    (tmp_path / "package/inner/b.py").chmod(0o755)
    keys.append(key())
    (tmp_path / "alone").unlink()
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_a_layer_is_built_once(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(directory: Path) -> None:
        built.append(directory)
        (directory / "content").write_text("whole")

    cache = Cache(tmp_path, silent)
    with cache.locked():
        first = cache.layer("thing", key_of("1"), build)
        assert cache.layer("thing", key_of("1"), build) == first
    assert len(built) == 1
    assert built[0] != first
    assert (first / "content").read_text() == "whole"


def test_a_build_that_fails_leaves_nothing_that_could_be_taken_for_a_layer(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("half")
        raise KeyboardInterrupt

    cache = Cache(tmp_path, silent)
    with cache.locked(), pytest.raises(KeyboardInterrupt):
        cache.layer("thing", key_of("1"), fail)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_a_killed_build_left_is_swept_away_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-thing-0123").mkdir()
    (tmp_path / ".unfinished-thing-0123/half").write_text("half")
    with Cache(tmp_path, silent).locked():
        assert not (tmp_path / ".unfinished-thing-0123").exists()


def test_only_the_last_used_versions_of_a_layer_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path, silent)
    with cache.locked():
        kept = cache.layer("thing", key_of("kept"), lambda directory: None)
        other = cache.layer("thing-of-another-name", key_of("other"), lambda directory: None)
        for number in range(KEPT_PER_LAYER + 2):
            time.sleep(0.01)
            newest = cache.layer("thing", key_of(str(number)), lambda directory: None)
            cache.layer("thing", key_of("kept"), lambda directory: None)
    versions = [path for path in tmp_path.glob("thing-*") if path != other]
    assert len(versions) == KEPT_PER_LAYER
    assert {kept, newest} <= set(versions)
    assert other.is_dir()


def _hold(directory: Path, held: multiprocessing.synchronize.Event, release: multiprocessing.synchronize.Event) -> None:
    with Cache(directory, silent).locked():
        held.set()
        release.wait(60)


def test_a_second_build_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, held, release))
    first.start()
    assert held.wait(60)
    said: list[str] = []

    def hear(text: str) -> None:
        said.append(text)
        release.set()

    with Cache(tmp_path, hear).locked():
        assert "waiting for another build" in said[0]
    first.join(60)
    assert first.exitcode == 0


def test_the_environment_chooses_where_builds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PV_LAB_CACHE", str(tmp_path / "mine"))
    assert default_directory() == tmp_path / "mine"
    monkeypatch.delenv("PV_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg/pv-channel-agents/lab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_directory() == tmp_path / "home/.cache/pv-channel-agents/lab"
