# SPDX-License-Identifier: Apache-2.0
"""What the agent writes down while it changes a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guest_agent.transaction import Transaction
from tests.guest.machine import STATE

if TYPE_CHECKING:
    from tests.guest.machine import Machine


@pytest.fixture
def journals(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every journal that was there on the machine of the test, as it came to be."""
    found: list[str] = []
    write = Transaction._write_journal

    def spy(self: Transaction) -> None:
        write(self)
        found.append(machine.read(f"{STATE}/journal.json"))

    monkeypatch.setattr(Transaction, "_write_journal", spy)
    return found
