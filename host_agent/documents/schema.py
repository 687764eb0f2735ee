# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent schema`: the JSON Schema (2020-12) of what an operator writes, made of the types that parse it.

It may take what the types refuse, where a schema cannot say why; it never refuses what they take.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import inspect as types

from host_agent import VERSION
from host_agent.documents import aliases
from host_agent.documents.layer import DEFAULTS, GROUP, INHERIT, MAX_INHERITED, OWN
from host_agent.documents.other_words import NETWORK_DATA
from host_agent.documents.partial import partial
from pv_channel import accounts, addresses, host_trust, machine, names, ssh_key, trust

if TYPE_CHECKING:
    import re
    from argparse import Namespace

    from pv_channel.values import Value

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Said(NamedTuple):
    """What a schema says of a value besides its docstrings: an example, and what its own pattern does not say."""

    example: str | None = None
    more: dict[str, Any] = {}  # noqa: RUF012 -- nobody changes it


def _pattern(kind: type[Value]) -> str | None:
    """The regular expression that the value itself is checked by, if it has one."""
    pattern: re.Pattern[str] | None = getattr(kind, "_PATTERN", None)
    return None if pattern is None else pattern.pattern


def _public_key(kind: str) -> _Said:
    """A line of trusted_keys."""
    pattern = rf"^\s*{kind}\s+[A-Za-z0-9+/]{{43}}=(?:\s.*)?$"
    return _Said(f"{kind} iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=", {"pattern": pattern})


_BLOB: Final = "AAAAC3NzaC1lZDI1NTE5AAAAIKl3kIsdvV1v6JN0c0w0wKMY6Bt0bEzY4wUZ7l1bXWvd"
_LABEL: Final = names._LABEL.pattern
_DNS: Final = {"pattern": rf"^{_LABEL}(?:\.{_LABEL})*$"}
_ADDRESS, _PREFIXED, _USER = (_pattern(kind) for kind in (addresses.Address, addresses.InterfaceAddress, names.UserName))
_SAID: Final[dict[type[Value], _Said]] = {
    names.Hostname: _Said("web1", {**_DNS, "maxLength": names.MAX_HOSTNAME_BYTES}),
    names.Fqdn: _Said("web1.example.org", {"pattern": rf"^{_LABEL}(?:\.{_LABEL})+$", "maxLength": names.MAX_FQDN_BYTES}),
    names.DomainName: _Said("example.org", {**_DNS, "maxLength": names.MAX_FQDN_BYTES}),
    names.InstanceId: _Said("i-web1"),
    names.VmUuid: _Said("01234567-89ab-cdef-0123-456789abcdef", {"format": "uuid"}),
    names.UserName: _Said("ada"),
    names.GroupName: _Said("wheel"),
    names.InterfaceName: _Said("eth0"),
    names.InterfacePattern: _Said("eth*"),
    names.DriverName: _Said("xen_netfront"),
    addresses.MacAddress: _Said("00:16:3e:01:02:03"),
    addresses.Address: _Said("192.0.2.1", {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
    addresses.InterfaceAddress: _Said("192.0.2.10/24"),
    addresses.Destination: _Said("default", {"pattern": f"^(?:default|{_PREFIXED})$"}),
    addresses.Selector: _Said("192.0.2.0/24", {"pattern": f"^(?:{_ADDRESS}|{_PREFIXED})$"}),
    accounts.PasswordHash: _Said("$6$rounds=5000$saltsaltsalt$hash.as.mkpasswd.prints.it"),
    accounts.AbsolutePath: _Said("/etc/motd", {"maxLength": 1024}),
    accounts.Gecos: _Said("Ada Lovelace", {"maxLength": 200, "pattern": "^[^:]*$"}),
    accounts.Date: _Said("2027-01-31", {"format": "date"}),
    machine.Timezone: _Said("Europe/Vienna"),
    machine.Locale: _Said("de_AT.UTF-8"),
    machine.NtpServer: _Said("ntp.example.org", {"anyOf": [_DNS, {"format": "ipv6"}]}),
    machine.Owner: _Said("root:root", {"pattern": f"^{_USER}(?::{_USER})?$"}),
    machine.Permissions: _Said("0644"),
    machine.PemCertificate: _Said(None, {"pattern": "-----BEGIN CERTIFICATE-----"}),
    machine.SshPrivateKey: _Said(None, {"pattern": "-----BEGIN OPENSSH PRIVATE KEY-----"}),
    machine.SshCertificate: _Said(None, {"pattern": rf"^\s*(?:{_pattern(machine.SshCertificate)})\s*$"}),
    host_trust.AuthorityKey: _public_key(trust.AUTHORITY_TYPE),
    host_trust.HostKey: _public_key(trust.HOST_KEY_TYPE),
    host_trust.Note: _Said("dom0-3 was stolen"),
    ssh_key.SshKey: _Said(f"ssh-ed25519 {_BLOB} ada", {"maxLength": ssh_key.MAX_LINE_BYTES}),
}


def run(arguments: Namespace) -> int:
    """The schema on standard output."""
    print(json.dumps(schema_of_layer() if arguments.layer else schema(), indent=2, ensure_ascii=False))
    return 0


def schema() -> dict[str, Any]:
    """The schema of a VM's own file, which may leave to the layers below it what is no name of the VM's own."""
    made = _made("document", "What a Xen guest shall become: a document of pv-channel-agents")
    groups = {"type": "array", "items": {"type": "string", "pattern": f"^(?:{GROUP.pattern})$"}, "maxItems": MAX_INHERITED}
    made["properties"] |= {
        "instance-id": {"$ref": "#/$defs/InstanceId"},
        INHERIT: groups | {"uniqueItems": True, "description": "The groups that this VM is in; later ones override earlier."},
        DEFAULTS: {"type": "boolean", "default": True, "description": "false for a VM that the defaults are not for."},
    }
    return made | {"required": ["instance-id"]}


def schema_of_layer() -> dict[str, Any]:
    """The schema of defaults and of a group."""
    made = _made("layer", "What Xen guests have in common: defaults or a group of pv-channel-agents")
    return made | {"properties": {name: value for name, value in made["properties"].items() if name not in OWN}}


def _made(name: str, title: str) -> dict[str, Any]:
    """The schema of any part of a document: nothing is required, and null takes away what lower layers say."""
    maker = _Maker()
    maker.of(types.type_info(partial()))
    top = maker.definitions.pop("Document")
    top["properties"] = _with_other_words(top["properties"])
    return {
        "$schema": _DIALECT,
        "$id": f"urn:pv-channel-agents:{name}:{VERSION}",
        "title": title,
        **{name: value for name, value in top.items() if name != "title"},
        "$defs": dict(sorted(maker.definitions.items())),
    }


def _with_other_words(properties: dict[str, Any]) -> dict[str, Any]:
    """And what `host_agent.documents.other_words` takes besides the document's own fields."""
    version1 = {"type": "object", "description": "cloud-init's network-config, version 1", "required": ["config"]}
    is_version1 = {"type": "object", "properties": {"version": {"const": 1}}, "required": ["version"]}
    user: dict[str, Any] = {"hashed_passwd": accounts.PasswordHash, "shell": accounts.AbsolutePath}
    means = "The same as '{}', by systemd's name of the credential."
    return {
        **properties,
        "network": {"if": is_version1, "then": version1, "else": properties["network"]},
        NETWORK_DATA: {"type": ["object", "null"], "description": "OpenStack's network_data.json, in place of 'network'"},
        **{name: {**properties[field], "description": means.format(field)} for name, field in aliases.FIELDS.items()},
        **{
            name: {
                "anyOf": [{"$ref": f"#/$defs/{user[field].__name__}"}, {"type": "null"}],
                "description": means.format(f"{field} of the user root"),
            }
            for name, field in aliases.ROOTS.items()
        },
        aliases.KEYS: {
            "anyOf": [{"type": "string"}, properties["ssh_authorized_keys"]],
            "description": means.format("ssh_authorized_keys"),
        },
    }


class _Maker:
    """Makes schemas of msgspec's types; structs and values go into *definitions*."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def of(self, kind: types.Type) -> dict[str, Any]:
        """The schema of one type."""
        match kind:
            case types.StructType() | types.CustomType():
                return self._defined(kind)
            case types.UnionType():
                return {"anyOf": [self.of(one) for one in kind.types]}
            case types.LiteralType():
                return {"enum": sorted(kind.values, key=str)}
            case types.ListType():
                return {"type": "array", "items": self.of(kind.item_type)} | _bounds(kind, "minItems", "maxItems")
            case types.DictType():
                values = {"type": "object", "additionalProperties": self.of(kind.value_type)}
                return values | _bounds(kind, "minProperties", "maxProperties")
            case types.StrType():
                return {"type": "string"} | _bounds(kind, "minLength", "maxLength")
            case types.IntType():
                bounds = {"minimum": kind.ge, "maximum": kind.le}
                return {"type": "integer"} | {name: value for name, value in bounds.items() if value is not None}
            case types.BoolType():
                return {"type": "boolean"}
            case types.NoneType():
                return {"type": "null"}
        raise TypeError(f"a schema of {kind} has to be thought of")

    def _defined(self, kind: types.StructType | types.CustomType) -> dict[str, Any]:
        name = kind.cls.__name__
        if name not in self.definitions:
            self.definitions[name] = {}
            made = self._struct(kind) if isinstance(kind, types.StructType) else _value(kind.cls)
            self.definitions[name] = {"title": name, "description": _told(kind.cls), **made}
        return {"$ref": f"#/$defs/{name}"}

    def _struct(self, kind: types.StructType) -> dict[str, Any]:
        made = {
            "type": "object",
            "properties": {field.encode_name: self.of(field.type) | _default(field) for field in kind.fields},
            "additionalProperties": not kind.forbid_unknown_fields,
        }
        required = [field.encode_name for field in kind.fields if field.required]
        return made | ({"required": required} if required else {})


def _value(kind: type[Value]) -> dict[str, Any]:
    said, pattern = _SAID[kind], _pattern(kind)
    made: dict[str, Any] = {"type": "string", "description": f"{_told(kind)} {inspect.getdoc(kind.check)}"}
    made |= {} if pattern is None else {"pattern": f"^(?:{pattern})$"}
    return made | ({"examples": [said.example]} if said.example else {}) | said.more


def _default(field: types.Field) -> dict[str, Any]:
    if field.default is msgspec.NODEFAULT:
        return {}
    return {"default": msgspec.json.decode(msgspec.json.encode(field.default, enc_hook=str))}


def _bounds(kind: Any, least: str, most: str) -> dict[str, Any]:
    bounds = {least: kind.min_length, most: kind.max_length}
    return {name: value for name, value in bounds.items() if value is not None}


def _told(kind: type) -> str:
    """The class's docstring as one paragraph of plain text."""
    return " ".join((inspect.getdoc(kind) or "").replace("``", "'").replace("*", "'").split())
