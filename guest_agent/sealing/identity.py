# SPDX-License-Identifier: Apache-2.0
"""What a machine must not share with its clones: keys, ids, seeds, leases, and what was made for it alone."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Final

from guest_agent import homes
from guest_agent.actions import block, write_files
from guest_agent.actions.draft import digest_of
from guest_agent.changes.files import MakeLink, WriteFile
from guest_agent.changes.keys import WriteKeys
from guest_agent.failure import ItemError
from guest_agent.renderers.choose import RENDERERS
from guest_agent.sealing.step import Clear, Forget, Part, Step, matching, removals
from guest_agent.state import DIRECTORY

if TYPE_CHECKING:
    from guest_agent.sealing.step import Owned
    from guest_agent.system import System

MACHINE_ID: Final = "/etc/machine-id"
#: With this the next boot is a first one (machine-id(5), "First Boot Semantics").
UNINITIALIZED: Final = b"uninitialized\n"
_MACHINE_ID_MODE: Final = 0o444
_DBUS_ID: Final = "/var/lib/dbus/machine-id"

#: systemd's, sysvinit's and boot loaders' seeds, and the key that systemd encrypts credentials with.
SEEDS: Final = (
    "/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/var/lib/random-seed", "/boot/loader/random-seed",
    "/boot/efi/loader/random-seed", "/efi/loader/random-seed", "/var/lib/systemd/credential.secret",
)  # fmt: skip

#: Leases, and the ids that DHCP clients made up for this machine, by directory.
LEASES: Final = {
    "/var/lib/dhcp": r".*\.leases?",
    "/var/lib/dhclient": r".*\.leases?",
    "/var/lib/dhcpcd": r"duid|secret|.*\.lease6?",
    "/var/lib/dhcpcd5": r"duid|secret|.*\.lease6?",
    "/etc": r"dhcpcd\.(?:duid|secret)",
    "/var/lib/NetworkManager": r".*\.lease|secret_key|seen-bssids|timestamps|NetworkManager-intern\.conf",
    "/var/lib/systemd/network": r".*\.lease",
    "/var/lib/wicked": r".*\.xml",
}

_HOST_KEY: Final = re.compile(r"ssh_host_.*_key(?:-cert)?(?:\.pub)?", re.ASCII)
#: Names of network cards by their addresses, as udev wrote them before predictable names.
_UDEV_NAMES: Final = re.compile(r"\d\d-persistent-net\.rules", re.ASCII)
#: Items whose files are settings that every machine has, and that tell nothing of the one that they were made for; and users'
#: keys, of which only our block is ours.
_KEPT: Final = frozenset(("hostname", "timezone", "locale", "ntp", "root-filesystem", "ssh-keys"))

_HISTORIES: Final = re.compile(r"\.(?:bash|zsh|ash|sh|python|mysql|psql)_history|\.lesshst|\.viminfo", re.ASCII)


def parts(system: System, owned: Owned, *, logs: bool) -> list[Part]:
    """What goes, in an order that can stop anywhere.

    First no document is in force any more, so that a machine that is started half sealed is made whole again by its host;
    last goes what the agent knows, its key too: before that, all that went can be made again for the same machine.
    """
    ours = [path for renderer in RENDERERS for path in renderer.ours(system)]
    ours += [path for item, paths in owned.items() if item not in _KEPT for path in paths if _is_ours(system, path, paths[path])]
    back = _originals(system, owned.get("write-files", {}))
    ours = [path for path in ours if path not in back]
    made = [*removals(system, ours), *back.values(), *_without_our_blocks(system)]
    found = [
        Part("the document in force", [Forget(owned)]),
        Part("what earlier documents made", made),
        Part("this machine's identity", [*_machine_id(system), *_keys_and_seeds(system)]),
        Part("leases and the names of network cards", _network(system)),
        Part("cloud-init's instances", [Clear("/var/lib/cloud")]),
        Part("the agent's own key and state", [Clear(DIRECTORY)]),
    ]
    return [*found[:-1], Part("logs and root's histories", _logs(system)), found[-1]] if logs else found


def changed_by_others(system: System, owned: Owned) -> list[str]:
    """The paths that were ours and hold something else by now: they stay."""
    return [
        path
        for item, paths in owned.items() if item not in _KEPT
        for path, digest in paths.items() if system.exists(path) and not _is_ours(system, path, digest)
    ]  # fmt: skip


def _originals(system: System, written: dict[str, str]) -> dict[str, Step]:
    """What gives the files back that stood where ``write_files`` wrote or removed one, by path."""
    found: dict[str, Step] = {}
    for path, digest in written.items():
        kept = write_files.original_of(path)
        if not system.exists(kept) or not (_is_ours(system, path, digest) or _is_removed(system, path, digest)):
            continue
        link, stored = system.link(kept), None if system.link(kept) else system.read(kept)
        if link:
            found[path] = MakeLink(path, link)
        elif stored is not None:
            secret = not stored.mode & stat.S_IROTH
            found[path] = WriteFile(path, stored.content, stored.mode, stored.uid, stored.gid, secret=secret)
    return found


def _is_removed(system: System, path: str, digest: str) -> bool:
    return digest == write_files.ABSENT and not system.exists(path)


def _is_ours(system: System, path: str, digest: str) -> bool:
    link = system.link(path)
    if link:
        return digest_of(f"-> {link}".encode()) == digest
    try:
        stored = system.read(path)
    except OSError:  # a directory by now, or too large: nothing that we wrote
        return False
    return stored is not None and digest_of(stored.content) == digest


def _machine_id(system: System) -> list[Step]:
    steps: list[Step] = []
    if system.exists(MACHINE_ID):
        steps.append(WriteFile(MACHINE_ID, UNINITIALIZED, _MACHINE_ID_MODE))
    return steps if system.link(_DBUS_ID) else [*steps, *removals(system, [_DBUS_ID])]


def _keys_and_seeds(system: System) -> list[Step]:
    return removals(system, [*matching(system, "/etc/ssh", _HOST_KEY.fullmatch), *SEEDS])


def _network(system: System) -> list[Step]:
    leases = [
        path for directory, pattern in LEASES.items() for path in matching(system, directory, re.compile(pattern).fullmatch)
    ]
    return removals(system, [*leases, *matching(system, "/etc/udev/rules.d", _UDEV_NAMES.fullmatch)])


def _logs(system: System) -> list[Step]:
    return [Clear("/var/log/journal"), Clear("/var/log", keep_directories=True),
            *removals(system, matching(system, "/root", _HISTORIES.fullmatch))]  # fmt: skip


def _without_our_blocks(system: System) -> list[Step]:
    """Each user's authorized_keys, and hosts, without our block: it let in whom an earlier document named."""
    steps: list[Step] = []
    for user in dict.fromkeys(line.split(":")[0] for line in system.text("/etc/passwd").splitlines()):
        try:
            home = homes.find(system, user)
            keys = homes.read(system, home).file
        except (ItemError, OSError):  # no home, or none that we would have written to
            continue
        if keys is not None and block.BEGIN in keys.content:
            steps.append(WriteKeys(home, b"".join(block.part(keys.content).foreign)))
    hosts = system.read("/etc/hosts")
    if hosts is not None and block.BEGIN in hosts.content:
        steps.append(WriteFile("/etc/hosts", b"".join(block.part(hosts.content).foreign)))
    return steps
