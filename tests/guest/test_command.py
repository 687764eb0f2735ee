# SPDX-License-Identifier: Apache-2.0
"""Programs run without a shell, for a bounded time, and what they print is kept to a bound."""

from __future__ import annotations

import sys
import time

import pytest

from guest_agent.command import ENVIRONMENT, MAX_OUTPUT_BYTES, CommandError, run


def python(program: str, seconds: float = 20) -> tuple[int, bytes]:
    return run([sys.executable, "-c", program], seconds)


def test_status_and_both_outputs_come_back() -> None:
    program = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    assert python(program) == (3, b"out\nerr\n")


def test_no_shell_reads_the_arguments() -> None:
    assert run(["echo", "$HOME;`id`"]) == (0, b"$HOME;`id`\n")


def test_the_environment_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_TEST", "secret")
    _, output = run(["env"])
    assert sorted(output.decode().split()) == sorted(f"{name}={value}" for name, value in ENVIRONMENT.items())


def test_standard_input_is_empty() -> None:
    assert run(["cat"]) == (0, b"")


def test_only_the_end_of_much_output_is_kept() -> None:
    status, output = python("import sys; sys.stdout.write('x' * 1000000 + 'end')")
    assert (status, len(output)) == (0, MAX_OUTPUT_BYTES)
    assert output.endswith(b"xend")


def test_a_program_that_does_not_end_is_killed_with_its_children_and_what_it_said_is_kept() -> None:
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"did not end within 0\.5 s") as caught:
        run(["sh", "-c", "echo waiting; sleep 600 & wait"], 0.5)
    assert caught.value.output == b"waiting\n"
    assert time.monotonic() - began < 20


def test_a_daemon_left_behind_with_our_pipe_is_not_waited_for() -> None:
    began = time.monotonic()
    assert run(["sh", "-c", "sleep 30 & echo started"], 25) == (0, b"started\n")
    assert time.monotonic() - began < 20


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-program does not start: No such file"):
        run(["no-such-program"])


def test_a_killed_program_has_the_signal_as_its_status() -> None:
    assert run(["sh", "-c", "kill -9 $$"]).status == -9
