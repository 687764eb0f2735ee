# SPDX-License-Identifier: Apache-2.0
"""This checkout's own wheel, and how it gets into a tree: by pip, in a virtual environment, as a user would install it."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.cache import Cache, key_of, key_of_tree
from lab.programs import run
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.progress import Progress

CHECKOUT = Path(__file__).resolve().parent.parent

#: Never in the wheel, whatever pyproject.toml says: a change there must not cost a new image.
NOT_IN_THE_WHEEL = {"lab", "tests", "docs", "bench", "chaos", "fuzz", "dist", "build"}

#: Debian 12: Python 3.11 with glibc 2.36. Wheels are named after the oldest C library they run with.
PYTHON = "3.11"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)] + ["manylinux2014_x86_64"]

#: Where the project lives in dom0 and in the guest; its commands are linked from /usr/local/bin.
ENVIRONMENT = "opt/pv-channel-agents"

_WHEELS_INSIDE = "wheels-of-the-lab"

_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def requirements(extra: str) -> list[str]:
    """Return what the project with *extra* ("guest" or "host") requires, without itself."""
    project = _pyproject()["project"]
    return [*project["dependencies"], *project["optional-dependencies"][extra]]


def dependency_wheels(cache: Cache, progress: Progress, extra: str) -> Path:
    """Return a directory of wheels for Debian 12 that *extra* needs, and of pip itself."""
    wanted = requirements(extra)

    def fill(directory: Path) -> None:
        with step(progress, f"fetching the Python packages of [{extra}]"):
            platforms = [f"--platform={platform}" for platform in PLATFORMS]
            run([*_PIP, "download", "--quiet", "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp",
                 *platforms, f"--dest={directory}", "pip", *wanted])  # fmt: skip

    return cache.layer(f"wheels-{extra}", key_of(PYTHON, PLATFORMS, wanted), fill)


def wheel(cache: Cache, progress: Progress) -> Path:
    """Return the wheel that this checkout builds as it stands, committed or not."""
    backend = _pyproject()["build-system"]["requires"]

    def fetch_backend(directory: Path) -> None:
        with step(progress, "fetching the build backend"):
            run([*_PIP, "install", "--quiet", f"--target={directory}", *backend])

    def fill(directory: Path) -> None:
        with step(progress, "building the project's wheel"):
            # A copy, because a build backend may write beside the sources, which are somebody's work.
            sources = directory / "sources"
            for path in _sources():
                target = sources / path.relative_to(CHECKOUT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
            run(
                [*_PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory}", sources],
                environment={"PYTHONPATH": str(tools)},
            )
            shutil.rmtree(sources)

    tools = cache.layer("backend", key_of(sys.version, backend), fetch_backend)
    built = cache.layer("wheel", key_of(tools.name, key_of_tree(CHECKOUT, _sources())), fill)
    return next(built.glob("*.whl"))


def _sources() -> list[Path]:
    tops = [path for path in CHECKOUT.iterdir() if not path.name.startswith(".") and path.name not in NOT_IN_THE_WHEEL]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*")) if file.is_file()]
    return [file for file in files if not {"__pycache__", ".mypy_cache"}.intersection(file.parts)]


def install_dependencies(tree: Path, wheels: Path, wanted: Sequence[str]) -> None:
    """Make the virtual environment in *tree* and install *wanted* from *wheels*, with the tree's own Python."""
    run(["chroot", tree, "python3", "-m", "venv", "--without-pip", f"/{ENVIRONMENT}"])
    _install(tree, wheels, wheels.glob("*.whl"), ["--no-index", f"--find-links=/{_WHEELS_INSIDE}", *wanted])


def install_wheel(tree: Path, wheels: Path, built: Path) -> None:
    """Install the project from *built* in *tree*, its commands at /usr/local/bin."""
    _install(tree, wheels, [built], ["--no-index", "--no-deps", f"/{_WHEELS_INSIDE}/{built.name}"])
    for command in _pyproject()["project"]["scripts"]:
        link = tree / "usr/local/bin" / command
        link.unlink(missing_ok=True)
        link.symlink_to(f"/{ENVIRONMENT}/bin/{command}")


def _install(tree: Path, wheels: Path, needed: Any, arguments: list[str]) -> None:
    inside = tree / _WHEELS_INSIDE
    inside.mkdir()
    pip = next(wheels.glob("pip-*.whl"))
    for file in [pip, *needed]:
        shutil.copy(file, inside)
    # pip runs from its own wheel (it is a zip of a package), and so never becomes a part of the template.
    run(["chroot", tree, f"/{ENVIRONMENT}/bin/python", f"/{_WHEELS_INSIDE}/{pip.name}/pip", "install", "--quiet",
         "--disable-pip-version-check", "--root-user-action=ignore", *arguments],
        environment={"PIP_CONFIG_FILE": "/dev/null", "PIP_CERT": "", "PIP_FIND_LINKS": ""})  # fmt: skip
    shutil.rmtree(inside)


def set_up_agent(tree: Path) -> None:
    """Let the guest's agent put its own udev rule, name helper and units in place, as on any template."""
    run(["chroot", tree, "/usr/local/bin/pv-guest-agent", "install"])
