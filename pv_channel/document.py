# SPDX-License-Identifier: Apache-2.0
"""What a guest can be asked to become: one JSON object with cloud-init's names, parsed once into values that cannot be wrong.

Absent means leave alone; an empty list means that there shall be none. Both sides parse with `parse` and nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import msgspec

from pv_channel.accounts import MAX_GROUPS, GroupEntry, Keys, User, members_by_group
from pv_channel.confirm import Confirm
from pv_channel.digest import sha256
from pv_channel.errors import BadDocument
from pv_channel.host_trust import HostTrust
from pv_channel.located import located
from pv_channel.machine import CaCerts, FileToWrite, Locale, Ntp, SshKeys, Timezone
from pv_channel.messages import MAX_DOCUMENT_BYTES, UNDECODABLE
from pv_channel.names import Fqdn, Hostname, InstanceId, VmUuid
from pv_channel.network import NetworkConfig
from pv_channel.ssh_key import SshKey
from pv_channel.values import Value, share_defaults

MAX_USERS: Final = 256
MAX_FILES: Final = 256
#: More user certificate authorities than a company has.
MAX_USER_CAS: Final = 64
#: Generations count up from 1; the bound keeps them exact in every JSON reader (RFC 8259, section 6).
MAX_GENERATION: Final = 2**53

#: The items of a document, in the order in which they are applied (PROTOCOL.md, "Documents").
Item = Literal[
    "host-trust", "identity", "hostname", "users", "ssh-keys", "sshd", "timezone", "locale", "ntp", "ca-certs", "write-files",
    "root-filesystem", "network", "user-data",
]  # fmt: skip
ITEMS: Final[tuple[str, ...]] = get_args(Item)
KeyType = Literal["ed25519", "ecdsa", "rsa"]
KEY_TYPES: Final[tuple[str, ...]] = get_args(KeyType)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One generation of one instance's configuration.

    *ssh_authorized_keys* at the top are root's. *uuid* is the VM's; a guest that is another VM refuses the document.
    *overwrite* names the items that may replace what somebody else has changed. An operator's file may lack *generation*:
    the host counts then. What is sent has one.
    """

    instance_id: InstanceId = msgspec.field(name="instance-id")
    generation: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)] | msgspec.UnsetType = msgspec.UNSET
    uuid: VmUuid | msgspec.UnsetType = msgspec.UNSET
    host_trust: HostTrust | msgspec.UnsetType = msgspec.UNSET
    local_hostname: Hostname | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="local-hostname")
    fqdn: Fqdn | msgspec.UnsetType = msgspec.UNSET
    timezone: Timezone | msgspec.UnsetType = msgspec.UNSET
    locale: Locale | msgspec.UnsetType = msgspec.UNSET
    ntp: Ntp | msgspec.UnsetType = msgspec.UNSET
    groups: Annotated[list[GroupEntry], msgspec.Meta(max_length=MAX_GROUPS)] | msgspec.UnsetType = msgspec.UNSET
    users: Annotated[list[User], msgspec.Meta(max_length=MAX_USERS)] | msgspec.UnsetType = msgspec.UNSET
    ssh_authorized_keys: Keys | msgspec.UnsetType = msgspec.UNSET
    ssh_deletekeys: bool = True
    ssh_genkeytypes: Annotated[list[KeyType], msgspec.Meta(max_length=len(KEY_TYPES))] | msgspec.UnsetType = msgspec.UNSET
    ssh_keys: SshKeys | msgspec.UnsetType = msgspec.UNSET
    ssh_pwauth: bool | msgspec.UnsetType = msgspec.UNSET
    ssh_trusted_user_ca_keys: Annotated[list[SshKey], msgspec.Meta(max_length=MAX_USER_CAS)] | msgspec.UnsetType = msgspec.UNSET
    ca_certs: CaCerts | msgspec.UnsetType = msgspec.UNSET
    write_files: Annotated[list[FileToWrite], msgspec.Meta(max_length=MAX_FILES)] | msgspec.UnsetType = msgspec.UNSET
    resize_rootfs: bool | msgspec.UnsetType = msgspec.UNSET
    network: NetworkConfig | msgspec.UnsetType = msgspec.UNSET
    user_data: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="user-data")
    overwrite: Annotated[list[Item], msgspec.Meta(max_length=len(ITEMS))] = []
    confirm: Confirm = Confirm()

    def __post_init__(self) -> None:
        share_defaults(self)
        names = [user.name for user in self.users] if self.users is not msgspec.UNSET else []
        if len(set(names)) != len(names):
            raise ValueError("'users' names one user twice")
        if "root" in names and self.ssh_authorized_keys is not msgspec.UNSET:
            raise ValueError("'ssh_authorized_keys' at the top are root's, and 'users' has root too")
        if self.write_files is not msgspec.UNSET:
            _check_paths(self.write_files)
        if self.user_data is not msgspec.UNSET and not _is_text(self.user_data):
            raise ValueError("'user-data' is no text: it has half a surrogate pair")
        if self.groups is not msgspec.UNSET:
            members_by_group(self.groups)
        if self.ssh_trusted_user_ca_keys is not msgspec.UNSET and any(k.parsed.options for k in self.ssh_trusted_user_ca_keys):
            raise ValueError("'ssh_trusted_user_ca_keys' are keys without options")

    def at_generation(self, generation: int) -> Document:
        """The same document as generation *generation*."""
        from copy import copy  # a guest hardly ever wants it

        same = copy(self)  # nothing that was checked is another
        msgspec.structs.force_setattr(same, "generation", generation)
        return same

    def encode(self) -> bytes:
        """The document's JSON, as it crosses the channel."""
        confirm = self.confirm.for_guest()
        same = self if confirm is self.confirm else msgspec.structs.replace(self, confirm=confirm)
        return msgspec.json.encode(same, enc_hook=str)

    def digest(self) -> str:
        """What the document says, as 32 hexadecimal digits: equal exactly where nothing differs.

        Its generation is aside, and how a change is confirmed: neither is anything that a guest becomes.
        """
        same = msgspec.structs.replace(self, generation=msgspec.UNSET, confirm=Confirm())
        return sha256(msgspec.json.encode(same, enc_hook=str, order="deterministic")).hex()[:32]


def _check_paths(files: list[FileToWrite]) -> None:
    paths = {file.path for file in files}
    if len(paths) != len(files):
        raise ValueError("'write_files' names one path twice")
    directories = {str(file.path)[:at] for file in files if not file.absent for at, c in enumerate(file.path) if c == "/"}
    both = next((file.path for file in files if not file.absent and file.path in directories), None)
    if both:
        raise ValueError(f"'write_files' has '{both}' as a file and as a directory")


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def parse(data: bytes) -> Document:
    """The document that this JSON is; raise `BadDocument` for any other bytes."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise BadDocument("", f"a document has at most {MAX_DOCUMENT_BYTES} bytes, this has {len(data)}")
    try:
        values = msgspec.json.decode(data)
    except UNDECODABLE as exc:
        raise BadDocument("", f"not JSON: {exc}") from None
    return from_values(values)


def from_values(values: object) -> Document:
    """The document that these decoded JSON or YAML values are; raise `BadDocument` with the path to what is wrong."""
    return converted(values, Document)


def converted(values: object, kind: type[_Struct]) -> _Struct:
    """*values* as a *kind* with a document's fields; raise `BadDocument` with the path to what is wrong."""
    try:
        return msgspec.convert(values, kind, dec_hook=_value)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise BadDocument(*located(values, str(exc), lambda part: _fails(part, kind))) from None


def _fails(values: object, kind: type[msgspec.Struct]) -> str:
    """How conversion of *values* fails; empty where it does not."""
    try:
        msgspec.convert(values, kind, dec_hook=_value)
    except (msgspec.ValidationError, RecursionError) as exc:
        return str(exc)
    return ""


def _value(kind: type[Any], raw: object) -> object:
    if not isinstance(raw, str):
        raise ValueError(f"expected a string, got {type(raw).__name__}")
    if not issubclass(kind, Value):
        raise ValueError(f"nothing makes a {kind.__name__}")
    return kind(raw)
