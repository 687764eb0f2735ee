# SPDX-License-Identifier: Apache-2.0
"""Wait until VMs of a fleet are what their newest documents say, wherever they run."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from host_agent.etcd.errors import Away, Compacted
from host_agent.fleet import view
from host_agent.views.verdict import Judged, Verdict
from host_agent.views.waiting import Target, Telling, Wait, Waited
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from host_agent.etcd.client import Etcd
    from host_agent.fleet.layout import Layout
    from host_agent.fleet.view import Seen, Vm
    from host_agent.views.waiting import Ending

#: How often it is looked.
_LOOK_SECONDS: Final = 1.0


async def wait(
    etcd: Etcd, layout: Layout, vms: Sequence[str] | None, timeout: float, tell: Callable[[str], None], *, patient: bool
) -> Ending:
    """Wait at most *timeout* seconds for *vms*, by name or uuid, or for all that have documents (None).

    etcd may be away meanwhile, but not when the time is over: then raise `Away`; raise another of `EtcdError` at once.
    """
    over = time.monotonic() + timeout
    waiting = Wait(None if vms is None else [Target(vm) for vm in vms], patient=patient)
    telling = Telling(tell)
    while True:
        ending, text = None, ""
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(over - time.monotonic(), _LOOK_SECONDS)):
                waiting.vms = judged(await view.look(etcd, layout), vms)
            ending, text = waiting.ending(time_is_over=time.monotonic() >= over), waiting.text
        except (Away, Compacted) as exc:
            if time.monotonic() >= over:
                raise
            text = str(exc)
        except TimeoutError:
            raise Away(f"etcd did not answer within {timeout:g} s") from None
        if ending is not None:
            return ending
        telling.tell(text, time.monotonic())
        await asyncio.sleep(_LOOK_SECONDS)


def judged(seen: Seen, vms: Sequence[str] | None) -> list[Waited]:
    """Each VM that is waited for, as it stands."""
    if vms is None:
        return [_waited(vm, seen) for vm in seen.vms if vm.document]
    return [_waited(found(vm, seen) or view.Vm(printable(vm, 200), 0, None, is_live=False), seen) for vm in vms]


def found(vm: str, seen: Seen) -> Vm | None:
    """The VM with that name or uuid."""
    by_name = next((each for each in seen.vms if each.name == vm), None)
    return by_name or next((each for each in seen.vms if each.report is not None and each.report.key == vm.lower()), None)


def _waited(vm: Vm, seen: Seen) -> Waited:
    report = vm.report
    key = "" if report is None else printable(report.key, 200)
    return Waited(vm.name, key, vm.standing, 0 if report is None else report.generation_applied, _judged(vm, seen))


def _judged(vm: Vm, seen: Seen) -> Judged:
    if not vm.document:
        return Judged(Verdict.WAITING, "there is no document for it in the fleet")
    if vm.report is None or not vm.is_live:
        return Judged(Verdict.WAITING, vm.why)
    dom0 = seen.dom0s.get(vm.report.dom0)
    if dom0 is None or dom0.seen < max(vm.document, seen.shared):
        return Judged(Verdict.WAITING, f"dom0 {printable(vm.report.dom0, 100)} has not taken up its newest document yet")
    try:
        return Judged(Verdict(vm.report.verdict), vm.why)
    except ValueError:
        return Judged(Verdict.WAITING, "another version of pv-host-agent says how it is")
