# SPDX-License-Identifier: Apache-2.0
"""systemd's names of system credentials (systemd.system-credentials(7)) at the top of an operator's file, as the document's own.

They are aliases: a credential and the field that it means are never both given, and what a credential cannot mean is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pv_channel.errors import BadDocument

if TYPE_CHECKING:
    from host_agent.documents.formats.origins import Origins

#: Credentials that are a field at the document's top.
FIELDS: Final = {
    "system.hostname": "local-hostname",
    "firstboot.hostname": "local-hostname",
    "firstboot.timezone": "timezone",
    "firstboot.locale": "locale",
}
#: Credentials that are a field of the user root.
ROOTS: Final = {"passwd.hashed-password.root": "hashed_passwd", "passwd.shell.root": "shell"}
KEYS: Final = "ssh.authorized_keys.root"
_OUR_KEYS: Final = "ssh_authorized_keys"
#: Credentials that exist, and what to write in place of them. Their values are never repeated: some are secrets.
_REFUSED: Final = {
    "passwd.plaintext-password.root": "is a password in clear; hash it with 'mkpasswd -m yescrypt' and write"
    " 'passwd.hashed-password.root', or 'hashed_passwd' of the user root",
    "network.dns": "is not taken; write 'nameservers: {addresses: […]}' in the interface of 'network' that reaches them",
    "network.search_domains": "is not taken; write 'nameservers: {search: […]}' in an interface of 'network'",
    "network.hosts": "is not taken; the line of the machine itself is made of 'fqdn'",
    "firstboot.locale-messages": "is not taken; the document has one 'locale'",
    "firstboot.keymap": "is not taken; nobody types at a guest's keyboard",
}


def rename(values: dict[str, Any], origins: Origins) -> dict[str, Any]:
    """*values* with the document's names of what is a field at its top, and *origins* told what came from where.

    Raise `BadDocument` for a field that is given twice, and for a credential that cannot mean one.
    """
    for name, cure in _REFUSED.items():
        if name in values:
            raise BadDocument(name, cure)
    if not any(name in values for name in (*FIELDS, KEYS)):
        return values
    resolved = dict(values)
    for name, field in FIELDS.items():
        if name in resolved:
            _put(resolved, field, resolved.pop(name), origins, name)
    if KEYS in resolved:
        lines = resolved.pop(KEYS)
        _put(resolved, _OUR_KEYS, _key_lines(lines) if isinstance(lines, str) else lines, origins, KEYS)
        for index in range(len(lines) if isinstance(lines, list) else 0):
            origins.record(f"{_OUR_KEYS}[{index}]", f"{KEYS}[{index}]")
    return resolved


def tell_root(values: dict[str, Any], origins: Origins) -> dict[str, Any]:
    """*values* with what credentials say of root as part of the user root, and *origins* told so; raise `BadDocument`."""
    said = {name: values[name] for name in ROOTS if name in values}
    if not said:
        return values
    resolved = {name: value for name, value in values.items() if name not in said}
    _tell_root(resolved, said, origins)
    return resolved


def _put(values: dict[str, Any], field: str, value: object, origins: Origins, name: str) -> None:
    if field in values:
        other = origins.of(field)
        raise BadDocument(name, f"means the same as '{other}', which is there too; keep one of them")
    values[field] = value
    origins.record(field, name)


def _key_lines(text: str) -> list[str]:
    """The credential is a whole authorized_keys file, remarks included."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _tell_root(values: dict[str, Any], said: dict[str, object], origins: Origins) -> None:
    """*said* becomes part of the user root, and with it the keys at the top, which are root's: it is one user, in one place."""
    users = values.get("users", [])
    if not isinstance(users, list):
        raise BadDocument("users", "expected a list")
    users = list(users)
    names = [user.get("name") if isinstance(user, dict) else None for user in users]
    index = names.index("root") if "root" in names else len(users)
    root = dict(users[index]) if index < len(users) else {"name": "root"}
    where = f"users[{index}]"
    for name, value in said.items():
        if ROOTS[name] in root:
            raise BadDocument(name, f"means the same as '{where}.{ROOTS[name]}', which is there too; keep one of them")
        root[ROOTS[name]] = value
        origins.record(f"{where}.{ROOTS[name]}", name)
    if _OUR_KEYS in values and index == len(users):
        keys = values.pop(_OUR_KEYS)
        root[_OUR_KEYS] = keys
        for number in range(len(keys) if isinstance(keys, list) else 0):
            origins.record(f"{where}.{_OUR_KEYS}[{number}]", origins.of(f"{_OUR_KEYS}[{number}]"))
        origins.record(f"{where}.{_OUR_KEYS}", origins.of(_OUR_KEYS))
    users[index:] = [root, *users[index + 1 :]]
    values["users"] = users
