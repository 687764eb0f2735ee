# SPDX-License-Identifier: Apache-2.0
"""QEMU's "Backend program conventions" (docs/interop/vhost-user.rst) as a table: each sentence that can be tried on a program."""

from __future__ import annotations

from typing import Final

from host_agent.backends import capabilities_checks, manners_checks, socket_checks

#: In an order in which each stands after those that it needs.
SENTENCES: Final = (*capabilities_checks.SENTENCES, *socket_checks.SENTENCES, *manners_checks.SENTENCES)
