# SPDX-License-Identifier: Apache-2.0
"""Ask that all that a VM's document says be applied again, as a new generation: by whoever serves it, now or later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent import who
from host_agent.ledger.standing import State
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from host_agent.ledger.ledger import Ledger
    from host_agent.views.verdict import Stands

_NAME: Final = 200


def has_document(vm: Stands) -> bool:
    """Whether anybody says what it should be, if only in a file that cannot be used."""
    return vm.state != State.REMOVED and bool(vm.digest_wanted or vm.document_error)


def why_not(vm: Stands) -> str:
    """Why that cannot be asked of this VM, and what to do instead; empty where it can be."""
    if not has_document(vm):
        return "there is no document for it; give it one"
    if vm.document_error:
        return f"its document cannot be used, and once mended is applied anyway: {printable(vm.document_error, 500)}"
    if vm.generation_wanted is not None:
        return (
            f"its document says 'generation: {vm.generation_wanted}' itself, and that is in force or on its way;"
            f" write a higher number there, or leave 'generation' out and let the host count"
        )
    return ""


def ask(ledger: Ledger, vms: Iterable[Stands]) -> None:
    """Ask it for each of *vms*; who asked is on the audit trail."""
    operator = who.operator()
    for vm in vms:
        ledger.ask_to_reprovision(vm.key)
        ledger.audit(vm.key, operator, "asked to reprovision: all is to be applied again as a new generation")
        ledger.event(vm.key, "all is to be applied again as a new generation, on request")
    ledger.commit()
