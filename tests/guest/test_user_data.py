# SPDX-License-Identifier: Apache-2.0
"""user-data's scripts: found, kept private, run once in the life of an instance and never twice, and told of later."""

from __future__ import annotations

import os
import stat
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_agent import command, scripts, user_data_run
from guest_agent.command import CommandError, Completed
from guest_agent.late import news
from guest_agent.log import Log
from guest_agent.state import Busy, Store
from guest_agent.user_data import LOCK_SECONDS, Runner
from guest_agent.user_data_run import BEGUN, DIRECTORY, RESULT, RUN, UNIT, WANTS
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import Machine, document, provision

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = "#!/bin/sh\necho SECRET\n"
START = f"systemctl start --no-block {UNIT}"


class Programs:
    """The machine's programs, of which scripts are noted by their content, with what somebody does while one runs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.ran: list[str] = []
        self.ending: Completed | CommandError = Completed(0, b"")
        self.meanwhile: Any = lambda: None

    def __call__(self, argv: Sequence[str], *, given: bytes = b"") -> Completed:
        if not argv[0].startswith(f"{self.machine.root}{DIRECTORY}/script-"):
            return self.machine.programs(argv, given=given)
        self.ran.append(Path(argv[0]).read_text())
        self.meanwhile()
        if isinstance(self.ending, CommandError):
            raise self.ending
        return self.ending


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with the unit."""
    made = Machine(tmp_path)
    made.write(f"etc/systemd/system/{UNIT}")
    return made


@pytest.fixture
def programs(machine: Machine) -> Programs:
    """Its programs."""
    made = Programs(machine)
    machine.system.run = made
    return made


def several(*texts: str, subtype: str = "x-shellscript") -> str:
    """A multi-part message of scripts."""
    message = MIMEMultipart()
    for text in texts:
        message.attach(MIMEText(text, subtype))
    return message.as_string()


def give(machine: Machine, user_data: str, generation: int = 1, instance: str = "i-1", **fields: Any) -> ItemResult:
    """The item's result."""
    result = provision(machine, document(generation, instance, user_data=user_data, **fields))
    return next(item for item in result.items if item.item == "user-data")


def run(machine: Machine) -> int:
    """What the unit does."""
    return Runner(machine.system, Log(StringIO(), {})).run()


def told(machine: Machine) -> list[ItemResult]:
    """What is news to the host."""
    state = Store(machine.system).state()
    assert state is not None
    return news(machine.system, state)


def kept(machine: Machine) -> list[str]:
    """The names of what is kept of scripts, the boot's link among them."""
    directory = machine.root / DIRECTORY.lstrip("/")
    link = [WANTS] if os.path.lexists(f"{machine.root}{WANTS}") else []
    return sorted(path.name for path in directory.iterdir()) + link if directory.exists() else link


def test_a_script_is_private_and_waits_for_its_unit_which_is_started(machine: Machine) -> None:
    item = give(machine, SCRIPT)
    assert (item.outcome, item.detail) == (Outcome.PENDING, "1 script to run when the network is there")
    assert kept(machine) == [RUN, "script-01", WANTS]
    script = machine.root / DIRECTORY.lstrip("/") / "script-01"
    assert stat.S_IMODE(script.stat().st_mode) == 0o700
    assert stat.S_IMODE(script.parent.stat().st_mode) == 0o700
    assert machine.programs.calls == [START]
    assert told(machine) == []


def test_scripts_run_in_their_order_and_are_gone_when_they_have(machine: Machine, programs: Programs) -> None:
    give(machine, several("#!/bin/sh\none\n", "#!/bin/sh\ntwo\n"))
    programs.ending = Completed(0, b"well done\n")
    assert run(machine) == 0
    assert [text.split()[1] for text in programs.ran] == ["one", "two"]
    assert kept(machine) == [RESULT]
    (item,) = told(machine)
    assert (item.outcome, item.detail, item.log) == (Outcome.APPLIED, "2 scripts ended with status 0", ["well done"])


def test_the_first_failure_is_told_with_its_last_words_and_the_others_run_all_the_same(
    machine: Machine, programs: Programs
) -> None:
    give(machine, several("#!/bin/sh\none\n", "#!/bin/sh\ntwo\n"))
    programs.ending = Completed(3, b"no such host\n")
    assert run(machine) == 1
    assert len(programs.ran) == 2
    (item,) = told(machine)
    assert (item.outcome, item.reason, item.log) == (Outcome.FAILED, "command-failed", ["no such host"])
    assert item.detail == "script 1 of 2 ended with status 3; 1 more failed"


def test_a_script_that_does_not_end_is_told_so(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    programs.ending = CommandError(f"{machine.root}{DIRECTORY}/script-01 did not end within 3600 s", b"waiting\n")
    assert run(machine) == 1
    assert (told(machine)[0].detail, told(machine)[0].log) == ("script 1 of 1 did not end within 3600 s", ["waiting"])


def test_scripts_run_once_in_the_life_of_an_instance_and_again_in_another(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    run(machine)
    run(machine)
    item = give(machine, "#!/bin/sh\nother\n", 2)
    assert item.outcome is Outcome.UNCHANGED
    assert item.detail.startswith("ran in generation 1 of this instance: 1 script ended with status 0; this one is another")
    assert give(machine, SCRIPT, 3).detail == "ran in generation 1 of this instance: 1 script ended with status 0"
    run(machine)
    assert programs.ran == [SCRIPT]
    assert give(machine, "#!/bin/sh\nclone\n", 1, "i-2").outcome is Outcome.PENDING
    run(machine)
    assert programs.ran == [SCRIPT, "#!/bin/sh\nclone\n"]


def test_a_run_that_was_cut_off_has_failed_and_is_not_tried_again(machine: Machine, programs: Programs) -> None:
    give(machine, several("#!/bin/sh\none\n", "#!/bin/sh\ntwo\n", "#!/bin/sh\nthree\n"))

    def cut() -> None:
        if len(programs.ran) == 2:
            raise KeyboardInterrupt

    programs.meanwhile = cut
    with pytest.raises(KeyboardInterrupt):
        run(machine)
    assert told(machine) == []
    assert give(machine, SCRIPT, 2).outcome is Outcome.PENDING
    assert run(machine) == 1
    assert len(programs.ran) == 2
    (item,) = told(machine)
    assert (item.reason, item.detail.partition(";")[0]) == ("interrupted", "the machine or the agent stopped in script 2 of 3")
    assert kept(machine) == [RESULT]


def test_a_cut_between_the_result_and_the_cleaning_up_only_cleans_up(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    before = {name: (machine.root / DIRECTORY.lstrip("/") / name).read_bytes() for name in (RUN, "script-01")}
    run(machine)
    for name, content in before.items():
        machine.write(f"{DIRECTORY}/{name}".lstrip("/"), content, 0o700)
    assert run(machine) == 0
    assert programs.ran == [SCRIPT]
    assert kept(machine) == [RESULT]


def test_that_a_script_begins_is_on_the_disk_before_it_does(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    seen = []
    programs.meanwhile = lambda: seen.append(kept(machine))
    run(machine)
    assert seen == [[BEGUN, RUN, "script-01", WANTS]]


def test_scripts_of_a_generation_that_was_rolled_back_never_run(machine: Machine, programs: Programs) -> None:
    machine.programs.endings["networkctl"] = Completed(1, b"no\n")
    raw = document(user_data=SCRIPT, write_files=[{"path": "/etc/x", "owner": "nobody-here"}])
    assert provision(machine, raw).outcome is Outcome.FAILED
    assert run(machine) == 0
    assert programs.ran == []
    assert kept(machine) == []


def test_scripts_of_a_generation_that_is_not_in_force_wait(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    state = machine.root / "var/lib/pv-guest-agent/state.json"
    state.rename(state.with_suffix(".aside"))
    assert run(machine) == 0
    assert programs.ran == []
    state.with_suffix(".aside").rename(state)
    run(machine)
    assert programs.ran == [SCRIPT]


def test_a_later_generation_without_user_data_leaves_scripts_to_run(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    provision(machine, document(2, local_hostname="web2"))
    run(machine)
    assert programs.ran == [SCRIPT]


def test_what_never_began_can_be_replaced_and_taken_back(machine: Machine, programs: Programs) -> None:
    give(machine, several("#!/bin/sh\none\n", "#!/bin/sh\ntwo\n"))
    assert give(machine, SCRIPT, 2).outcome is Outcome.PENDING
    assert kept(machine) == [RUN, "script-01", WANTS]
    assert give(machine, SCRIPT, 3).detail == "waiting since generation 2 to be run"
    assert give(machine, "", 4).detail == "none"
    assert kept(machine) == []
    run(machine)
    assert programs.ran == []


def test_another_instance_that_comes_while_scripts_run_gets_its_own(machine: Machine, programs: Programs) -> None:
    give(machine, several("#!/bin/sh\none\n", "#!/bin/sh\ntwo\n"))

    def clone() -> None:
        if len(programs.ran) == 1:
            give(machine, "#!/bin/sh\nclone\n", 1, "i-2")

    programs.meanwhile = clone
    assert run(machine) == 0
    assert programs.ran == ["#!/bin/sh\none\n", "#!/bin/sh\nclone\n"]
    assert [item.outcome for item in told(machine)] == [Outcome.APPLIED]


def test_a_lock_that_is_held_is_waited_for_and_not_for_ever(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    with Store(machine.system).lock(), pytest.raises(Busy):
        run(machine)
    assert machine.waited >= LOCK_SECONDS
    assert programs.ran == []
    assert run(machine) == 0


@pytest.mark.parametrize("user_data", ["#cloud-config\npackages: [vim]\n", several("#cloud-config\n{}", subtype="cloud-config")])
def test_what_only_cloud_init_can_do_is_refused_with_that(machine: Machine, user_data: str) -> None:
    before = machine.snapshot()
    item = give(machine, user_data)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "needs-cloud-init")
    assert "cloud-config" in item.detail
    assert machine.snapshot() == before
    assert kept(machine) == []


def test_without_its_unit_scripts_are_refused_with_the_cure(machine: Machine) -> None:
    machine.remove(f"etc/systemd/system/{UNIT}")
    item = give(machine, SCRIPT)
    assert (item.reason, "pv-guest-agent install" in item.detail) == ("not-supported", True)


def test_no_script_is_shown_or_kept_elsewhere(machine: Machine, programs: Programs) -> None:
    raw = document(user_data=SCRIPT)
    assert "SECRET" not in str(machine.provisioner().plan(raw, None))
    result = provision(machine, raw)
    run(machine)
    assert "SECRET" not in str((result, told(machine)))
    for path in machine.root.rglob("*"):
        assert not path.is_file() or b"SECRET" not in path.read_bytes(), path


def test_a_damaged_record_of_what_ran_is_no_reason_to_run_it_again(machine: Machine, programs: Programs) -> None:
    give(machine, SCRIPT)
    run(machine)
    machine.write(f"{DIRECTORY}/{RESULT}".lstrip("/"), b"{")
    item = give(machine, SCRIPT, 2)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "io-error")
    assert told(machine) == []


def test_real_scripts_run_with_what_they_ask_for_and_their_last_lines_come_back(machine: Machine, tmp_path: Path) -> None:
    machine.system.run = command.run
    lines = "for n in $(seq 100); do echo line $n; done"
    failing = f"#!/bin/sh\necho oops >&2; touch {tmp_path}/made; exit 7\n"
    give(machine, several(f"#!/bin/sh\n{lines}\n", failing, "#!/no/such/program\n"))
    assert run(machine) == 1
    assert (tmp_path / "made").exists()
    record = user_data_run.load(machine.system, RESULT)
    assert record is not None
    assert [(ended.status, ended.problem, ended.log[-1:]) for ended in record.ended] == [
        (0, "", ["line 100"]), (7, "", ["oops"]), (None, "does not start: No such file or directory", []),
    ]  # fmt: skip
    assert len(record.ended[0].log) == 20


@pytest.mark.parametrize("encoding", ["7bit", "base64"])
def test_parts_keep_every_byte_of_theirs(encoding: str) -> None:
    text = "#!/bin/sh\necho 'Grüße' # «»\n"
    if encoding == "base64":
        raw = several(text)
        assert "base64" in raw
    else:
        head = 'Content-Type: multipart/mixed; boundary="b"\nMIME-Version: 1.0\n\n--b\nContent-Type: text/x-shellscript\n\n'
        raw = f"{head}{text}\n--b--\n"
    assert scripts.find(raw) == scripts.Found([text.encode()], "")


def test_a_part_that_says_nothing_of_its_type_is_a_script_by_its_first_line() -> None:
    found = scripts.find(several("#!/bin/sh\none\n", subtype="plain"))
    assert [script.split()[1] for script in found.scripts] == [b"one"]
    assert scripts.find(several("hello\n", subtype="plain")).other == "text/plain"


def test_too_many_parts_or_too_deep_ones_are_said_to_be() -> None:
    with pytest.raises(ValueError, match="64 is the most"):
        scripts.find(several(*["#!/bin/sh\n"] * 65))
    nested = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(5000))
    with pytest.raises(ValueError, match="too deeply"):
        scripts.find(nested)
    with pytest.raises(ValueError, match="does not begin with"):
        scripts.find(several("echo\n"))


@given(st.text(), st.sampled_from(["", "#!", "Content-Type: multipart/mixed; boundary=b\n\n--b\n", "MIME-Version: 1.0\n"]))
def test_no_text_makes_the_search_for_scripts_raise_anything_else(text: str, start: str) -> None:
    try:
        found = scripts.find(start + text)
    except ValueError:
        return
    assert all(script.startswith(b"#!") for script in found.scripts)
