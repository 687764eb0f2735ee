# SPDX-License-Identifier: Apache-2.0
"""The item ``root-filesystem``: it fills its disk. On another machine than the running one there is nothing to grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import root_device
from guest_agent.actions.plan import Plan
from guest_agent.changes.grow import Grow
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.root_device import Root
    from guest_agent.system import System
    from pv_channel.document import Document

#: What grows each kind, where it may be, and which packages have it.
_PROGRAMS: Final = {"xfs": ("xfs_growfs", "xfsprogs"), "btrfs": ("btrfs", "btrfs-progs")}
_DEFAULT: Final = ("resize2fs", "e2fsprogs")
_PARTITIONING: Final = (("sfdisk", "fdisk (Debian) or util-linux"), ("partx", "util-linux"))


def plan(document: Document, draft: Draft) -> Plan | None:
    """What lets the root file system fill its disk; None where the document does not ask. Raise `ItemError`, `OSError`."""
    if document.resize_rootfs is msgspec.UNSET:
        return None
    if not document.resize_rootfs:
        return Plan([], "left as it is")
    if not draft.system.live:
        return Plan([], "not the running machine")
    return grow(draft.system, root_device.find(draft.system))


def grow(system: System, root: Root) -> Plan:
    """What lets *root* fill its disk; raise `ItemError`, `OSError`."""
    change = Grow(root)
    where = f"{root.kind} on {root.device}"
    if change.holds(system):
        return Plan([change], f"{where} fills its disk")
    room = bool(root.partition) and root_device.free_sectors(system, root) > root_device.SLACK_SECTORS
    if room and root_device.is_logical(system, root):
        raise ItemError("not-supported", f"/dev/{root.device} lies in an extended partition, which the agent does not grow")
    for program, package in (_PROGRAMS.get(root.kind, _DEFAULT), *(_PARTITIONING if room else ())):
        if not any(system.exists(f"{directory}/{program}") for directory in ("/usr/sbin", "/usr/bin", "/sbin", "/bin")):
            raise ItemError("not-supported", f"{program}, which grows {where}, is missing; install {package} in the template")
    return Plan([change], f"{where} grows with its disk, and stays so whatever becomes of the rest")
