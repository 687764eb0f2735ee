# SPDX-License-Identifier: Apache-2.0
"""What a network manager cannot express is a failure that names it; nothing of a document is dropped in silence."""

from __future__ import annotations

from guest_agent.failure import ItemError


def unsupported(manager: str, key: str, field: str, why: str) -> ItemError:
    """The error for *field* of the interface *key*, with *why*: what the manager lacks, or what it takes instead."""
    return ItemError("not-supported", f"'{key}' has '{field}', which {manager} cannot do: {why}")
