# SPDX-License-Identifier: Apache-2.0
"""A VM's place in the ledger leaves this host with the VM, and comes to be in the ledger of the host that the VM is on now.

What is loaded decides which guest is believed: a VM that this ledger knows by another key is not overwritten unasked.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple

from host_agent.errors import HostError
from host_agent.ledger import entry_rows
from host_agent.ledger.known import Known, Meeting
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import FILE_NAME
from host_agent.ledger.standing import State
from host_agent.talk.judgement import judge
from host_agent.views.status import View, is_there
from pv_channel.text import printable
from pv_channel.trust import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.ledger.entry import Entry


class NotMet(HostError):  # noqa: N818 -- it says what the VM's guest is
    """A VM whose guest was never met: there is nothing of it that could travel."""


class Refused(HostError):  # noqa: N818 -- it says what became of the entry
    """An entry that this ledger does not take as it is."""


class Manner(NamedTuple):
    """How to load. *force*: whatever this ledger knows of the VM. *as_document*: with what only an operator's document says."""

    who: str
    force: bool = False
    as_document: bool = True


class Loaded(NamedTuple):
    """What became of an entry. *taken*: it is in the ledger now; else that had newer news of the guest, and keeps them."""

    taken: bool
    text: str


def export(directory: Path, vm: str) -> Entry:
    """The entry of the VM with that name or uuid, in the ledger in *directory*; raise `NotMet` where there is none."""
    entry = None
    if is_there(directory / FILE_NAME):
        with View(directory) as view, view.as_it_is():
            found = view.one(vm)
            entry = None if found is None else entry_rows.read(view.each, found["key"], platform.node())
    if entry is None:
        raise NotMet(f"{printable(vm)}: its guest was never met from here, so there is no state of it to carry")
    return entry


def load(directory: Path, entry: Entry, vm: str, manner: Manner) -> Loaded:
    """Put *entry*, which is to be that of *vm*, into the ledger in *directory*; raise `Refused`, and then nothing has changed."""
    check_meant(entry, vm)
    ledger = Ledger.open(directory)
    try:
        with ledger.entries() as rows:
            called = rows.called(entry.name)
            _check_name(called, entry, vm)
            _check_alone(rows.same_guest(entry), entry)
            here = rows.read(entry.key, entry.name, *(called if entry.key == entry.name else ()))
            if not manner.force:
                _check_keys(here, entry)
                if here is not None and _is_newer(here, entry):
                    return _kept(ledger, here, entry, manner)
            return _take(ledger, rows, here, entry, manner)
    finally:
        ledger.close()


def check_meant(entry: Entry, vm: str) -> None:
    """Raise `Refused` where it is another VM's than *vm*."""
    if vm.lower() != entry.key.lower() and vm != entry.name:
        raise Refused(f"{printable(vm)}: what is to be loaded is the state of {_whole_name(entry)}")


def _check_name(keys: list[str], entry: Entry, vm: str) -> None:
    """Raise `Refused` where the name means another VM here."""
    others = [key for key in keys if key not in (entry.key, entry.name)]
    if others and vm.lower() != entry.key.lower():
        raise Refused(
            f"{printable(vm)}: here that is {printable(others[0])}, and the state is that of {_whole_name(entry)};"
            f" cure: name the VM by its uuid, {printable(entry.key)}, if that is meant"
        )


def _check_alone(other: str | None, entry: Entry) -> None:
    if other is not None:
        raise Refused(
            f"{printable(entry.name)}: its guest's key {_shown(entry.guest_key)} is that of {printable(other)} here, as of a VM"
            f" and its clone; cure: if {printable(other)} is gone, pv-host-agent forget-key {printable(other)}"
        )


def _check_keys(here: Entry | None, entry: Entry) -> None:
    """Raise `Refused` where this ledger knows the guest by another key, or has a quarrel over it that nobody has ended."""
    if here is None:
        return
    vm = printable(entry.name)
    if here.guest_key is not None and here.guest_key != entry.guest_key:
        raise Refused(
            f"{vm}: the key pinned here for its guest is {_shown(here.guest_key)}, and in what is to be loaded from"
            f" {printable(entry.host)} it is {_shown(entry.guest_key)}; cure: find out whose each is; --force takes the latter"
        )
    if here.rival_key is not None and here.rival_key != entry.rival_key:
        raise Refused(
            f"{vm}: there is a quarrel here over its guest's key, with {_shown(here.rival_key)}; cure: find out whose that is;"
            f" then pv-host-agent forget-key {vm}, or --force, which takes {_shown(entry.guest_key)}"
        )


def _is_newer(here: Entry, entry: Entry) -> bool:
    """Whether this ledger has later news of the same guest."""
    return (here.generation_sent, here.last_heard) > (entry.generation_sent, entry.last_heard)


def _kept(ledger: Ledger, here: Entry, entry: Entry, manner: Manner) -> Loaded:
    text = (
        f"the state of {printable(entry.host)}, with generation {entry.generation_sent}, is older than what is on record here,"
        f" generation {here.generation_sent} of the same guest; this stays"
    )
    ledger.audit(here.key, manner.who, f"offered {text}")
    return Loaded(taken=False, text=text)


def _take(ledger: Ledger, rows: entry_rows.EntryRows, here: Entry | None, entry: Entry, manner: Manner) -> Loaded:
    rows.write(entry, as_document=manner.as_document)
    if entry.rival_key is not None:
        known = Known(guest_key=entry.guest_key, rival_key=entry.rival_key)
        judgement = judge(entry.key, entry.rival_key, Meeting(known, None))
        if judgement.blocked is not None:
            ledger.block(entry.key, judgement.blocked.value, judgement.rival_key, judgement.text)
    elif here is not None and here.rival_key is not None:
        ledger.stand(entry.key, State.GREETING)
    in_force = f"generation {entry.generation_applied} of {printable(entry.instance_id)} in force"
    text = f"its state came from {printable(entry.host)}: {in_force}, the guest's key {_shown(entry.guest_key)}"
    instead = "" if here is None or here.guest_key == entry.guest_key else f" in place of {_shown(here.guest_key)}"
    ledger.event(entry.key, text)
    ledger.audit(entry.key, manner.who, f"loaded the state that came from {printable(entry.host)}: {in_force}; pinned"
                 f" {_shown(entry.guest_key)}{instead}")  # fmt: skip
    return Loaded(taken=True, text=text)


def _whole_name(entry: Entry) -> str:
    return printable(entry.name) if entry.name == entry.key else f"{printable(entry.name)} ({printable(entry.key)})"


def _shown(key: bytes | None) -> str:
    return "none" if key is None else fingerprint(key)
