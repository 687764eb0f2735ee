# SPDX-License-Identifier: Apache-2.0
"""What parsers are fed at first: a whole document, a host key, its certificate, an authority; the same bytes in every run."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, format_key

SSH_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1hmqTRcR7oFbGqz9ZUrGoJsN0Ld2qHcS8mrcXzX0vU ada"
_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32)
_AUTHORITY: Final = Ed25519PrivateKey.from_private_bytes(bytes([4]) * 32)
_TYPE: Final = b"ssh-ed25519"


def _strings(*fields: bytes) -> bytes:
    """Strings of RFC 4251, section 5."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def _private_key() -> bytes:
    public = _KEY.public_key().public_bytes_raw()
    private = bytes(8) + _strings(_TYPE, public, _KEY.private_bytes_raw() + public, b"web1")
    padding = bytes(range(1, 1 + -len(private) % 8))
    head = b"openssh-key-v1\0" + _strings(b"none", b"none", b"") + bytes([0, 0, 0, 1])
    return head + _strings(_strings(_TYPE, public), private + padding)


def _certificate() -> bytes:
    key, authority = (pair.public_key().public_bytes_raw() for pair in (_KEY, _AUTHORITY))
    signed = _strings(b"ssh-ed25519-cert-v01@openssh.com", bytes(32), key) + bytes(8) + bytes([0, 0, 0, 2])
    signed += _strings(b"web1", _strings(b"web1")) + bytes(8) + bytes([255]) * 8
    signed += _strings(b"", b"", b"", _strings(_TYPE, authority))
    return signed + _strings(_strings(_TYPE, _AUTHORITY.sign(signed)))


def _authority() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(_AUTHORITY.public_key()).serial_number(1)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    return builder.sign(_AUTHORITY, None).public_bytes(Encoding.DER)


def armour(label: str, data: bytes) -> str:
    """*data* in PEM."""
    return f"-----BEGIN {label}-----\n{b64encode(data).decode()}\n-----END {label}-----\n"


def host_certificate(data: bytes) -> str:
    """*data* as a line of a host certificate."""
    return f"ssh-ed25519-cert-v01@openssh.com {b64encode(data).decode()}"


PRIVATE_KEY: Final = _private_key()
CERTIFICATE: Final = _certificate()
AUTHORITY: Final = _authority()

_ETHERNET: Final = {
    "match": {"macaddress": "00:16:3e:00:00:01", "name": "e*", "driver": "xen_netfront"},
    "set-name": "lan0",
    "addresses": ["10.0.0.5/24", "fd00::5/64"],
    "gateway4": "10.0.0.1",
    "routes": [{"to": "default", "via": "fd00::1"}, {"to": "10.1.0.0/16", "via": "10.0.0.9", "metric": 5, "on-link": True}],
    "routing-policy": [{"from": "10.0.0.5", "table": 7, "priority": 100}],
    "nameservers": {"addresses": ["10.0.0.53"], "search": ["example.org"]},
    "dhcp4-overrides": {"use-domains": "route", "route-metric": 50},
    "mtu": 1500,
}
_NETWORK: Final = {
    "version": 2,
    "ethernets": {"lan": _ETHERNET, "e1": {}, "e2": {"dhcp4": True, "dhcp6": True}},
    "bonds": {"bond0": {"interfaces": ["e1"], "parameters": {"mode": "802.3ad", "arp-ip-targets": ["10.0.0.1"]}}},
    "vlans": {"v7": {"id": 7, "link": "bond0"}},
    "bridges": {"br0": {"interfaces": ["v7"], "dhcp4": True, "parameters": {"path-cost": {"v7": 5}, "stp": False}}},
}
_USER: Final = {
    "name": "ada",
    "uid": 1500,
    "gecos": "Ada",
    "groups": "adm, sudo",
    "homedir": "/srv/ada",
    "shell": "/bin/bash",
    "hashed_passwd": "$6$saltsalt$" + "Ab1./" * 17,
    "lock_passwd": False,
    "expiredate": "2028-02-29",
    "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
    "ssh_authorized_keys": [SSH_KEY],
}
_SMALL: Final = {"instance-id": "i-1", "generation": 3, "local-hostname": "web1", "network": _NETWORK}
_WHOLE: Final = {
    "instance-id": "i-1",
    "generation": 3,
    "host_trust": {
        "authorities": {"fleet": format_key(AUTHORITY_TYPE, bytes(32))},
        "hosts": {"dom0-1": format_key(HOST_KEY_TYPE, bytes(32))},
        "revoked": {"SHA256:e3b0c442-98fc1c14-9afbf4c8-996fb924-27ae41e4": "stolen"},
    },
    "fqdn": "web1.example.org",
    "timezone": "Europe/Vienna",
    "locale": "de_AT.UTF-8",
    "ntp": {"servers": ["10.0.0.1", "ntp.example.org"]},
    "groups": ["cats", {"dogs": ["ada"]}],
    "users": [_USER, {"name": "eve", "absent": True}],
    "ssh_authorized_keys": [],
    "ssh_keys": {
        "ed25519_private": armour("OPENSSH PRIVATE KEY", PRIVATE_KEY),
        "ed25519_certificate": host_certificate(CERTIFICATE),
    },
    "ca_certs": {"trusted": [armour("CERTIFICATE", AUTHORITY)]},
    "write_files": [{"path": "/etc/a", "content": "QUJD", "encoding": "b64", "owner": "root:adm", "permissions": "640"}],
    "user-data": "#!/bin/sh\n",
    "overwrite": ["network"],
    "confirm": {"check": "tcp", "within": 30, "tcp": "[fd00::5]:22"},
}
DOCUMENTS: Final = tuple(json.dumps(values).encode() for values in ({"instance-id": "i-1"}, _SMALL, _WHOLE))
