# SPDX-License-Identifier: Apache-2.0
"""What one guest says of its machine: put on record, and told where it is news, but not as often as a guest can change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.log.allowance import Allowance
from host_agent.talk.notices import Notice, What
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.ledger.ledger import Ledger
    from pv_channel.messages import Facts

#: So many changes are told at once, such as addresses that come up one after another …
BURST: Final = 8
#: … and then one in so many seconds. All of them go on record.
SECONDS_EACH: Final = 900.0
_TOLD: Final = Allowance(BURST, SECONDS_EACH)
_SHOWN: Final = 60
#: More addresses than these are counted.
_ADDRESSES_SHOWN: Final = 6


class Machine:
    """Of the VM *key*, over one stream."""

    __slots__ = ("_key", "_ledger", "_tell", "told")

    def __init__(self, key: str, ledger: Ledger, tell: Callable[[Notice], None]) -> None:
        self._key, self._ledger, self._tell = key, ledger, tell
        #: How much was told of it, by its allowance.
        self.told = 0.0

    def hear(self, facts: Facts, now: float) -> None:
        """The guest says that its machine is this."""
        news = self._ledger.facts(self._key, facts)
        told = _TOLD.take(self.told, now) if news else None
        if told is not None:
            self.told = told
            self._tell(Notice(What.FACTS, _text(facts, news)))


def _text(facts: Facts, news: list[str]) -> str:
    """What is news, as a sentence that is safe to print."""
    said = {
        "boot-id": "it has booted",
        "os": f"it runs {printable(facts.os, _SHOWN)}",
        "kernel": f"its kernel is {printable(facts.kernel, _SHOWN)}",
        "hostname": f"its name is {printable(facts.hostname, _SHOWN)}",
        "addresses": f"its addresses are {_list(facts.addresses)}",
        "host-keys": f"its ssh host keys are others: {len(facts.host_keys)} now",
    }
    return "the guest says: " + ", ".join(text for name, text in said.items() if name in news)


def _list(addresses: list[str]) -> str:
    shown = [printable(address, 50) for address in addresses[:_ADDRESSES_SHOWN]]
    more = [f"{len(addresses) - len(shown)} more"] if len(addresses) > len(shown) else []
    return " ".join(shown + more) or "none"
