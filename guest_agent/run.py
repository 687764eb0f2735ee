# SPDX-License-Identifier: Apache-2.0
"""The verb `run`: put the agent together from its arguments and let it serve."""

from __future__ import annotations

import gc
import signal
import time
from typing import TYPE_CHECKING, Final, NoReturn

from guest_agent import VERSION
from guest_agent.agent import Agent
from guest_agent.identity import STATE_DIRECTORY, BadTrust, Believed, our_key
from guest_agent.log import Log
from guest_agent.notify import Notifier, Readiness
from guest_agent.ours import Ours
from guest_agent.port import PortRefused
from guest_agent.provision import Provisioner
from guest_agent.system import System
from pv_channel import CHANNEL_NAME
from pv_channel.errors import LocalError
from pv_channel.greeting import NO_UUID, channel_name, uuid_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

#: Equal to xl's uuid; survives save, restore, reboot and migration. A guest that is no Xen domain has none.
_UUID: Final = "/sys/hypervisor/uuid"


def run(arguments: argparse.Namespace) -> int:
    """Serve the channel; the exit status."""
    log = Log()
    began = time.monotonic()
    try:
        channel = _claimed(arguments.channel, arguments.registry)
        system = System(arguments.root)
        provisioner = Provisioner(system, VERSION, hand_off=arguments.hand_to is not None)
        ours = _ours(channel, system, provisioner, arguments.wait, began, log)
        ttys, missing = _search(arguments.channel, arguments.tty)
        signal.signal(signal.SIGTERM, _end)
        certain = arguments.tty is not None
        gc.freeze()  # what is loaded stays loaded
        gc.enable()
        return Agent(ours, ttys, certain=certain, once=arguments.once, wait=arguments.wait, missing=missing).run()
    except (BadTrust, PortRefused, LocalError) as exc:
        log.fail(str(exc))
    except OSError as exc:
        log.fail(f"{exc}; the agent's key and state are in {STATE_DIRECTORY}, which it must be able to write: run it as root")
    return 1


def _end(number: int, frame: object) -> NoReturn:  # noqa: ARG001  signal(2)'s own form
    """End, putting back what a document has half made; a second word to end is not heard while that goes on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _ours(channel: bytes, system: System, provisioner: Provisioner, wait: float, began: float, log: Log) -> Ours:
    """Who we are and whom we believe. A file of trusted keys that is none is an error before anything else happens."""
    believed = Believed(system)
    key = our_key(system, log)
    recovered = provisioner.recover()
    if recovered is not None:
        log.alert(recovered)
        believed.read_again()  # which may have been half of a document
    readiness = Readiness(Notifier(), provisioned=provisioner.provisioned, wait=wait, now=began)
    return Ours(channel, vm_uuid(system), key, believed, provisioner, readiness, log)


def _claimed(name: str, registry: str | None) -> bytes:
    """*name* as the channel to serve; raise `LocalError` where it is none or another application's."""
    raw = channel_name(name)
    if name != CHANNEL_NAME or registry is not None:  # our own needs no look, and the start is a budget
        from guest_agent.registry import records
        from pv_channel.registry import claim

        claim(records(registry), name)
    return raw


def _search(channel: str, tty: str | None) -> tuple[Callable[[], list[str]], tuple[type[Exception], ...]]:
    """What finds the candidates, and what it raises while there are none."""
    if tty is not None:
        return lambda: [tty], ()
    from guest_agent.channel import ChannelMissing, candidates, consoles
    from guest_agent.xenbus import XenbusError

    return lambda: candidates(consoles(), channel), (ChannelMissing, XenbusError)


def vm_uuid(system: System) -> bytes | None:
    """This VM's uuid, or None where the hypervisor gives none."""
    text = system.text(_UUID, 64)
    try:
        uuid = uuid_bytes(text)
    except LocalError:
        return None
    return None if uuid == NO_UUID else uuid
