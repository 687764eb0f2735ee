# SPDX-License-Identifier: Apache-2.0
"""A host's ledger, and its conversation with a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from host_agent.ledger.ledger import Ledger
from tests.host.fakes import FakeGuest
from tests.host.records import Operator
from tests.host.talk import UUID, Talk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The directory that the ledger is in."""
    return tmp_path / "state"


@pytest.fixture
def ledger(state: Path) -> Iterator[Ledger]:
    """An empty one."""
    made = Ledger.open(state)
    yield made
    made.close()


@pytest.fixture
def talk(ledger: Ledger, state: Path) -> Talk:
    """With a guest that was never met."""
    return Talk(ledger, state, FakeGuest(uuid=UUID))


@pytest.fixture
def operator(state: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Who says verbs on the ledger's directory."""
    return Operator(state, capsys)
