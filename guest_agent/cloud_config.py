# SPDX-License-Identifier: Apache-2.0
"""A document in cloud-init's own words. What it has no words for is refused by name, and nothing is left out in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from guest_agent.actions.hostname import names
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pv_channel.accounts import User
    from pv_channel.document import Document
    from pv_channel.machine import FileToWrite

#: Fields whose names and values are cloud-init's own.
_SAME: Final = ("timezone", "locale", "groups", "ssh_deletekeys", "ssh_genkeytypes", "ssh_keys", "ssh_pwauth")
#: Nothing. Without these words cloud-init makes a user, a locale, host keys, and grows the root, asked or not.
NOTHING: Final[dict[str, object]] = {
    "preserve_hostname": True,
    "manage_etc_hosts": False,
    "users": [],
    "disable_root": False,
    "ssh_deletekeys": False,
    "locale": "false",  # a word to its schema, no to its module
    "growpart": {"mode": "off"},
    "resize_rootfs": False,
}
NO_NETWORK: Final[dict[str, object]] = {"config": "disabled"}
_CURE: Final = "run the agent without --hand-to, or leave it out"


def config(document: Document, exists: Callable[[str], bool]) -> dict[str, object]:
    """What cloud-init is to do for *document*, on a machine where the user that *exists* says is there; raise `ItemError`."""
    _check(document)
    made = dict(NOTHING)
    for field in _SAME:
        value = getattr(document, field)
        if value is not msgspec.UNSET:
            made[field] = _plain(value)
    short, full = names(document)
    if short:
        made |= {"hostname": short, "preserve_hostname": False, "manage_etc_hosts": "localhost"}
        made |= {"fqdn": full} if full else {}
    if document.ntp is not msgspec.UNSET:
        made["ntp"] = {"enabled": True, "servers": _plain(document.ntp.servers), "pools": _plain(document.ntp.pools)}
    made |= _users(document, exists)
    if document.ca_certs is not msgspec.UNSET and document.ca_certs.trusted:
        made["ca_certs"] = {"trusted": _plain(document.ca_certs.trusted)}
    if document.write_files is not msgspec.UNSET:
        made["write_files"] = [_file(file) for file in document.write_files]
    if document.resize_rootfs is not msgspec.UNSET:
        mode = {"mode": "auto", "devices": ["/"]} if document.resize_rootfs else {"mode": "off"}
        made |= {"growpart": mode, "resize_rootfs": document.resize_rootfs}
    return made


def network(document: Document) -> dict[str, object]:
    """The network in cloud-init's words; where the document says nothing of it, that cloud-init leaves it alone."""
    if document.network is msgspec.UNSET:
        return NO_NETWORK
    plain: dict[str, object] = _plain(document.network)
    return {"version": 2} | plain


def _check(document: Document) -> None:
    """Raise `ItemError` for what cloud-init cannot be told."""
    keys = document.ssh_keys
    given = [] if keys is msgspec.UNSET else list(_plain(keys))
    alone = [name for name in given if name.endswith("_certificate") and name.replace("certificate", "private") not in given]
    wrong = {
        "ssh_trusted_user_ca_keys": document.ssh_trusted_user_ca_keys is not msgspec.UNSET,
        "ntp: enabled: false": document.ntp is not msgspec.UNSET and not document.ntp.enabled,
        f"ssh_keys: {alone[0] if alone else ''} without its private key": bool(alone),
        "ssh_genkeytypes beside ssh_keys": bool(given) and document.ssh_genkeytypes is not msgspec.UNSET,
    }
    for user in [] if document.users is msgspec.UNSET else document.users:
        wrong[f"users: '{user.name}' absent"] = user.absent
    for file in [] if document.write_files is msgspec.UNSET else document.write_files:
        wrong[f"write_files: '{file.path}' absent"] = file.absent
    for what, so in wrong.items():
        if so:
            raise ItemError("not-supported", f"cloud-init has no word for '{what}'; {_CURE}")


def _users(document: Document, exists: Callable[[str], bool]) -> dict[str, object]:
    users = [] if document.users is msgspec.UNSET else [_user(user, exists) for user in document.users]
    root_keys = document.ssh_authorized_keys
    if root_keys is not msgspec.UNSET:  # cloud-init's own field of this name is for its default user
        users.append({"name": "root", "lock_passwd": False, "ssh_authorized_keys": _plain(root_keys)})
    return {"users": users}


def _user(user: User, exists: Callable[[str], bool]) -> dict[str, Any]:
    """A user; a password that is there already, or comes with the document, is not locked unless the document says so."""
    plain: dict[str, Any] = _plain(user)
    if user.lock_passwd is msgspec.UNSET and (exists(str(user.name)) or user.hashed_passwd is not msgspec.UNSET):
        plain["lock_passwd"] = False
    return plain


def _file(file: FileToWrite) -> dict[str, Any]:
    """A file; one whose owner may be a user of the document is written when users have been made."""
    plain = {"path": str(file.path), "content": file.content, "encoding": file.encoding}
    plain |= {"owner": str(file.owner), "permissions": str(file.permissions)}
    return plain if str(file.owner) == "root:root" else plain | {"defer": True}


def _plain(value: object) -> Any:  # a JSON value
    return msgspec.to_builtins(value, enc_hook=str)
