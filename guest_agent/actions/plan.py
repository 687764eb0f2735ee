# SPDX-License-Identifier: Apache-2.0
"""What an action answers when it is asked what a document takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from guest_agent.changes import Change


class Plan(NamedTuple):
    """What an item takes, and in a few words for the operator what it makes. Changes that hold already may be among them."""

    changes: list[Change]
    detail: str
