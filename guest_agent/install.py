# SPDX-License-Identifier: Apache-2.0
"""Put what starts the agent in place: the udev rule, its helpers, and the systemd units; or take it away again."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from guest_agent import files
from guest_agent.cloud_init import is_installed
from guest_agent.directories import make_directories
from guest_agent.registry import shared
from guest_agent.system import System, split

if TYPE_CHECKING:
    import argparse

HELPERS: Final = "/usr/local/lib/pv-channel-agents"
UNITS: Final = "/etc/systemd/system"
#: The helpers' interpreter: udev starts them without the agent's own environment.
PYTHON: Final = "/usr/bin/python3"
DEFAULT_AGENT: Final = "/usr/local/bin/pv-guest-agent"
#: How the unit is enabled, as `systemctl enable` would do it; that wants a running systemd, and an image has none.
LINK: Final = f"{UNITS}/sysinit.target.wants/pv-channel-coldplug.service"
LINK_TARGET: Final = f"{UNITS}/pv-channel-coldplug.service"
UNIT: Final = f"{UNITS}/pv-guest-agent@.service"

#: What a unit's ExecStart takes without quoting (systemd.service(5), "Command lines"): no blank, quote, '%' or '$'.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9/._+@-]+", re.ASCII)
#: The kernel's own limit (path_resolution(7)).
_MAX_LINKS: Final = 40
_EXEC_START: Final = re.compile(r"(?m)^(ExecStart=)\S*/pv-guest-agent(?= )")


class Piece(NamedTuple):
    """One file: where the distribution has it, where the system wants it, and its mode."""

    source: str
    target: str
    mode: int


PIECES: Final = (
    Piece("udev/60-pv-channel.rules", "/etc/udev/rules.d/60-pv-channel.rules", 0o644),
    Piece("udev/pv-channel-name", f"{HELPERS}/pv-channel-name", 0o755),
    Piece("udev/pv-channel-coldplug", f"{HELPERS}/pv-channel-coldplug", 0o755),
    Piece("systemd/pv-guest-agent@.service", UNIT, 0o644),
    Piece("systemd/pv-channel-coldplug.service", LINK_TARGET, 0o644),
    Piece("systemd/pv-user-data.service", f"{UNITS}/pv-user-data.service", 0o644),
)
#: What has documents handed to cloud-init, besides.
HANDING: Final = (
    Piece("systemd/hand-to-cloud-init.conf", f"{UNIT}.d/hand-to-cloud-init.conf", 0o644),
    Piece("cloud-init/95-pv-guest-agent.cfg", "/etc/cloud/cloud.cfg.d/95-pv-guest-agent.cfg", 0o644),
)


class NotInstalled(Exception):  # noqa: N818 -- it says what did not happen
    """Something that is needed is missing; the message names it and the cure."""


def install_or_remove(arguments: argparse.Namespace) -> int:
    """The verb `install`: the exit status."""
    system = System(arguments.root)
    try:
        if arguments.uninstall:
            remove(system)
        else:
            install(system, agent_path(system, arguments.agent), hand_off=arguments.hand_to is not None)
    except NotInstalled as exc:
        sys.stderr.write(f"pv-guest-agent: {exc}\n")
        return 1
    except OSError as exc:
        sys.stderr.write(f"pv-guest-agent: {exc}; installing needs root, and a system under {system.root or '/'}\n")
        return 1
    if not system.root:
        _say("then: systemctl daemon-reload && udevadm control --reload && udevadm trigger --action=add --subsystem-match=xen")
    return 0


def install(system: System, agent: str, *, hand_off: bool = False) -> None:
    """Write every piece that is not as it should be, and say so. Raise `NotInstalled` or `OSError`; repeating it goes on."""
    if not system.exists(PYTHON):
        raise NotInstalled(f"{system.file(PYTHON)}, which the helper needs, is missing; Debian: apt-get install python3-minimal")
    if hand_off and not is_installed(system):
        raise NotInstalled(f"under {system.root or '/'} is no cloud-init to hand documents to; install the package")
    for piece in (*PIECES, *(HANDING if hand_off else ())):
        _write(system, piece, _content(piece, agent))
    if not hand_off:
        _remove(system, [piece.target for piece in HANDING])
    directory, name = split(LINK)
    make_directories(system, directory)
    with system.directory(directory) as opened:
        if not system.exists(LINK):
            os.symlink(LINK_TARGET, name, dir_fd=opened)
            os.fsync(opened)
            _say(f"linked    {system.file(LINK)}")


def remove(system: System) -> None:
    """Remove every piece that is there, and say so; what the agent configured stays, and so does its key."""
    _remove(system, [LINK, *(piece.target for piece in (*PIECES, *HANDING))])
    if system.exists(HELPERS):
        directory, name = split(HELPERS)
        with system.directory(directory) as opened:
            files.remove_directory(opened, name)


def _remove(system: System, targets: list[str]) -> None:
    for target in targets:
        if not system.exists(target):
            continue
        directory, name = split(target)
        with system.directory(directory) as opened:
            files.remove(opened, name)
        _say(f"removed   {system.file(target)}")
        if directory == f"{UNIT}.d":
            above, name = split(directory)
            with system.directory(above) as opened:
                files.remove_directory(opened, name)


def differences(system: System) -> tuple[str | None, list[str]]:
    """The agent that the unit starts, and what is not as `install` would leave it, in sentences; raise `OSError`."""
    unit = _EXEC_START.search(system.text(UNIT))
    agent = DEFAULT_AGENT if unit is None else unit[0].removeprefix(unit[1])
    found = []
    for piece in PIECES:
        directory, name = split(piece.target)
        try:
            with system.directory(directory) as opened:
                old = files.read(opened, name)
        except FileNotFoundError:
            old = None
        if old is None:
            found.append(f"{system.file(piece.target)} is missing; run 'pv-guest-agent install'")
        elif (old.content, old.mode) != (_content(piece, agent), piece.mode):
            found.append(f"{system.file(piece.target)} is not what this version installs; run 'pv-guest-agent install'")
    if system.link(LINK) != LINK_TARGET:
        found.append(f"{system.file(LINK)} does not enable the coldplug unit; run 'pv-guest-agent install'")
    missing = [path for path in (agent, PYTHON) if not leads_to_a_file(system, path)]
    found += [f"{system.file(path)}, which is run at boot, is missing" for path in missing]
    return (None if agent in missing else agent), found


def leads_to_a_file(system: System, path: str) -> bool:
    """Whether *path* is a file of *system*, where links, absolute ones too, lead about inside it."""
    for _ in range(_MAX_LINKS):
        name, place = "", ""
        for name in path.split("/")[1:]:
            place = os.path.normpath(f"{place}/{name}")
            target = system.link(place)
            if target:
                path = os.path.normpath(os.path.join(os.path.dirname(place), target)) + path[len(place) :]  # noqa: PTH118, PTH120
                break
        else:
            return os.path.isfile(system.file(path))  # noqa: PTH113
    return False


def agent_path(system: System, named: str | None) -> str:
    """The agent's absolute path inside *system*; raise `NotInstalled` where there is none."""
    own = str(Path(sys.executable).parent / "pv-guest-agent")
    choices = [DEFAULT_AGENT, *([own] if not system.root else [])] if named is None else [named]
    for path in choices:
        if not _PLAIN_PATH.fullmatch(path):
            raise NotInstalled(f"'{path}' cannot stand in a unit: expected an absolute path of letters, digits and / . _ + @ -")
        if system.exists(path):
            return path
    raise NotInstalled(f"there is no {system.file(choices[0])}; name the agent as that system sees it: --agent PATH")


def _content(piece: Piece, agent: str) -> bytes:
    source = shared(piece.source)
    if source is None:
        raise NotInstalled(f"the distribution's file {piece.source} is missing; install pv-channel-agents again")
    text = source.read_text(encoding="utf-8")
    return _EXEC_START.sub(lambda match: match[1] + agent, text).encode("utf-8")


def _write(system: System, piece: Piece, content: bytes) -> None:
    directory, name = split(piece.target)
    make_directories(system, directory)
    new = files.new_file(content, piece.mode)
    with system.directory(directory) as opened:
        old = files.read(opened, name)
        same = old is not None and (old.content, old.mode) == (new.content, new.mode)
        if not same:
            files.replace(opened, name, new)
    _say(f"{'as it was' if same else 'wrote    '} {system.file(piece.target)}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
