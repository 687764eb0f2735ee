# SPDX-License-Identifier: Apache-2.0
"""What an operator puts into a fleet's etcd or takes out of it never undoes what somebody else wrote there meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.errors import BadFile, HostError
from host_agent.etcd.client import Etcd
from host_agent.etcd.gateway import Gateway
from host_agent.fleet.layout import Layout
from host_agent.fleet.push import Pushed, push
from host_agent.fleet.remove import Removed, name_of, remove
from tests.host.fake_gateway import FakeGateway, answer, b64, cut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

NAME = "documents/web1"
KEY = f"/pv-channel/{NAME}"
MINE, THEIRS = "instance-id: i-1\nlocal-hostname: mine\n", "instance-id: i-1\nlocal-hostname: theirs\n"


def there(value: str, revision: int) -> list[dict[str, str]]:
    return [{"key": b64(KEY), "value": b64(value), "create_revision": "1", "mod_revision": str(revision)}]


def ranges(*found: list[dict[str, str]]) -> list[Any]:
    """What is read, one after the other; then nothing."""
    return [answer({"header": {"revision": "9"}, "kvs": kvs}) for kvs in (*found, [])]


def outdone(found: list[dict[str, str]]) -> Any:
    """Of a transaction: what was compared is not so, for this is there now."""
    return answer({"header": {"revision": "9"}, "responses": [{"response_range": {"kvs": found}}]})


DONE = answer({"header": {"revision": "10"}, "succeeded": True, "responses": [{}]})


def change(fake: FakeGateway, work: Callable[[Etcd, Layout], Awaitable[Any]]) -> Any:
    async def story() -> Any:
        async with fake:
            etcd = Etcd(Gateway([fake.endpoint], answer_seconds=20))
            try:
                return await work(etcd, Layout("/pv-channel/"))
            finally:
                await etcd.close()

    return asyncio.run(story())


def pushed(fake: FakeGateway, tmp_path: Path) -> Any:
    path = tmp_path / "web1.yaml"
    path.write_text(MINE)
    return change(fake, lambda etcd, layout: push(etcd, layout, path, NAME))


def removed(fake: FakeGateway) -> Any:
    return change(fake, lambda etcd, layout: remove(etcd, layout, NAME))


def compared(fake: FakeGateway) -> list[str]:
    """The revisions that transactions were told to compare."""
    return [asked.body[0]["compare"][0]["mod_revision"] for asked in fake.asked if asked.path == "kv/txn"]


def test_a_push_compares_what_it_has_read_and_says_since_when_it_is_there(tmp_path: Path) -> None:
    fake = FakeGateway(kv_range=ranges(there(THEIRS, 7)), kv_txn=[DONE])
    assert pushed(fake, tmp_path) == Pushed(KEY, 10, is_new=True)
    assert compared(fake) == ["7"]


@pytest.mark.parametrize("now", [there(THEIRS, 8), []], ids=["written", "removed"])
def test_a_push_does_not_undo_what_somebody_else_did_meanwhile(tmp_path: Path, now: list[dict[str, str]]) -> None:
    fake = FakeGateway(kv_range=ranges(there("instance-id: i-1\n", 7)), kv_txn=[outdone(now)])
    with pytest.raises(HostError, match=f"web1.yaml: somebody else changed {KEY} meanwhile, and nothing was written") as refused:
        pushed(fake, tmp_path)
    assert "theirs" not in str(refused.value)
    assert compared(fake) == ["7"], "it is not tried again"


def test_a_push_whose_answer_was_lost_finds_that_it_was_done(tmp_path: Path) -> None:
    fake = FakeGateway(kv_range=ranges([]), kv_txn=[outdone(there(MINE, 10))])
    assert pushed(fake, tmp_path) == Pushed(KEY, 10, is_new=True)
    assert compared(fake) == ["0"]


def test_a_removal_compares_what_it_has_read() -> None:
    fake = FakeGateway(kv_range=ranges(there(THEIRS, 7)), kv_txn=[DONE])
    assert removed(fake) == Removed(KEY, was_there=True)
    assert compared(fake) == ["7"]
    (asked,) = (asked for asked in fake.asked if asked.path == "kv/txn")
    assert asked.body[0]["success"] == [{"request_delete_range": {"key": b64(KEY)}}]


def test_what_is_not_there_is_removed_without_a_write() -> None:
    fake = FakeGateway(kv_range=ranges(), kv_txn=[cut])
    assert removed(fake) == Removed(KEY, was_there=False)
    assert fake.paths() == ["kv/range"]


def test_what_is_gone_by_the_time_of_its_removal_is_removed() -> None:
    assert removed(FakeGateway(kv_range=ranges(there(THEIRS, 7)), kv_txn=[outdone([])])) == Removed(KEY, was_there=True)


def test_a_removal_does_not_take_what_somebody_else_wrote_meanwhile() -> None:
    fake = FakeGateway(kv_range=ranges(there(MINE, 7)), kv_txn=[outdone(there(THEIRS, 8))])
    with pytest.raises(HostError, match=f"{KEY}: somebody else changed it meanwhile, and nothing was removed") as refused:
        removed(fake)
    assert "theirs" not in str(refused.value)
    assert compared(fake) == ["7"], "it is not tried again"


@pytest.mark.parametrize("vm", ["", "groups/web", "../defaults", "a\nb", "x" * 1000])
def test_only_what_can_be_a_vms_name_is_removed(vm: str) -> None:
    with pytest.raises(BadFile):
        name_of(vm)
