# SPDX-License-Identifier: Apache-2.0
"""The map of a stubdomain's consoles: libxl's first three, then serials, then channels, and no more than Linux has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from host_agent.stubdom.console_map import Console, Role, layout, role_of, tty_of

ROOT = Path(__file__).resolve().parents[2]


def test_the_first_three_are_log_save_and_restore_whatever_their_names_are() -> None:
    assert [role_of(number) for number in range(4)] == [Role.LOG, Role.SAVE, Role.RESTORE, Role.SERIAL]
    assert [role_of(number, "org.example.x") for number in range(3)] == [Role.LOG, Role.SAVE, Role.RESTORE]


def test_the_targets_serials_come_before_its_channels() -> None:
    assert layout(1, ["a", "b"])[3:] == [Console(3, Role.SERIAL), Console(4, Role.CHANNEL, "a"), Console(5, Role.CHANNEL, "b")]
    assert [console.tty for console in layout(2)] == [f"/dev/hvc{number}" for number in range(5)]


def test_what_a_stubdomain_has_no_terminal_for_is_refused() -> None:
    assert len(layout(2, ["a", "b", "c"])) == 8
    for serials, channels in ((6, []), (3, ["a", "b", "c"]), (-1, []), (0, [""])):
        with pytest.raises(ValueError, match=r"consoles for 5|are counted"):
            layout(serials, channels)
    for number in (-1, 8):
        with pytest.raises(ValueError, match="has no terminal"):
            tty_of(number)
    with pytest.raises(ValueError, match="no console"):
        role_of(-1)


def test_it_needs_nothing_that_a_small_domain_lacks() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import host_agent.stubdom.console_map; print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-S", "-I", "-c", program], check=True, capture_output=True, text=True).stdout
    assert "asyncio" not in said
    assert "host_agent.errors" not in said
