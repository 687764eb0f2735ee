# SPDX-License-Identifier: Apache-2.0
"""VMs on record, each in one step at the place where a test wants it, and the verbs that read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from host_agent.__main__ import main
from host_agent.ledger.standing import Moment, State
from host_agent.views.verdict import Stands
from pv_channel.messages import ItemResult, Outcome, Result

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from host_agent.ledger.ledger import Ledger

HOSTNAME = ItemResult("hostname", Outcome.APPLIED)
NETWORK_FAILED = ItemResult("network", Outcome.FAILED, "no-manager", "none is running", ["tail of a log"])
USER_DATA = ItemResult("user-data", Outcome.PENDING)


def wanted(ledger: Ledger, key: str, generation: int | None = None, digest: str = "d") -> None:
    """There is a document for it."""
    ledger.want(key, key, generation, digest)


def sent(ledger: Ledger, key: str, generation: int = 1, digest: str = "d") -> None:
    """Its channel was seen, and the document sent."""
    wanted(ledger, key, digest=digest)
    ledger.seen(key, 7, f"/run/pv-channel/{key}.sock")
    ledger.moment(key, Moment.GREETING)
    ledger.moment(key, Moment.SEALED)
    ledger.sending(key, f"i-{key}", generation, digest)
    ledger.moment(key, Moment.SENT, str(generation))
    ledger.moment(key, Moment.ITEM, "hostname")


def answered(ledger: Ledger, key: str, *items: ItemResult, outcome: Outcome = Outcome.APPLIED, generation: int = 1) -> None:
    """And its guest has answered."""
    sent(ledger, key, generation)
    good = outcome in (Outcome.APPLIED, Outcome.UNCHANGED)
    result = Result(generation, outcome, list(items) or [HOSTNAME], milliseconds=12)
    ledger.settle(key, generation, result, "0.1.0", applied=good)
    ledger.moment(key, Moment.ANSWERED, outcome.value)
    ledger.event(key, f"generation {generation}: {outcome.value}")


def a_fleet(ledger: Ledger) -> None:
    """A VM in each place, named for it."""
    answered(ledger, "ready")
    answered(ledger, "failed", HOSTNAME, NETWORK_FAILED, outcome=Outcome.FAILED)
    answered(ledger, "degraded", HOSTNAME, NETWORK_FAILED)
    answered(ledger, "pending", HOSTNAME, USER_DATA)
    sent(ledger, "provisioning")
    wanted(ledger, "greeting")
    ledger.stand("greeting", State.GREETING, "the guest has not answered yet")
    wanted(ledger, "off")
    ledger.stand("off", State.UNREACHABLE, "the VM is off")
    wanted(ledger, "quarrel")
    ledger.block("quarrel", State.KEY_CHANGED, b"r" * 32, "the guest shows another key")
    answered(ledger, "mistyped")
    ledger.document_error("mistyped", "mistyped", "mistyped.yaml:3:1: users: expected an array")
    answered(ledger, "old")
    ledger.stand("old", State.REMOVED, "the document was removed")
    ledger.commit()


class Operator:
    """Who says verbs on a state directory, and reads what they print."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state, self._capsys = state, capsys
        self.out = self.err = ""

    def says(self, verb: str, *arguments: str) -> int:
        """The exit status; what was printed is in *out* and *err*."""
        try:
            return main([*verb.split(), "--state", str(self.state), *arguments])
        except SystemExit as exc:  # how argparse ends
            return int(exc.code or 0)
        finally:
            self.out, self.err = self._capsys.readouterr()

    def reads(self, verb: str, *arguments: str) -> Any:
        """What it prints as JSON."""
        assert self.says(verb, "--json", *arguments) in (0, 1, 2)
        return json.loads(self.out)


#: A VM that is what it should be.
READY = Stands(
    key="a", name="a", state=State.READY, detail="", since=0, domid=7, document_error="", generation_wanted=None,
    digest_wanted="d", generation_sent=3, digest_sent="d", generation_applied=3, generation_items=3, outcome="applied",
    reason="", path="", result_detail="", quarrel=False, reprovision=False, pending="", failed="",
)  # fmt: skip
