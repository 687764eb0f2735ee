# SPDX-License-Identifier: Apache-2.0
"""How many lines of each level were logged."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class LogLines(logging.Handler):
    """Counts what reaches it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.by_level = Counter({"info": 0, "warning": 0, "error": 0})

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        level = "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
        self.by_level[level] += 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is logged inside is counted."""
        logging.getLogger().addHandler(self)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(self)
