# SPDX-License-Identifier: Apache-2.0
"""Which program is taken: what it says when it is asked, however badly it behaves; and what it is as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from host_agent.backends.asking import Answers, ask
from host_agent.backends.choice import Choice, choose
from host_agent.backends.descriptions import Convention
from host_agent.backends.directories import look
from host_agent.backends.spawn import Program, ended_how, spawn
from host_agent.errors import HostError
from tests.host.channel_program import described, install, is_no_more, is_over
from tests.host.dom0 import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLIP = "org.example.clip.1"


def choice(directory: Path, features: Sequence[str] = ()) -> Choice:
    """What is chosen of all that *directory* describes."""

    async def chosen() -> Choice:
        answers = Answers()
        try:
            return await choose(look([directory], Convention.CHANNELS).descriptions, answers.of, features)
        finally:
            await answers.close()

    return asyncio.run(chosen())


def refused(program: Path, seconds: float = 30.0) -> str:
    with pytest.raises(HostError) as caught:
        asyncio.run(ask(program, seconds))
    return str(caught.value)


# -- what a program says


def test_a_program_says_its_type_and_features(tmp_path: Path) -> None:
    said = asyncio.run(ask(install(tmp_path, "clip", CLIP, features=["fast"])))
    assert (said.type, said.features) == (CLIP, ["fast"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("print('junk')", "no JSON of the schema"),
        ("sys.exit('no\\x1b[2J card')", "it ended with status 1: no\\x1b[2J card"),
        ("sys.stderr.write('x' * 100_000); sys.exit(3)", "it ended with status 3: xxx"),
        ("print('{\"type\": \"x\"}', flush=True); sys.exit(3)", "it ended with status 3"),
        ("os.kill(os.getpid(), 9)", "it was ended by signal 9 (Killed)"),
        ("print('{\"type\": \"\\\\u001b[2J\"}')", "is no name of a type or feature"),
        ("os.write(1, b' ' * 100_000_000)", "longer than 65536 bytes"),
        ("os.write(1, b'{\"type\": \"\\xff\"}')", "no JSON of the schema"),
    ],
)  # fmt: skip
def test_a_bad_answer_is_refused_with_what_is_wrong(tmp_path: Path, answer: str, words: str) -> None:
    said = refused(install(tmp_path, "clip", CLIP, answer=answer))
    assert said.startswith(f"{tmp_path}/clip --print-capabilities: ")
    assert words in said
    assert said.isprintable()


def test_one_that_gives_no_answer_is_not_waited_for(tmp_path: Path) -> None:
    assert "no answer within 0.3 s" in refused(install(tmp_path, "clip", CLIP, answer="time.sleep(1000)"), 0.3)


def test_one_that_is_not_waited_for_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN); child = os.fork()"
    lines = f"{stubborn}; open({str(note)!r}, 'a').write(str(os.getpid()) + '\\n'); time.sleep(1000)"

    async def story() -> None:
        asking = asyncio.create_task(ask(install(tmp_path, "clip", CLIP, answer=lines), 1000))
        await eventually(lambda: note.exists() and note.read_text().count("\n") == 2, "both are there")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for pid in map(int, note.read_text().split()):
            await eventually(partial(is_over, pid), f"{pid} lives")

    asyncio.run(story())


def test_one_that_is_not_there_or_no_program_is_not_started(tmp_path: Path) -> None:
    program = install(tmp_path, "clip", CLIP)
    assert "No such file" in refused(tmp_path / "nothing")
    program.chmod(0o644)
    assert "not a program that can be started" in refused(program)
    assert "not a program that can be started" in refused(tmp_path)
    program.chmod(0o757)
    assert "everybody may write to it; cure: " in refused(program)


def test_many_who_ask_at_once_start_the_program_once_and_a_new_program_is_asked_again(tmp_path: Path) -> None:
    count = tmp_path / "count"
    noting = f"open({str(count)!r}, 'a').write('x'); print('{{\"type\": \"{{}}\"}}')"

    async def story() -> None:
        answers = Answers()
        program = install(tmp_path, "clip", CLIP, answer=noting.replace("{}", "one"))
        said = await asyncio.gather(*(answers.of(program) for _ in range(20)))
        assert {each.type for each in said} == {"one"}
        install(tmp_path, "clip", CLIP, answer=noting.replace("{}", "another"))
        assert (await answers.of(program)).type == "another"
        await answers.close()

    asyncio.run(story())
    assert count.read_text() == "xx"


# -- which is taken


def test_the_first_that_is_what_its_file_says_is_taken_and_the_others_are_told_of(tmp_path: Path) -> None:
    described(tmp_path, "10-missing.json", CLIP, tmp_path / "missing")
    described(tmp_path, "20-other.json", CLIP, install(tmp_path, "other", "org.example.other.1"))
    described(tmp_path, "30-good.json", CLIP, install(tmp_path, "good", CLIP))
    described(tmp_path, "40-better.json", CLIP, install(tmp_path, "better", CLIP))
    found = choice(tmp_path)
    assert found.taken is not None
    assert found.taken.binary == tmp_path / "good"
    (missing, why), (other, because) = found.passed_over
    assert (missing.binary.name, other.binary.name) == ("missing", "other")
    assert why == f"{tmp_path}/10-missing.json: {tmp_path}/missing: No such file or directory"
    assert because.endswith("says that its type is org.example.other.1, and not org.example.clip.1")


def test_the_first_with_all_features_is_taken(tmp_path: Path) -> None:
    for name, features in (("10", []), ("20", ["a"]), ("30", ["b", "a"]), ("40", ["a", "b"])):
        described(tmp_path, f"{name}.json", CLIP, install(tmp_path, name, CLIP, features=features))
    chosen = {wanted: choice(tmp_path, wanted.split()).taken for wanted in ("", "a", "a b", "c")}
    assert {wanted: one and one.binary.name for wanted, one in chosen.items()} == {"": "10", "a": "20", "a b": "30", "c": None}
    assert [why.rpartition(" has no ")[2] for _, why in choice(tmp_path, ["a", "c"]).passed_over] == ["a, c", "c", "c", "c"]


# -- the process


def shell(script: str, **more: str) -> Program:
    return spawn(["/bin/sh", "-c", script], output=subprocess.DEVNULL, errors=subprocess.DEVNULL, environment=more)


def test_a_program_has_nothing_of_ours_but_what_it_is_to_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    seen = tmp_path / "seen"
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)

    async def story() -> None:
        program = shell(f"exec >{seen}; env; ls -l /proc/self/fd; pwd", MORE="1")
        assert await program.wait(60)
        assert program.over.result() == 0

    asyncio.run(story())
    os.close(secret)
    text = seen.read_text()
    assert "MORE=1" in text
    assert "NOTIFY_SOCKET" not in text
    assert "HOME" not in text
    assert str(tmp_path) not in text.replace(str(seen), "")
    assert "0 -> /dev/null" in text


def test_ending_takes_sigterm_first_and_all_that_it_started(tmp_path: Path) -> None:
    async def story() -> tuple[int, int, int]:
        polite = shell(f"trap 'exit 7' TERM; touch {tmp_path}/polite; while :; do sleep 0.01; done")
        rude = shell(f"trap '' TERM; sleep 1000 & echo $! >{tmp_path}/child; touch {tmp_path}/rude; wait; sleep 1000")
        orphan = shell(f"sleep 1000 & echo $! >{tmp_path}/orphan; exit 5")
        await eventually((tmp_path / "polite").exists, "it is up")
        await eventually((tmp_path / "rude").exists, "the other is up")
        await eventually(orphan.over.done, "it has ended by itself")
        await asyncio.gather(polite.end(30), rude.end(0.3))
        for name in ("child", "orphan"):
            await eventually(partial(is_over, int((tmp_path / name).read_text())), f"{name} lives")
        assert [is_no_more(one.pid) for one in (polite, rude, orphan)] == [True, True, True]
        return polite.over.result(), rude.over.result(), orphan.over.result()

    assert asyncio.run(story()) == (7, -signal.SIGKILL, 5)


def test_ending_that_is_cancelled_kills(tmp_path: Path) -> None:
    async def story() -> None:
        program = shell(f"trap '' TERM; touch {tmp_path}/set; while :; do sleep 1; done")
        await eventually((tmp_path / "set").exists, "it is up")
        ending = asyncio.create_task(program.end(1000))
        await asyncio.sleep(0.05)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        await eventually(program.over.done, "killed")
        assert is_no_more(program.pid)

    asyncio.run(story())


def test_what_cannot_be_started_is_said() -> None:
    async def story() -> None:
        with pytest.raises(HostError, match="cannot be started"):
            spawn(["/bin/true", "\0"], output=subprocess.DEVNULL, errors=subprocess.DEVNULL)

    asyncio.run(story())


def test_an_end_is_told_as_a_status_or_a_signal() -> None:
    assert [ended_how(status) for status in (0, 3, -15)] == [
        "ended with status 0", "ended with status 3", "was ended by signal 15 (Terminated)",
    ]  # fmt: skip
