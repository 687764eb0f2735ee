# SPDX-License-Identifier: Apache-2.0
"""The item ``identity``: what two machines must not share is made anew where the instance-id is new.

That is a clone, or a template's first boot, where nobody knows the keys yet: ssh host keys, machine-id(5), and systemd's random
seed. A machine-id that systemd made or will make in this very boot is left, and so is what the document itself gives.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import new_host_keys, sshd
from guest_agent.actions import hostname
from guest_agent.actions.labels import relabelled
from guest_agent.actions.plan import Plan
from guest_agent.changes.files import RemoveFile
from guest_agent.changes.renew import WriteRandom
from pv_channel.document import KEY_TYPES

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.document import Document

MACHINE_ID: Final = "/etc/machine-id"
DBUS_MACHINE_ID: Final = "/var/lib/dbus/machine-id"
RANDOM_SEED: Final = "/var/lib/systemd/random-seed"
#: What ssh-keygen -A makes, but RSA: every client since OpenSSH 6.5 has ed25519, every other has ecdsa.
DEFAULT_TYPES: Final = ("ed25519", "ecdsa")
#: systemd makes it in a boot that began without a machine-id (ConditionFirstBoot= in systemd.unit(5)).
_FIRST_BOOT: Final = "/run/systemd/first-boot"
#: systemd puts a machine-id here where /etc cannot be written, and mounts it in its place: no rename can replace that.
_TRANSIENT: Final = "/run/machine-id"
_ID: Final = re.compile(r"[0-9a-f]{32}\n?", re.ASCII)
#: The size of the kernel's pool, which is what systemd-random-seed(8) saves.
_SEED_BYTES: Final = 512
_HOST_KEY: Final = re.compile(r"ssh_host_[a-z0-9]+_key(\.pub|-cert\.pub)?", re.ASCII)
_PUBLIC_MODE: Final = 0o644
_SEED_MODE: Final = 0o600


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes a new instance nobody's double; None where it is not new, or has nothing to renew. Raise `OSError`."""
    if not draft.new_instance:
        return None
    keys, types = _host_keys(document, draft)
    machine_id = _machine_id(draft)
    seed = _random_seed(draft)
    words = [f"host keys ({', '.join(types)})"] * bool(types) + ["machine-id"] * bool(machine_id) + ["random seed"] * bool(seed)
    changes = [*keys, *machine_id, *seed]
    return Plan(changes, f"new {', '.join(words)}" if words else "other host keys removed") if changes else None


def key_path(kind: str) -> str:
    """Where the private host key of *kind* is; the public one has ``.pub`` added, its certificate ``-cert.pub``."""
    return f"{sshd.DIRECTORY}/ssh_host_{kind}_key"


def private_owner(draft: Draft) -> tuple[int, int | None]:
    """Mode and group of a private host key: RHEL's ssh-keysign(8) reads them as the group ssh_keys."""
    rows = (line.split(":") for line in draft.text("/etc/group").splitlines())
    gid = next((int(row[2]) for row in rows if row[0] == "ssh_keys" and len(row) == 4 and row[2].isdigit()), None)
    return (0o600, None) if gid is None else (0o640, gid)


def _host_keys(document: Document, draft: Draft) -> tuple[list[Change], list[str]]:
    """What renews the host keys, and the types that are made."""
    present = [name for name in draft.system.names(sshd.DIRECTORY) if _HOST_KEY.fullmatch(name)]
    if not present and not sshd.main_file(draft):
        return [], []
    given, certified = _given(document)
    wanted = [kind for kind in _types(document, given) if kind not in given]
    if not document.ssh_deletekeys:
        wanted = [kind for kind in wanted if f"ssh_host_{kind}_key" not in present]
    elif not wanted and not given:
        return [], []  # a server without any key would let nobody in
    changes = [change for kind in wanted for change in _new_key(document, draft, kind)]
    if document.ssh_deletekeys:
        kept = {key_path(kind) + end for kind in (*wanted, *given) for end in ("", ".pub")}
        kept |= {f"{key_path(kind)}-cert.pub" for kind in certified}
        old = (f"{sshd.DIRECTORY}/{name}" for name in present)
        changes += [RemoveFile(path, secret=path.endswith("_key")) for path in old if path not in kept]
    return sshd.reloaded(draft.system, [*changes, *(relabelled(draft, sshd.DIRECTORY) if changes else [])]), wanted


def _given(document: Document) -> tuple[list[str], list[str]]:
    """Of which types the document gives private keys, and certificates."""
    if document.ssh_keys is msgspec.UNSET:
        return [], []
    said = [[kind for kind in KEY_TYPES if getattr(document.ssh_keys, f"{kind}_{what}") is not msgspec.UNSET]
            for what in ("private", "certificate")]  # fmt: skip
    return said[0], said[1]


def _types(document: Document, given: list[str]) -> list[str]:
    if document.ssh_genkeytypes is not msgspec.UNSET:
        return list(dict.fromkeys(document.ssh_genkeytypes))
    return [] if given else list(DEFAULT_TYPES)


def _new_key(document: Document, draft: Draft, kind: str) -> list[Change]:
    name = hostname.names(document)[0] or draft.text(hostname.HOSTNAME).strip() or "localhost"
    pair = new_host_keys.make(kind, f"root@{name}")
    mode, gid = private_owner(draft)
    private = WriteRandom(key_path(kind), pair.private, mode, gid=gid, secret=True)
    return [private, WriteRandom(f"{key_path(kind)}.pub", pair.public, _PUBLIC_MODE)]


def _machine_id(draft: Draft) -> list[Change]:
    system = draft.system
    linked = bool(system.link(MACHINE_ID))
    old = None if linked else draft.read(MACHINE_ID)
    if old is None or not _ID.fullmatch(old.content.decode("ascii", "replace")) or system.exists(_TRANSIENT):
        return []  # systemd makes one at the next boot, or has made one for this boot only
    changes: list[Change] = []
    new = old.content
    if not system.exists(_FIRST_BOOT):
        new = f"{_uuid4()}\n".encode("ascii")
        changes.append(WriteRandom(MACHINE_ID, new))
    copy = None if system.link(DBUS_MACHINE_ID) else draft.read(DBUS_MACHINE_ID)
    if copy is not None and copy.content != new:
        changes.append(WriteRandom(DBUS_MACHINE_ID, new))
    return changes


def _uuid4() -> str:
    """A random uuid (RFC 9562, section 5.4) as machine-id(5) writes it."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    return raw.hex()


def _random_seed(draft: Draft) -> list[Change]:
    if draft.read(RANDOM_SEED) is None:
        return []
    return [WriteRandom(RANDOM_SEED, os.urandom(_SEED_BYTES), _SEED_MODE, secret=True)]
