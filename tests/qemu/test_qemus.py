# SPDX-License-Identifier: Apache-2.0
"""The QEMUs that the tests here meet are there, and are what the tests take them for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.qemu.monitor import Refused

if TYPE_CHECKING:
    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu


def test_each_qemu_starts_a_machine_and_answers_on_its_monitor(start: Start, qemu: Qemu) -> None:
    with start(qemu).monitor() as monitor:
        assert monitor.execute("query-version")["qemu"]["major"] == qemu.version
        assert monitor.execute("query-status")["status"] == "running"


def test_each_qemu_has_the_object_that_carries_others_state(start: Start, qemu: Qemu) -> None:
    with start(qemu, "-machine", "none").monitor() as monitor:
        types = {each["name"] for each in monitor.execute("qom-list-types", implements="user-creatable")}
    assert "dbus-vmstate" in types


def test_two_of_them_run_side_by_side(start: Start, qemu7: Qemu, qemu10: Qemu) -> None:
    running = [start(qemu7), start(qemu10), start(qemu10, "-incoming", "defer")]
    states = []
    for each in running:
        with each.monitor() as monitor:
            states.append(monitor.execute("query-status")["status"])
    assert states == ["running", "running", "inmigrate"]


def test_a_refusal_is_qemus_own_words(start: Start, qemu: Qemu) -> None:
    with start(qemu, "-machine", "none").monitor() as monitor, pytest.raises(Refused) as refused:
        monitor.execute("no-such-command")
    assert refused.value.error_class == "CommandNotFound"
    assert refused.value.desc == "The command no-such-command has not been found"
