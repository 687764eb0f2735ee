# SPDX-License-Identifier: Apache-2.0
"""Waiting for a stubdomain's QEMU: it is told as soon as it is up, and why it is not is told apart."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.stubdom.readiness import RUNNING, NotReady, Why, wait_for
from tests.host.fake_xenstored import READ
from tests.host.stubdom_dom0 import HOME, LONG, STUBDOMAIN, Stubdomains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Stubdomains]:
    with Stubdomains(tmp_path) as one:
        one.published()
        yield one


def waited(dom0: Stubdomains, seconds: float, then: Callable[[], None] = lambda: None) -> None:
    """Wait, and do *then* once xenstore was looked at."""

    async def story(store: Client, pair: Pair) -> None:
        waiting = asyncio.create_task(wait_for(store, pair, pair.state, RUNNING, seconds, dom0.said.append))
        before = dom0.xen.requests[READ]
        while dom0.xen.requests[READ] == before:
            await asyncio.sleep(0.01)
        then()
        await waiting

    dom0.tell(story)


def why(dom0: Stubdomains, seconds: float, then: Callable[[], None] = lambda: None) -> tuple[Why, str]:
    with pytest.raises(NotReady) as told:
        waited(dom0, seconds, then)
    return told.value.why, str(told.value)


def test_a_qemu_that_is_up_is_not_waited_for(dom0: Stubdomains) -> None:
    dom0.up()
    waited(dom0, LONG)
    assert dom0.said == []


def test_a_qemu_that_comes_up_is_noticed_by_a_watch(dom0: Stubdomains) -> None:
    waited(dom0, LONG, lambda: dom0.xen.write(f"{HOME}/state", "running", STUBDOMAIN))


def test_another_word_is_not_the_word_and_may_become_it(dom0: Stubdomains) -> None:
    dom0.xen.write(f"{HOME}/state", "starting")
    waited(dom0, LONG, lambda: dom0.xen.write(f"{HOME}/state", "running"))


def test_what_is_not_there_in_time_is_said_with_its_node(dom0: Stubdomains) -> None:
    word, sentence = why(dom0, 0.1)
    assert word is Why.NOT_THERE
    assert f"has not written {HOME}/state within 0.1 s: QEMU has not come up" in sentence
    assert "dm consoles" in sentence


def test_another_word_in_the_end_is_said(dom0: Stubdomains) -> None:
    dom0.xen.write(f"{HOME}/state", "dead\x1b[2J")
    word, sentence = why(dom0, 0.1)
    assert word is Why.ANOTHER_WORD
    assert f"{HOME}/state is dead\\x1b[2J, and not running" in sentence


def test_a_stubdomain_that_ends_meanwhile_is_not_waited_for(dom0: Stubdomains) -> None:
    word, sentence = why(dom0, LONG, lambda: dom0.xen.destroy(STUBDOMAIN))
    assert word is Why.STUBDOMAIN_GONE
    assert "web1-dm (9) is gone" in sentence


def test_a_xenstored_that_ends_meanwhile_is_not_waited_for(dom0: Stubdomains) -> None:
    word, sentence = why(dom0, LONG, dom0.xen.cut)
    assert word is Why.XENSTORE_GONE
    assert "xenstored closed the connection: nobody can tell any more" in sentence


def test_a_long_wait_is_told_once(dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_agent.stubdom.readiness._PATIENCE_SECONDS", 0.05)
    why(dom0, 0.5)
    assert dom0.said == ["waiting for domain web1-dm (9) to write 'running', for at most 0.5 s: nothing is there yet"]


def test_nothing_is_watched_any_more_afterwards(dom0: Stubdomains) -> None:
    async def story(store: Client, pair: Pair) -> None:
        for _ in range(3):  # the same watches again would be refused
            with pytest.raises(NotReady):
                await wait_for(store, pair, pair.state, RUNNING, 0.05)

    dom0.tell(story)


def test_the_verb_says_how_long_it_took_or_why_not(dom0: Stubdomains, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dm", "wait", "web1", "--timeout", "0.1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["why"] == "not-there"
    assert main(["dm", "wait", "web1", "--timeout", "0.1"]) == 1
    assert capsys.readouterr().err.startswith("pv-host-agent: domain web1-dm (9) has not written")
    timer = threading.Timer(0.2, dom0.up)
    timer.start()
    assert main(["dm", "wait", "--stubdom", "9"]) == 0
    timer.join()
    assert "domain web1 (7) with its QEMU in domain web1-dm (9)" in capsys.readouterr().out
