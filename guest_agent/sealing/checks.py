# SPDX-License-Identifier: Apache-2.0
"""Whether the clones of a machine would work: what is missing has to be mended first, what is only strange is said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from guest_agent import install
from guest_agent.command import CommandError
from guest_agent.failure import ItemError
from guest_agent.renderers.choose import choose
from guest_agent.sealing import network

if TYPE_CHECKING:
    from guest_agent.system import System

_SHEBANG: Final = re.compile(r"#!\s*(/\S+)")
_SSHD: Final = "/usr/sbin/sshd"
#: What makes missing ssh host keys at boot by itself: Fedora's and SUSE's.
_KEY_MAKERS: Final = ("/usr/lib/systemd/system/sshd-keygen.target", "/usr/sbin/sshd-gen-keys-start")


def problems(system: System) -> list[str]:
    """Why a clone would never be provisioned, each with its cure; raise `OSError`."""
    agent, found = install.differences(system)
    if agent is not None:
        found += _does_not_run(system, agent)
    return found


def _does_not_run(system: System, agent: str) -> list[str]:
    shebang = _SHEBANG.match(system.text(agent, 512))
    if shebang and not install.leads_to_a_file(system, shebang[1]):
        return [f"{agent} is run by {shebang[1]}, which is missing; install pv-channel-agents again where it shall stay"]
    if not system.live:
        return []
    for program in ([agent, "--version"], [install.PYTHON, "-c", ""]):
        try:
            status, output = system.run(program)
        except CommandError as exc:
            return [f"{exc}; install pv-channel-agents again"]
        if status:
            said = output.decode("utf-8", "replace").strip().rpartition("\n")[2]
            return [f"'{' '.join(program)}' ends with status {status}: {said}; install pv-channel-agents again"]
    return []


def notes(system: System, *, clear_network: bool, logs: bool) -> list[str]:
    """What the operator should know."""
    found = []
    try:
        found.append(f"clones get their network by {choose(system).NAME}")
    except ItemError as exc:
        found.append(f"a document with 'network' would fail: {exc.detail}")
    if not clear_network:
        found += [f"{other}: --network has it step aside" for other in network.others(system)]
    if system.exists(_SSHD) and not any(map(system.exists, _KEY_MAKERS)):
        found.append("nothing but a clone's first document makes its ssh host keys: until one came, sshd does not start")
    if not logs:
        found.append("logs and root's shell histories stay; --logs removes them")
    if system.live:
        found.append("what runs until the shutdown may write leases, logs and histories again; --root seals a disk at rest")
    return found
