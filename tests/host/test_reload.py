# SPDX-License-Identifier: Apache-2.0
"""This host's key read again while it serves: who is greeted with which key, and what goes on."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

import pytest

from host_agent.errors import BadFile
from host_agent.keys import Identity, create_host_key, existing
from host_agent.log.happenings import Happening
from host_agent.talk.notices import What
from pv_channel.noise import KeyPair
from pv_channel.session import Heard
from pv_channel.states import State as End
from pv_channel.trust import Trust
from tests.host.dom0 import Dom0, eventually, hostnames
from tests.host.fakes import FakeGuest, FakeQemu
from tests.host.talk import UUID, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.talk import Talk


def test_a_guest_that_refused_the_old_key_is_greeted_with_the_new_one_at_once(talk: Talk) -> None:
    new = Identity(KeyPair.generate())
    talk.guest = FakeGuest(uuid=UUID, trust=Trust(frozenset((new.key.public,))))
    talk.begin()
    talk.run()
    assert talk.kinds()[-1] is What.REFUSED
    talk.conversation.be(new, talk.now)
    talk.pass_time(1)
    assert talk.vm()["state"] == "ready"


def test_a_live_session_goes_on_and_the_one_after_it_has_the_new_key(talk: Talk) -> None:
    talk.begin()
    talk.run()
    new = Identity(KeyPair.generate())
    talk.conversation.be(new, talk.now)
    talk.conversation.want(wanted({"instance-id": "i-1", "local-hostname": "web2"}), talk.now)
    talk.run()
    assert hostnames(talk.guest) == ["web1", "web2"]
    assert len(talk.guest.opened) == 1
    talk.guest.trust = Trust(frozenset((new.key.public,)))
    talk.guest.restart()
    talk.pass_time(120)
    assert len(talk.guest.opened) == 2
    assert talk.conversation.end.state is End.SEALED


def test_an_answer_to_a_greeting_with_the_old_key_is_not_taken(talk: Talk) -> None:
    conversation = talk.begin()
    answer = talk.guest.receive(talk.tick())
    conversation.end.be(KeyPair.generate(), None)
    assert [event for event in conversation.end.receive(answer) if not isinstance(event, Heard)] == []
    assert conversation.end.state is End.GREETING
    talk.pass_time(5)
    assert talk.vm()["state"] == "ready"


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


def test_sighup_reads_the_key_again_and_a_bad_file_leaves_the_old_one_in_use(
    dom0: Dom0, caplog: pytest.LogCaptureFixture
) -> None:
    first, new = dom0.identity, Identity(KeyPair.generate())
    guest = FakeGuest(trust=Trust(frozenset((new.key.public,))))
    dom0.document("vm1", "web1")

    def told(happening: Happening) -> list[str]:
        return [record.getMessage() for record in caplog.records if record.__dict__.get("happening") is happening]

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm1", "refused"), "another key is refused")
        dom0.trouble = BadFile("host.key: damaged")
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: bool(told(Happening.RELOADED)), "the reload")
        assert told(Happening.KEY_BAD) == [
            f"host.key: damaged; this host's key that was read before stays in use: {first.fingerprint} without a certificate"
        ]
        assert "is as before" in told(Happening.RELOADED)[0]
        dom0.trouble, dom0.identity = None, new
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: hostnames(guest) == ["web1"], "the new key is believed")

    with FakeQemu(dom0.sockets / "vm1.sock", guest), caplog.at_level(logging.INFO):
        dom0.serve(story)
    assert f"is new; new sessions use it: {new.fingerprint}" in told(Happening.RELOADED)[1]


def test_a_key_that_is_read_again_as_it_was_is_no_news(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    create_host_key(tmp_path, "", replace=False)
    before = existing(tmp_path)
    assert existing(tmp_path).same_as(before)
    create_host_key(tmp_path, "", replace=True)
    assert not existing(tmp_path).same_as(before)


@pytest.mark.parametrize("damage", ["missing", "link", "words", "open"])
def test_a_key_file_that_is_not_one_is_said_by_name(damage: str, tmp_path: Path) -> None:
    create_host_key(tmp_path, "", replace=False)
    tmp_path.chmod(0o700)
    path = tmp_path / "host.key"
    if damage == "words":
        path.write_text("nonsense")
    elif damage == "open":
        path.chmod(0o644)
    else:
        path.unlink()
        if damage == "link":
            path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadFile, match=r"host\.key: "):
        existing(tmp_path)
