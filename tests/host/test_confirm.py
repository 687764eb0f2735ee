# SPDX-License-Identifier: Apache-2.0
"""dom0's own look at a changed network: real sockets on the loopback, real programs, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.talk import confirm
from host_agent.talk.confirm import Lookers, Looks
from host_agent.talk.confirmation import Asked, Verdict
from pv_channel.document import from_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEADLINE_SECONDS = 20.0


def question(rule: dict[str, Any], seconds: float = 5, generation: int = 3) -> Asked:
    document = from_values({"instance-id": "i", "confirm": rule})
    return Asked("web1", "00010203-0405-0607-0809-0a0b0c0d0e0f", generation, document.confirm, seconds)


def tcp(port: int, host: str = "localhost") -> dict[str, Any]:
    return {"check": "tcp", "tcp": f"{host}:{port}"}


def command(*argv: str) -> dict[str, Any]:
    return {"check": "command", "command": list(argv)}


async def verdict(asked: Asked) -> Verdict:
    """What one look comes to."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Verdict] = loop.create_future()
    looks = Looks(lambda look: answer.set_result(look.result()), Lookers())
    looks.look(asked)
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await answer


def look(asked: Asked) -> Verdict:
    return asyncio.run(verdict(asked))


@pytest.fixture
def listener() -> socket.socket:
    """A socket that is bound and does not listen yet."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def test_a_port_that_takes_connections_is_a_yes(listener: socket.socket) -> None:
    with listener:
        listener.listen()
        assert look(question(tcp(listener.getsockname()[1]))).good


def test_a_port_that_opens_later_is_found(listener: socket.socket) -> None:
    with listener:
        timer = threading.Timer(1.2, listener.listen)
        timer.start()
        assert look(question(tcp(listener.getsockname()[1]), 15)).good
        timer.join()


def test_a_port_that_stays_closed_is_a_no_before_the_guests_own_deadline(listener: socket.socket) -> None:
    with listener:
        began = time.monotonic()
        found = look(question(tcp(listener.getsockname()[1]), 2))
        assert time.monotonic() - began < DEADLINE_SECONDS / 2
    assert (found.generation, found.good) == (3, False)
    assert "Connection refused" in found.text


def test_a_name_without_address_is_a_no() -> None:
    found = look(question(tcp(22, "no-such-host.invalid"), 2))
    assert not found.good
    assert "no-such-host.invalid:22" in found.text


def test_a_name_that_takes_for_ever_holds_up_no_other_look(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *arguments: Any, **more: Any) -> Any:
        if host == "slow.example.org":
            answered.wait(DEADLINE_SECONDS)
        return real("127.0.0.1", *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def all_at_once() -> bool:
        slow_ones = [asyncio.create_task(verdict(question(tcp(port, "slow.example.org"), 18))) for _ in range(40)]
        await asyncio.sleep(0.2)
        good = (await verdict(question(tcp(port, "quick.example.org"), 10))).good
        for task in slow_ones:
            task.cancel()
        await asyncio.gather(*slow_ones, return_exceptions=True)
        return good

    with listener:
        listener.listen()
        port = listener.getsockname()[1]
        try:
            assert asyncio.run(all_at_once())
        finally:
            answered.set()


def test_a_command_that_ends_with_0_is_a_yes_and_knows_whom_it_is_about(tmp_path: Path) -> None:
    script = 'printf "%s %s %s" "$PV_CHANNEL_VM" "$PV_CHANNEL_UUID" "$PV_CHANNEL_GENERATION" >"$0"; read line || echo none >>"$0"'
    assert look(question(command("/bin/sh", "-c", script, str(tmp_path / "said")))).good
    assert (tmp_path / "said").read_text() == "web1 00010203-0405-0607-0809-0a0b0c0d0e0f 3none\n"


def test_a_command_is_no_shell_and_its_arguments_are_not_told() -> None:
    found = look(question(command("/bin/false", "; touch /tmp/never", "s3cret")))
    assert (found.good, found.text) == (False, "/bin/false ended with status 1")


def test_a_command_that_does_not_exist_is_a_no() -> None:
    found = look(question(command("/nowhere/program")))
    assert (found.good, found.text) == (False, "/nowhere/program does not start: No such file or directory")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_command_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f'sleep 60 & echo $$ $! >"{pids}"; wait'
    found = look(question(command("/bin/sh", "-c", script), 2))
    assert (found.good, found.text) == (False, "/bin/sh did not end in time")
    started = [int(word) for word in pids.read_text().split()]
    until(lambda: not any(map(alive, started)), "what the command started still runs")


def test_a_look_that_is_not_wanted_any_more_leaves_no_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    async def give_up() -> None:
        looks = Looks(lambda look: pytest.fail("a cancelled look gave a verdict"), Lookers())
        script = f'echo $$ >"{pid_file}.new"; mv "{pid_file}.new" "{pid_file}"; sleep 60'
        looks.look(question(command("/bin/sh", "-c", script), 60))
        while not pid_file.exists():
            await asyncio.sleep(0.02)
        looks.end()

    asyncio.run(give_up())
    until(lambda: not alive(int(pid_file.read_text())), "the command still runs")


def test_a_guest_that_asks_again_for_the_same_is_looked_at_once(tmp_path: Path) -> None:
    async def ask_thrice() -> list[Verdict]:
        verdicts: list[Verdict] = []
        looks = Looks(lambda look: verdicts.append(look.result()), Lookers())
        for seconds in (9, 8, 7):
            looks.look(question(command("/bin/sh", "-c", f'echo run >>"{tmp_path}/runs"; sleep 0.3'), seconds))
            await asyncio.sleep(0.05)
        while not verdicts:
            await asyncio.sleep(0.05)
        return verdicts

    assert [found.good for found in asyncio.run(ask_thrice())] == [True]
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_guest_that_asks_again_and_again_does_not_have_dom0_run_programs_as_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm, "BETWEEN_LOOKS_SECONDS", 1.0)

    async def ask_often() -> None:
        looks = Looks(lambda look: None, Lookers())
        for generation in range(40):
            looks.look(question(command("/bin/sh", "-c", f'echo run >>"{tmp_path}/runs"'), 9, generation + 1))
            await asyncio.sleep(0.05)
        looks.end()

    asyncio.run(ask_often())
    assert (tmp_path / "runs").read_text().count("run") <= 4


def test_the_interpreter_ends_though_a_name_is_still_being_looked_up() -> None:
    """A thread that hangs in a name server's silence must not keep `push` from ending."""
    import subprocess

    code = """
import asyncio, socket, time
from host_agent.talk import confirm
socket.getaddrinfo = lambda *a, **k: time.sleep(60)
async def main():
    task = asyncio.create_task(confirm._addresses("slow.example.org", 22))
    await asyncio.sleep(0.2)
    task.cancel()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], timeout=DEADLINE_SECONDS, check=True)


def test_where_many_ask_at_once_commands_wait_in_line_and_one_whose_turn_does_not_come_is_a_no(tmp_path: Path) -> None:
    async def story() -> tuple[Verdict, Verdict]:
        lookers = Lookers()
        lookers.commands = asyncio.Semaphore(1)
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Verdict]] = [loop.create_future(), loop.create_future()]
        slow, other = (Looks(lambda look, answer=answer: answer.set_result(look.result()), lookers) for answer in answers)  # type: ignore[misc]
        slow.look(question(command("/bin/sh", "-c", f"touch {tmp_path}/began; sleep 3600"), seconds=6))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (tmp_path / "began").exists():
                await asyncio.sleep(0.01)
            other.look(question(command("/bin/true"), seconds=1))
            return await answers[0], await answers[1]

    slow, other = asyncio.run(story())
    assert (slow.good, other.good) == (False, False)
    assert "its turn did not come in time" in other.text


def test_connections_in_line_are_made_one_after_the_other(listener: socket.socket) -> None:
    async def story() -> list[Verdict]:
        lookers = Lookers()
        lookers.attempts = asyncio.Semaphore(1)
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Verdict]] = [loop.create_future() for _ in range(5)]
        for answer in answers:
            looks = Looks(lambda look, answer=answer: answer.set_result(look.result()), lookers)  # type: ignore[misc]
            looks.look(question(tcp(listener.getsockname()[1]), seconds=DEADLINE_SECONDS))
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.gather(*answers)

    with listener:
        listener.listen()
        assert all(verdict.good for verdict in asyncio.run(story()))
