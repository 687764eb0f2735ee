# SPDX-License-Identifier: Apache-2.0
"""The words for where a VM stands, in the ledger and in what `status` shows."""

from __future__ import annotations

from typing import Final


class State:
    """The words for where a VM stands now, as `status` shows them."""

    UNREACHABLE: Final = "unreachable"
    GREETING: Final = "greeting"
    REFUSED: Final = "refused"
    KEY_CHANGED: Final = "key-changed"
    KEY_SHARED: Final = "key-shared"
    PROVISIONING: Final = "provisioning"
    READY: Final = "ready"
    #: What is wanted is in force, and an item of it that took longer has failed since.
    DEGRADED: Final = "degraded"
    BAD_DOCUMENT: Final = "bad-document"
    REMOVED: Final = "removed"
