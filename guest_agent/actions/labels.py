# SPDX-License-Identifier: Apache-2.0
"""SELinux labels of what we have made, where the policy has others for it than the directory it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.changes.running import RunCommand

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change

#: selinuxfs is mounted where SELinux is on, and only there.
_ON: Final = "/sys/fs/selinux/enforce"


def relabelled(draft: Draft, path: str) -> list[Change]:
    """What gives *path*, and all in it, the labels of the policy, on a machine that has SELinux."""
    if not draft.system.exists("/usr/sbin/restorecon"):
        return []
    return [RunCommand(["restorecon", "-R", path], [], while_exists=_ON)]
