# SPDX-License-Identifier: Apache-2.0
"""Whom the clones of a template will believe: lines for trusted_keys, from the command line or from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from guest_agent.identity import TEMPLATE_TRUSTED, BadTrust
from guest_agent.sealing.step import write
from pv_channel.errors import LocalError
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, parse_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guest_agent.sealing.step import Step
    from guest_agent.system import System

_MODE: Final = 0o644
#: More than any fleet's keys; a larger file is something else.
_MAX_BYTES: Final = 256 * 1024


def steps(system: System, named: Iterable[str]) -> list[Step]:
    """What pins the keys in *named*, each a line or a file of lines, beside those pinned already; raise `BadTrust`, `OSError`."""
    stored = system.read(TEMPLATE_TRUSTED, _MAX_BYTES)
    old = "" if stored is None else _checked(stored.content, system.file(TEMPLATE_TRUSTED))
    known = set(_keys(old))
    new: list[str] = []
    for name in named:
        for line in _lines(name):
            if not known.issuperset(_keys(line)):
                new.append(line)
                known.update(_keys(line))
    if not new:
        return []
    kept = f"{old}\n" if old and not old.endswith("\n") else old
    return write(system, TEMPLATE_TRUSTED, "".join([kept, *(f"{line}\n" for line in new)]).encode("ascii"), _MODE)


def pinned(system: System) -> bool:
    """Whether the template pins anybody already; raise `BadTrust`, `OSError`."""
    stored = system.read(TEMPLATE_TRUSTED, _MAX_BYTES)
    return stored is not None and bool(_keys(_checked(stored.content, system.file(TEMPLATE_TRUSTED))))


def _lines(name: str) -> list[str]:
    """The lines with keys that *name* is or holds; raise `BadTrust` where it has none."""
    if name.split(maxsplit=1)[:1] in ([HOST_KEY_TYPE], [AUTHORITY_TYPE]):
        return _checked(name.encode("utf-8", "surrogateescape"), "--trust").splitlines()
    try:
        with Path(name).open("rb") as file:
            text = _checked(file.read(_MAX_BYTES + 1), name)
    except OSError as exc:
        line = f"a line like '{HOST_KEY_TYPE} BASE64' or a file of such lines"
        raise BadTrust(f"--trust {name}: {exc.strerror}; expected {line}, as 'pv-host-agent keys show' prints it") from None
    lines = [line.strip() for line in text.splitlines() if _keys(line)]
    if not lines:
        raise BadTrust(f"--trust {name}: no key is in it; 'pv-host-agent keys show' prints one")
    return lines


def _checked(content: bytes, name: str) -> str:
    try:
        if len(content) > _MAX_BYTES:
            raise LocalError(f"more than {_MAX_BYTES} bytes")
        text = content.decode("ascii")
        parse_trusted(text)
    except UnicodeDecodeError:
        raise BadTrust(f"{name}: a byte that is not ASCII; correct the line or remove it") from None
    except LocalError as exc:
        raise BadTrust(f"{name}: {exc}; correct the line or remove it") from None
    return text


def _keys(text: str) -> list[bytes]:
    trust = parse_trusted(text)
    return [*trust.host_keys, *trust.authorities]
