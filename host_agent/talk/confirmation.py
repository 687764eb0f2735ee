# SPDX-License-Identifier: Apache-2.0
"""What decides whether a guest's changed network stays, by the rule in its document; and what can be decided at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pv_channel.greeting import NO_UUID, uuid_text
from pv_channel.messages import MAX_DETAIL, Confirm, Reject
from pv_channel.text import printable

if TYPE_CHECKING:
    from host_agent.documents.document_file import Wanted
    from pv_channel.confirm import Confirm as Rule
    from pv_channel.messages import Check, Unconfirmed


class Asked(NamedTuple):
    """What the guest of *vm* waits for: *rule* decides over its *generation*, within *seconds*."""

    vm: str
    uuid: str
    generation: int
    rule: Rule
    seconds: float


class Verdict(NamedTuple):
    """Whether *generation* stays, and why, as a sentence."""

    generation: int
    good: bool
    text: str

    def message(self) -> Confirm | Reject:
        """What to tell the guest."""
        return Confirm(self.generation) if self.good else Reject(self.generation, printable(self.text, MAX_DETAIL))


def asked(message: Unconfirmed, wanted: Wanted) -> Asked:
    """What *message* asks of the host that sent *wanted*. A guest may ask for less time than its document has, never for more."""
    rule = wanted.document.confirm
    uuid = "" if wanted.uuid == NO_UUID else uuid_text(wanted.uuid)
    return Asked(wanted.name, uuid, message.generation, rule, min(message.seconds, rule.within))


def waits_for(rule: Rule) -> str:
    """What is waited for, for people."""
    match rule.check:
        case "tcp":
            return f"a TCP connection to {printable(rule.tcp, 300)}"
        case "command":
            return f"the command {_program(rule)}"
        case _:
            return "what the guest itself sees" if rule.check == "guest" else "nothing"


def at_once(question: Asked, checks: list[Check]) -> Verdict | None:
    """The verdict where the guest's own *checks*, or nothing, decide; None where dom0 has to look first."""
    generation = question.generation
    if question.rule.check == "none":
        return Verdict(generation, good=True, text="the document asks for no check")
    if question.rule.check != "guest":
        return None
    bad = next((check for check in checks if not check.good), None)
    if bad is not None:
        return Verdict(generation, good=False, text=printable(bad.detail, MAX_DETAIL) or f"{printable(bad.name, 40)} is not good")
    return Verdict(generation, good=True, text=f"the guest made {len(checks)} checks, and all are good")


def _program(rule: Rule) -> str:
    """The command's name alone: its arguments may hold what is nobody's business."""
    return printable(rule.command[0], 200) if isinstance(rule.command, list) else ""
