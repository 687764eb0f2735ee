# SPDX-License-Identifier: Apache-2.0
"""Whom the clones of a template will believe: lines for trusted_keys, from the command line, from files, and from documents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from guest_agent.identity import HOST_TRUST, TEMPLATE_TRUSTED, BadTrust
from guest_agent.sealing.step import write
from pv_channel.errors import LocalError
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, REVOKED_TYPE, Trust, parse_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guest_agent.sealing.step import Step
    from guest_agent.system import System

_MODE: Final = 0o644
#: More than any fleet's keys; a larger file is something else.
_MAX_BYTES: Final = 256 * 1024


def steps(system: System, named: Iterable[str]) -> list[Step]:
    """What pins the keys in *named*, each a line or a file of lines, and what documents said of hosts, beside the pins that are
    there; raise `BadTrust`, `OSError`."""
    old, new = _stored(system, TEMPLATE_TRUSTED), _new(system, named)
    if not new:
        return []
    kept = f"{old}\n" if old and not old.endswith("\n") else old
    return write(system, TEMPLATE_TRUSTED, "".join([kept, *(f"{line}\n" for line in new)]).encode("ascii"), _MODE)


def trusted(system: System, named: Iterable[str]) -> Trust:
    """Whom clones believe when `steps` are done; raise `BadTrust`, `OSError`."""
    return parse_trusted("\n".join([_stored(system, TEMPLATE_TRUSTED), *_new(system, named)]))


def _new(system: System, named: Iterable[str]) -> list[str]:
    """The lines that the template's file lacks."""
    known = set(_said(_stored(system, TEMPLATE_TRUSTED)))
    new: list[str] = []
    learnt = [line for line in _stored(system, HOST_TRUST).splitlines() if _said(line)]
    for line in [*(line for name in named for line in _lines(name)), *learnt]:
        if not known.issuperset(_said(line)):
            new.append(line)
            known.update(_said(line))
    return new


def _stored(system: System, path: str) -> str:
    stored = system.read(path, _MAX_BYTES)
    return "" if stored is None else _checked(stored.content, system.file(path))


def _lines(name: str) -> list[str]:
    """The lines with keys that *name* is or holds; raise `BadTrust` where it has none."""
    if name.split(maxsplit=1)[:1] in ([HOST_KEY_TYPE], [AUTHORITY_TYPE], [REVOKED_TYPE]):
        return _checked(name.encode("utf-8", "surrogateescape"), "--trust").splitlines()
    try:
        with Path(name).open("rb") as file:
            text = _checked(file.read(_MAX_BYTES + 1), name)
    except OSError as exc:
        line = f"a line like '{HOST_KEY_TYPE} BASE64' or a file of such lines"
        raise BadTrust(f"--trust {name}: {exc.strerror}; expected {line}, as 'pv-host-agent keys show' prints it") from None
    lines = [line.strip() for line in text.splitlines() if _said(line)]
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


def _said(text: str) -> list[bytes | str]:
    """The keys that *text* pins, and the fingerprints that it revokes."""
    trust = parse_trusted(text)
    return [*trust.host_keys, *trust.authorities, *trust.revoked]
