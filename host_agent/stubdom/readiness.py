# SPDX-License-Identifier: Apache-2.0
"""Wait until what runs in a stubdomain has written a word into xenstore, and tell apart why it has not."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.qemu.running_vm import shown
from host_agent.xenstore.errors import Lost, NoEntry
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

#: libxl's LIBXL_STUBDOM_START_TIMEOUT.
START_SECONDS: Final = 30.0
#: What QEMU, or the launcher for it, writes once it is up; and what the launcher writes once console 2 can take a state.
RUNNING: Final = "running"
READY: Final = "ready"
_GONE: Final = "@releaseDomain"
#: A wait that lasts so long is told.
_PATIENCE_SECONDS: Final = 2.0


class Why(StrEnum):
    """Why the word is not there."""

    NOT_THERE = "not-there"
    ANOTHER_WORD = "another-word"
    STUBDOMAIN_GONE = "stubdomain-gone"
    XENSTORE_GONE = "xenstore-gone"


class NotReady(HostError):  # noqa: N818 -- it says what the device model is
    """It did not come about; *why* is for programs."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why


async def wait_for(
    store: Client, pair: Pair, node: str, word: str, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Return once *node* is *word*; raise `NotReady` after *seconds*, or where it cannot come any more.

    *tell* hears of a long wait.
    """
    now = asyncio.get_running_loop().time
    begun, told = now(), False
    try:
        for watched in (node, _GONE):
            await store.watch(watched, watched)
        try:
            while (found := await _value(store, node)) != word:
                await _check_runs(store, pair)
                left = begun + seconds - now()
                if left <= 0:
                    raise _late(pair, node, word, found, seconds)
                if not told and now() - begun >= _PATIENCE_SECONDS:
                    told = True
                    tell(f"waiting for {shown(pair.stubdomain)} to write '{word}', for at most {seconds:g} s: {_said(found)}")
                await _until_something(store, left if told else min(left, _PATIENCE_SECONDS))
        finally:
            for watched in (node, _GONE):
                await store.unwatch(watched, watched)
    except Lost as exc:
        raise NotReady(Why.XENSTORE_GONE, f"{exc}: nobody can tell any more how far {shown(pair.stubdomain)} is") from None


async def _until_something(store: Client, seconds: float) -> None:
    """Something was told, or it is late."""
    try:
        async with asyncio.timeout(seconds):
            await store.wait_for_events()
    except TimeoutError:
        return
    store.take_events()


async def _check_runs(store: Client, pair: Pair) -> None:
    if not await store.is_introduced(pair.stubdomain.domid):
        raise NotReady(
            Why.STUBDOMAIN_GONE,
            f"{shown(pair.stubdomain)} is gone: it crashed, or its launcher ended it; its console 0 has QEMU's last words",
        )


async def _value(store: Client, node: str) -> str | None:
    try:
        return printable(await store.read(node), 60)
    except NoEntry:
        return None


def _late(pair: Pair, node: str, word: str, found: str | None, seconds: float) -> NotReady:
    cure = "see console 0 of the stubdomain, QEMU's log ('pv-host-agent dm consoles' says where it is)"
    if found is None:
        return NotReady(
            Why.NOT_THERE,
            f"{shown(pair.stubdomain)} has not written {node} within {seconds:g} s: QEMU has not come up; cure: {cure}",
        )
    return NotReady(Why.ANOTHER_WORD, f"{node} is {found or 'empty'}, and not {word}, after {seconds:g} s; cure: {cure}")


def _said(found: str | None) -> str:
    return "nothing is there yet" if found is None else f"it says {found or 'nothing'}"
