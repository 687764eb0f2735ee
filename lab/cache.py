# SPDX-License-Identifier: Apache-2.0
"""Keep what was built, under the hash of everything it was built from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lab.progress import Progress

#: Versions of one layer that stay: the checkout of today, and the one a bisection or a second checkout goes back to.
KEPT_PER_LAYER = 3

#: Hex digits of a key: 80 bits, so that two inputs never meet, and paths stay readable.
KEY_DIGITS = 20

_UNFINISHED = ".unfinished-"


def default_directory() -> Path:
    """Return where builds are kept: $PV_LAB_CACHE, else below the user's cache directory."""
    if chosen := os.environ.get("PV_LAB_CACHE"):
        return Path(chosen).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "pv-channel-agents" / "lab"


def key_of(*inputs: str | bytes | Iterable[str]) -> str:
    """Return the key of these *inputs*: any change in any of them, or in their order, changes it."""
    digest = hashlib.sha256()
    for item in inputs:
        parts = [item] if isinstance(item, str | bytes) else list(item)
        digest.update(f"{len(parts)} parts\n".encode())
        for part in parts:
            raw = part.encode() if isinstance(part, str) else part
            digest.update(f"{len(raw)}\n".encode() + raw)
    return digest.hexdigest()[:KEY_DIGITS]


def key_of_tree(top: Path, paths: Iterable[Path]) -> str:
    """Return the key of the names, modes and contents of the files at or below *paths*, which lie in *top*."""
    files = {found for path in paths for found in ([path] if path.is_file() else path.rglob("*")) if found.is_file()}
    parts: list[str | bytes] = []
    for file in sorted(files):
        if "__pycache__" not in file.parts:
            parts += [str(file.relative_to(top)), "x" if os.access(file, os.X_OK) else "-", file.read_bytes()]
    return key_of(*parts)


class Cache:
    """A directory of finished layers: one is either whole, under its key, or not there."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self.directory = directory
        self._progress = progress

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the cache alone, waiting for another build to end first; the lock goes with the process."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress(f"lab: waiting for another build in {self.directory} to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            # We hold the lock, so whatever is unfinished belongs to a build that was killed.
            for leftover in self.directory.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(leftover)
            yield

    def layer(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        """Return the directory of layer *name* at *key*; when it is not there, *build* fills it first, or nothing stays."""
        finished = self.directory / f"{name}-{key}"
        if finished.is_dir():
            os.utime(finished)
            return finished
        unfinished = self.directory / f"{_UNFINISHED}{name}-{key}"
        unfinished.mkdir(parents=True)
        try:
            build(unfinished)
            unfinished.rename(finished)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        self._forget_old(name)
        return finished

    def _forget_old(self, name: str) -> None:
        versions = [path for path in self.directory.glob(f"{name}-*") if len(path.name) == len(name) + 1 + KEY_DIGITS]
        versions.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in versions[KEPT_PER_LAYER:]:
            shutil.rmtree(old, ignore_errors=True)
