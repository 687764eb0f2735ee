# SPDX-License-Identifier: Apache-2.0
"""The item ``locale``: LANG in locale.conf(5), or in Debian's /etc/default/locale; the locale is generated where it is missing.

Other lines of the file are somebody else's and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import locales
from guest_agent.actions.plan import Plan
from guest_agent.changes.files import WriteFile
from guest_agent.changes.locale import MakeLocale
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.document import Document

#: Debian's, read by PAM; a link to the other one where that is the only file.
DEFAULT: Final = "/etc/default/locale"
#: systemd's, read by every login that it makes.
CONF: Final = "/etc/locale.conf"
#: What locale-gen(8) makes locales from.
WANTED: Final = "/etc/locale.gen"


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the document's locale the machine's; None where it names none. Raise `ItemError`, `OSError`."""
    if document.locale is msgspec.UNSET:
        return None
    name = str(document.locale)
    made = [] if locales.is_available(draft.system, name) else _generate(draft, name)
    changes = list(made)
    for path in _files(draft):
        changes += _set(draft, path, name)
    return Plan(changes, f"{name}, made anew" if made else name)


def _files(draft: Draft) -> list[str]:
    """The files that say the locale here; both where both are files."""
    found = [path for path in (DEFAULT, CONF) if draft.system.exists(path) and not draft.system.link(path)]
    return found or [DEFAULT if draft.system.exists("/etc/debian_version") else CONF]


def _set(draft: Draft, path: str, name: str) -> list[Change]:
    old = draft.read(path)
    content = b"" if old is None else old.content
    new = with_lang(content, name)
    if new != content:
        return draft.own(path, new)
    return [WriteFile(path, content, owned=True)]  # whatever somebody else has changed beside it


def with_lang(content: bytes, name: str) -> bytes:
    """*content* with one line that sets LANG to *name*, where the first one stood."""
    lines = content.splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if line.lstrip().startswith(b"LANG=")]
    if len(at) == 1 and lines[at[0]].strip().replace(b'"', b"") == f"LANG={name}".encode("ascii"):
        return content
    kept = [line for number, line in enumerate(lines) if number not in at]
    position = at[0] if at else len(kept)
    before = b"".join(kept[:position])
    if before and not before.endswith(b"\n"):
        before += b"\n"
    return before + f"LANG={name}\n".encode("ascii") + b"".join(kept[position:])


def _generate(draft: Draft, name: str) -> list[Change]:
    """What makes the locale itself: by locale-gen where its list is, else by localedef. One that is left over harms nobody."""
    system = draft.system
    line = locales.supported(system, name)
    if system.exists("/usr/sbin/locale-gen") or system.exists("/usr/bin/locale-gen"):
        if not line:
            raise ItemError("not-supported", f"{locales.SUPPORTED} has no locale {name}; is it spelt so?")
        old = draft.read(WANTED)
        content = b"" if old is None else old.content
        return [WriteFile(WANTED, locales.with_line(content, line), over=content),
                MakeLocale(name, ["locale-gen", "--keep-existing"])]  # fmt: skip
    source, charset = locales.source_of(name, line)
    if system.exists("/usr/bin/localedef") and system.exists(f"{locales.SOURCES}/{source}"):
        return [MakeLocale(name, ["localedef", "-i", source, "-f", charset, name])]
    raise ItemError(
        "not-supported",
        f"the locale {name} is not there, and nothing that makes it is; install the package locales (Debian), "
        f"glibc-langpack-{name.partition('_')[0]} (RHEL) or glibc-locale (SUSE) in the template, or say C.UTF-8",
    )
