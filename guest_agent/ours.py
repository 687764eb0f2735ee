# SPDX-License-Identifier: Apache-2.0
"""What this guest brings into every conversation: its name, its key, whom it believes, and what carries documents out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from guest_agent.identity import Believed
from guest_agent.log import Log
from guest_agent.notify import Readiness
from pv_channel.guest import Guest
from pv_channel.noise import KeyPair

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pv_channel.messages import Facts, Hello, Planned, Report, Result, Unconfirmed

    class Provisions(Protocol):
        """What a conversation needs of a `provision.Provisioner`."""

        @property
        def provisioned(self) -> bool:
            """Whether a generation is in force."""

        def hello(self) -> Hello:
            """What the next handshake says of this guest."""

        def provision(
            self, raw: bytes, vm_uuid: str | None, progress: Callable[[int, str], None], confirming: Callable[[Unconfirmed], None]
        ) -> Result:
            """Become what *raw* says; never raises."""

        def plan(self, raw: bytes, vm_uuid: str | None) -> Planned:
            """What that would take; never raises."""

        def facts(self) -> Facts:
            """What is told of this machine, as it is now; never raises."""

        @property
        def pending(self) -> bool:
            """Whether something of what is in force is under way."""

        def late(self) -> Report | None:
            """What has become of that by now; never raises."""

        def report(self) -> Report | None:
            """All that is known of what was under way when the document in force was answered."""


class Ours(msgspec.Struct, frozen=True):
    """What this guest brings into every conversation."""

    channel: bytes
    uuid: bytes | None
    key: KeyPair
    believed: Believed
    provisioner: Provisions
    readiness: Readiness
    log: Log

    def guest(self) -> Guest:
        """The guest's end of a new stream."""
        return Guest(
            channel=self.channel,
            uuid=self.uuid,
            key=self.key,
            trust=self.believed.trust,
            hello=self.provisioner.hello(),
            random_bytes=os.urandom,
        )
