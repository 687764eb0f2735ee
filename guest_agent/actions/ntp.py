# SPDX-License-Identifier: Apache-2.0
"""The item ``ntp``: servers for the time client that is enabled, systemd-timesyncd or chrony; or no client at all.

A client that the document disables is masked by a link of ours, which goes again when a document enables it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.actions.plan import Plan
from guest_agent.changes.files import MakeLink, missing_parents
from guest_agent.changes.running import RunCommand
from guest_agent.failure import ItemError
from guest_agent.renderers import units

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.document import Document
    from pv_channel.machine import Ntp

_UNITS: Final = "/etc/systemd/system"
#: systemctl talks to nobody where this is missing.
_SYSTEMD: Final = "/run/systemd/system"
TIMESYNCD_DIRECTORY: Final = "/etc/systemd/timesyncd.conf.d"
TIMESYNCD: Final = f"{TIMESYNCD_DIRECTORY}/60-pv-guest-agent.conf"
CHRONY_CONFIGURATIONS: Final = ("/etc/chrony/chrony.conf", "/etc/chrony.conf")


class Client(NamedTuple):
    """A time client by its unit. One that we cannot write for is known, so that it is not taken for none."""

    name: str
    unit: str


TIMESYNCD_UNIT: Final = "systemd-timesyncd.service"
CLIENTS: Final = (
    Client("systemd-timesyncd", TIMESYNCD_UNIT),
    Client("chrony", "chrony.service"),
    Client("chrony", "chronyd.service"),
    Client("ntpsec", "ntpsec.service"),
    Client("ntp", "ntp.service"),
    Client("ntp", "ntpd.service"),
    Client("openntpd", "openntpd.service"),
)


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the time come from where the document says; None where it says nothing. Raise `ItemError`, `OSError`."""
    if document.ntp is msgspec.UNSET:
        return None
    client = _client(draft)
    if not document.ntp.enabled:
        return _disabled(client, draft)
    servers = bool(document.ntp.servers or document.ntp.pools)
    if client is None:
        if servers:
            raise ItemError("not-supported", "no time client is enabled; install systemd-timesyncd or chrony in the template")
        return Plan(draft.gone([]), "no time client is enabled here")
    files, remark = _files(client, document.ntp, draft) if servers else ({}, "")
    changes: list[Change] = [RunCommand([], ["systemctl", "try-restart", client.unit], _SYSTEMD)]
    mask = f"{_UNITS}/{client.unit}"
    if mask in draft.before:
        changes.append(RunCommand([], ["systemctl", "daemon-reload"], _SYSTEMD))
    changes += draft.gone(files)
    for path, content in files.items():
        changes += draft.own(path, content)
    if mask in draft.before:
        changes += [RunCommand(["systemctl", "daemon-reload"], [], _SYSTEMD), _systemctl("start", client, "stop")]
    changes.append(_systemctl("try-restart", client))
    return Plan(changes, f"by {client.name}{remark}")


def _client(draft: Draft) -> Client | None:
    """The time client that is enabled, or would be if we had not masked it."""
    for client in CLIENTS:
        if f"{_UNITS}/{client.unit}" in draft.before or units.is_enabled(draft.system, client.unit):
            return client
    return None


def _disabled(client: Client | None, draft: Draft) -> Plan:
    if client is None:
        return Plan(draft.gone([]), "no time client is enabled here")
    mask = f"{_UNITS}/{client.unit}"
    if mask not in draft.before and draft.system.exists(mask):
        raise ItemError("not-supported", f"{mask} is a unit of this machine's own, which is not masked; disable it there")
    draft.check(mask)
    reload = ["systemctl", "daemon-reload"]
    changes: list[Change] = [
        RunCommand([], ["systemctl", "start", client.unit], _SYSTEMD),
        RunCommand([], reload, _SYSTEMD),
        *draft.gone([mask]),
        *missing_parents(draft.system, mask),
        MakeLink(mask, "/dev/null", owned=True),
        RunCommand(reload, [], _SYSTEMD),
        _systemctl("stop", client),
    ]
    return Plan(changes, f"{client.name} is masked")


def _systemctl(verb: str, client: Client, undo: str = "") -> RunCommand:
    return RunCommand(["systemctl", verb, client.unit], ["systemctl", undo, client.unit] if undo else [], _SYSTEMD)


def _files(client: Client, ntp: Ntp, draft: Draft) -> tuple[dict[str, bytes], str]:
    """Our file for *client*, and what the operator should know; raise `ItemError`."""
    if client.name == "systemd-timesyncd":
        _check_later(draft)
        servers = " ".join([*ntp.servers, *ntp.pools])
        return {TIMESYNCD: f"[Time]\nNTP=\nNTP={servers}\n".encode("ascii")}, ""  # the empty one forgets those of files before
    if client.name != "chrony":
        raise ItemError("not-supported", f"{client.name} keeps the time; the agent writes for systemd-timesyncd and chrony")
    main = next((path for path in CHRONY_CONFIGURATIONS if draft.system.exists(path)), CHRONY_CONFIGURATIONS[0])
    lines = [line.split() for line in draft.text(main).splitlines() if line.strip() and line.strip()[0] not in "#!;%"]
    content = "".join([f"server {name} iburst\n" for name in ntp.servers] + [f"pool {name} iburst\n" for name in ntp.pools])
    others = [words[1] for words in lines if words[0] in ("server", "pool", "peer") and len(words) > 1]
    remark = f", besides {', '.join(others[:3])} of {main}" if others else ""
    return {_chrony_file(main, lines): content.encode("ascii")}, remark


def _chrony_file(main: str, lines: list[list[str]]) -> str:
    """A file of ours that chrony.conf(5) has chronyd read, and that outlives a boot; raise `ItemError`."""
    for directive, name in (("sourcedir", "pv-guest-agent.sources"), ("confdir", "60-pv-guest-agent.conf")):
        for words in lines:
            for directory in words[1:] if words[0] == directive else []:
                if not directory.startswith("/run/"):
                    return f"{directory}/{name}"
    problem = f"{main} has no 'sourcedir' or 'confdir' outside /run; add 'confdir /etc/chrony.d' in the template"
    raise ItemError("not-supported", problem)


def _check_later(draft: Draft) -> None:
    """Raise `ItemError` where a file that is read after ours adds servers to it."""
    for name in draft.system.names(TIMESYNCD_DIRECTORY):
        path = f"{TIMESYNCD_DIRECTORY}/{name}"
        if name.endswith(".conf") and path > TIMESYNCD and _names_servers(draft.system.text(path)):
            draft.conflict(path, "it is read after ours and names time servers too")


def _names_servers(text: str) -> bool:
    return any(line.strip().startswith("NTP=") for line in text.splitlines())
