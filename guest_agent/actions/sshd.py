# SPDX-License-Identifier: Apache-2.0
"""The item ``sshd``: host keys that a document gives, host certificates, the authorities of users, logins by password.

What our file in sshd_config.d says of a field that the document does not name stays; a certificate or authority that a named
field has no more goes. A private host key is never taken away, only replaced: it is the machine's own from then on. Of two
lines the first counts for sshd, so a line of somebody else's before ours is a conflict that only a person can resolve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import sshd
from guest_agent.actions.identity import key_path, private_owner
from guest_agent.actions.labels import relabelled
from guest_agent.actions.plan import Plan
from guest_agent.changes.files import RemoveFile, WriteFile
from guest_agent.failure import ItemError
from pv_channel.document import KEY_TYPES
from pv_channel.machine import SshPrivateKey

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.document import Document

USER_CA: Final = "/etc/ssh/pv-guest-agent_user_ca.pub"
_PROGRAMS: Final = ("/usr/sbin/sshd", "/usr/bin/sshd")
_KEYS: Final = ("HostKey", "HostCertificate")
_CA: Final = ("TrustedUserCAKeys",)
_PASSWORDS: Final = ("PasswordAuthentication", "KbdInteractiveAuthentication")
_PUBLIC: Final = 0o644
_HEADER: Final = "# Written by pv-guest-agent; the next document replaces it."


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes sshd be as the document says; None where it says nothing of it. Raise `ItemError`, `OSError`."""
    keys, authorities, passwords = _said(document, draft)
    if not (keys or authorities or passwords):
        return None
    main = sshd.main_file(draft)
    if not main or not any(draft.system.exists(path) for path in _PROGRAMS):
        raise ItemError("not-supported", "there is no ssh server: install openssh-server")
    settings = list(sshd.settings(draft, main))
    lines = _kept_lines(draft, keys=keys, authorities=authorities, passwords=passwords)
    changes: list[Change] = []
    details: list[str] = []
    if keys:
        more, certified = _keys(document, draft)
        changes += more
        lines += _key_lines(document, settings, certified)
        details += _key_details(document, certified)
    if authorities:
        cas = [] if document.ssh_trusted_user_ca_keys is msgspec.UNSET else document.ssh_trusted_user_ca_keys
        changes += draft.own(USER_CA, "".join(f"{ca}\n" for ca in cas).encode("ascii"), _PUBLIC) if cas else []
        lines += [f"TrustedUserCAKeys {USER_CA}"] * bool(cas)
        details.append(f"{len(cas)} user authorit{'y' if len(cas) == 1 else 'ies'}")
    if passwords:
        lines += ["PasswordAuthentication yes"] if document.ssh_pwauth else [f"{word} no" for word in _PASSWORDS]
        details.append(f"passwords {'taken' if document.ssh_pwauth else 'refused'}")
    _check(settings, main, lines)
    if lines:
        changes += draft.own(sshd.OURS, "".join(f"{line}\n" for line in [_HEADER, *lines]).encode("ascii"), 0o600)
    still, gone = _ours_before(draft, changes, keys=keys, authorities=authorities)
    changes += gone
    if all(change.holds(draft.system) for change in changes):
        return Plan(changes, ", ".join(details), still=still)
    changes += [*relabelled(draft, sshd.DIRECTORY), *sshd.tested(draft.system)]
    return Plan(sshd.reloaded(draft.system, changes), ", ".join(details), still=still)


def _said(document: Document, draft: Draft) -> tuple[bool, bool, bool]:
    """Whether something is to be done about keys, authorities, passwords. Another instance's keys are not a new one's."""
    another = draft.new_instance and any(path.startswith(key_path("")[: -len("_key")]) for path in draft.before)
    return (
        document.ssh_keys is not msgspec.UNSET or another,
        document.ssh_trusted_user_ca_keys is not msgspec.UNSET,
        document.ssh_pwauth is not msgspec.UNSET,
    )


def _kept_lines(draft: Draft, *, keys: bool, authorities: bool, passwords: bool) -> list[str]:
    """The lines of our file that this document says nothing about."""
    again = _KEYS * keys + _CA * authorities + _PASSWORDS * passwords
    old = draft.read(sshd.OURS) if sshd.OURS in draft.before else None
    lines = "" if old is None else old.content.decode("ascii", "replace")
    return [line for line in lines.splitlines() if line.split() and not line.startswith("#") and line.split()[0] not in again]


def _keys(document: Document, draft: Draft) -> tuple[list[Change], list[str]]:
    """The files of keys and certificates, and the types that have a certificate; raise `ItemError`."""
    changes: list[Change] = []
    certified = []
    for kind in KEY_TYPES if document.ssh_keys is not msgspec.UNSET else ():
        private, certificate = (getattr(document.ssh_keys, f"{kind}_{what}") for what in ("private", "certificate"))
        if private is not msgspec.UNSET:
            mode, gid = private_owner(draft)
            public = SshPrivateKey.public_half(private)
            changes += [change._replace(gid=gid) if isinstance(change, WriteFile) else change
                        for change in draft.own(key_path(kind), private.encode("ascii"), mode, secret=True)]  # fmt: skip
            changes += draft.own(f"{key_path(kind)}.pub", f"{public}\n".encode("ascii"), _PUBLIC)
        else:
            public = " ".join(draft.text(f"{key_path(kind)}.pub").split()[:2])
        if certificate is not msgspec.UNSET:
            if certificate.public_key != public:
                cure = "certify the one that 'pv-host-agent known-hosts' shows"
                raise ItemError("wrong-certificate", f"the {kind} certificate is for another key than the guest's; {cure}")
            changes += draft.own(f"{key_path(kind)}-cert.pub", f"{certificate}\n".encode("ascii"), _PUBLIC)
            certified.append(kind)
    return changes, certified


def _key_lines(document: Document, settings: list[sshd.Setting], certified: list[str]) -> list[str]:
    """Certificates have to be named; so have keys where the configuration names any, and sshd loads no others."""
    given = [] if document.ssh_keys is msgspec.UNSET else [
        kind for kind in KEY_TYPES if getattr(document.ssh_keys, f"{kind}_private") is not msgspec.UNSET
    ]  # fmt: skip
    named = [setting.value for setting in settings if setting.keyword == "hostkey"]
    missing = [key_path(kind) for kind in given if named and key_path(kind) not in named]
    return [*(f"HostKey {path}" for path in missing), *(f"HostCertificate {key_path(kind)}-cert.pub" for kind in certified)]


def _key_details(document: Document, certified: list[str]) -> list[str]:
    given = [kind for kind in KEY_TYPES if getattr(document.ssh_keys, f"{kind}_private", msgspec.UNSET) is not msgspec.UNSET]
    parts = [f"host key {kind}" for kind in given] + [f"certificate {kind}" for kind in certified]
    return parts or ["no host certificates"]


def _check(settings: list[sshd.Setting], main: str, lines: list[str]) -> None:
    """Raise `ItemError` where *lines* in our file would not count."""
    if not lines:
        return
    ours = next((number for number, setting in enumerate(settings) if setting.path == sshd.OURS), None)
    if ours is None:
        cure = "put 'Include /etc/ssh/sshd_config.d/*.conf' on its first line"
        raise ItemError("not-supported", f"{main} does not include {sshd.OURS} before its first Match; {cure}")
    for line in lines:
        word, _, value = line.partition(" ")
        for before in settings[:ours]:
            if word not in _KEYS and before.keyword == word.lower() and before.value.lower() != value.lower():
                whose = f"{before.path} line {before.line} says '{word} {before.value}' first"
                raise ItemError("conflict", f"{whose}, and sshd takes the first; remove it there")


def _ours_before(
    draft: Draft, changes: list[Change], *, keys: bool, authorities: bool
) -> tuple[tuple[tuple[str, str], ...], list[Change]]:
    """Of what was ours: what stays so, and what removes the rest. Private keys and their public halves are only given up."""
    written = {change.path for change in changes if isinstance(change, WriteFile)}
    still: list[tuple[str, str]] = []
    gone: list[Change] = []
    for path, digest in draft.before.items():
        if path in written:
            continue
        about = authorities if path == USER_CA else keys
        if path == sshd.OURS or (about and (path == USER_CA or path.endswith("-cert.pub"))):
            if draft.read(path) is not None:
                draft.check(path)
                gone.append(RemoveFile(path))
        elif not about:
            still.append((path, digest))
    return tuple(still), gone
