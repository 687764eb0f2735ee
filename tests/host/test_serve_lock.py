# SPDX-License-Identifier: Apache-2.0
"""The lock of `serve`: one holds it, others can ask without ever being in the way."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from host_agent.errors import HostError
from host_agent.serve_lock import hold, is_served

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_served_while_one_holds_it_and_not_before_or_after(tmp_path: Path) -> None:
    assert not is_served(tmp_path)
    lock = hold(tmp_path)
    assert is_served(tmp_path)
    with pytest.raises(HostError, match="another 'pv-host-agent serve' is running"):
        hold(tmp_path)
    os.close(lock)
    assert not is_served(tmp_path)


def test_those_who_only_ask_never_keep_a_service_from_starting(tmp_path: Path) -> None:
    os.close(hold(tmp_path))
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            is_served(tmp_path)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(100):
            os.close(hold(tmp_path))
    finally:
        over.set()
        for asker in askers:
            asker.join()
