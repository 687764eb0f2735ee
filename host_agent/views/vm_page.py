# SPDX-License-Identifier: Apache-2.0
"""All that is on record of one VM, laid out for people: what it is, where it stands, its items, its facts, what happened."""

from __future__ import annotations

import sys
from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from host_agent.talk.answer import ITEM_HEADER, item_rows
from host_agent.views.table import COLOUR_OF, show
from host_agent.views.vm_values import ago

if TYPE_CHECKING:
    from collections.abc import Iterable

#: More are in `events VM`.
EVENTS_SHOWN: Final = 10
_LABEL: Final = 14

Lines = list[tuple[str, str]]


def show_vm(vm: dict[str, Any], now: float, *, audit: bool = False) -> None:
    """Print the VM, as `View.named` has it, on standard output; with its *audit* trail, if that is asked for."""
    _show_word(vm["vm"], vm["standing"])
    _section("", [("why", vm["why"])])
    _section("What it is", _identity(vm))
    _section("Where it stands", _standing(vm, now))
    if vm["items"]:
        _title("Items")
        show(ITEM_HEADER, item_rows(vm["items"]))
    _section("What the guest says of itself", _facts(vm))
    events = vm["events"][-EVENTS_SHOWN:]
    more = f" (the last {len(events)} of {len(vm['events'])}; all: pv-host-agent events {quote(vm['key'])})"
    if events:
        _title("Events" + (more if len(events) < len(vm["events"]) else ""))
        show(("at", "what"), [(event["at"], event["what"]) for event in events])
    if audit:
        _title("Audit trail" if vm["audit"] else "Audit trail: empty")
        show(("at", "who", "what"), [(entry["at"], entry["who"], entry["what"]) for entry in vm["audit"]])


def _identity(vm: dict[str, Any]) -> Lines:
    domain = "" if vm["domid"] is None else f", domain {vm['domid']}"
    met = f", first met {vm['first-met']}" if vm["first-met"] else ""
    return [
        ("uuid" if vm["key"] != vm["vm"] else "", vm["key"]),
        ("channel", f"{vm['channel']}{domain}" if vm["channel"] else domain.removeprefix(", ")),
        ("guest key", f"{vm['guest-key']}{met}" if vm["guest-key"] else ""),
        ("rival key", vm["rival-key"]),
        ("agent", vm["agent"]),
        ("known as", ", ".join(vm["names"])),
        ("certificates", "its document has some for the host keys" if vm["certified"] else ""),
    ]


def _standing(vm: dict[str, Any], now: float) -> Lines:
    whole = ": ".join(part for part in (vm["path"], vm["reason"], vm["result-detail"]) if part)
    return [
        ("state", f"{vm['state']}{_since(vm['since'], now)}"),
        ("detail", vm["detail"] if vm["detail"] != vm["why"] else ""),
        ("document", vm["document-error"] if vm["document-error"] != vm["why"] else ""),
        ("instance", vm["instance-id"]),
        ("generation", _generations(vm)),
        ("outcome", f"{vm['outcome']} in {vm['milliseconds']} ms" if vm["milliseconds"] else vm["outcome"]),
        ("reason", whole if whole != vm["why"] else ""),
        ("reprovision", "asked for: all is applied again as a new generation" if vm["reprovision"] else ""),
        ("heard", _at(vm["last-heard"], now)),
        ("heartbeat", _at(vm["last-heartbeat"], now)),
        ("sessions", str(vm["sessions"])),
        ("lines", f"{vm['dropped']} dropped, {vm['echoed']} echoed, {vm['stale']} stale"),
    ]


def _generations(vm: dict[str, Any]) -> str:
    wanted = "a new one" if vm["generation-wanted"] is None else str(vm["generation-wanted"])
    return f"{wanted} wanted, {vm['generation-sent'] or 'none'} sent, {vm['generation-applied'] or 'none'} in force"


def _facts(vm: dict[str, Any]) -> Lines:
    facts = vm["facts"]
    named = [("hostname", "hostname"), ("system", "os"), ("kernel", "kernel"), ("boot", "boot-id")]
    return [
        *((label, facts[name]) for label, name in named),
        *(("address" if not number else "", address) for number, address in enumerate(facts["addresses"])),
        *(("host key" if not number else "", key) for number, key in enumerate(vm["host-keys"])),
    ]


def _show_word(name: str, word: str) -> None:
    """The VM's name and where it stands, which is coloured on a terminal."""
    if not sys.stdout.isatty():
        print(f"{name}  {word}")
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False).print(Text.assemble((name, "bold"), "  ", (word, COLOUR_OF.get(word, ""))))


def _section(title: str, lines: Iterable[tuple[str, str]]) -> None:
    """The lines that say something; without any, nothing."""
    said = [(label, text) for label, text in lines if text]
    if said and title:
        _title(title)
    for label, text in said:
        print(f"  {label:{_LABEL}}{text}" if label or title else f"  {text}")


def _title(title: str) -> None:
    print(f"\n{title}")


def _at(time: str, now: float) -> str:
    return f"{ago(now - datetime.fromisoformat(time).timestamp())} ({time})" if time else "never"


def _since(time: str, now: float) -> str:
    return f" since {time} ({ago(now - datetime.fromisoformat(time).timestamp())})" if time else ""
