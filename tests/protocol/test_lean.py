# SPDX-License-Identifier: Apache-2.0
"""What a guest loads for a document: nothing that only another document needs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.protocol.documents import HASH, KEYS
from tests.protocol.ssh_keys import armoured, certificate, pem

SMALL: dict[str, Any] = {
    "instance-id": "i-1",
    "generation": 1,
    "local-hostname": "web1",
    "users": [{"name": "ada", "hashed_passwd": HASH, "ssh_authorized_keys": KEYS}],
    "network": {"version": 2, "ethernets": {"eth0": {"addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1"}}},
}
HEAVY = ("cryptography.x509", "cryptography.hazmat.primitives.serialization", "cryptography.hazmat.primitives.asymmetric")
LOAD = """
import sys
from pv_channel.document import parse
document = parse(sys.argv[1].encode())
document.digest()
parse(document.encode())
print(*sorted(sys.modules))
"""


def loaded_for(values: dict[str, Any]) -> list[str]:
    """The modules of a fresh interpreter that parsed *values*."""
    command = [sys.executable, "-c", LOAD, json.dumps(values)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_small_document_loads_no_certificates_and_no_key_formats() -> None:
    loaded = loaded_for(SMALL)
    assert "pv_channel.machine" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []
    assert not {"hashlib", "ssl", "asyncio", "subprocess", "base64", "json", "yaml", "dataclasses"} & set(loaded)


@pytest.mark.parametrize(
    ("values", "needs"),
    [
        ({"ca_certs": {"trusted": [pem()]}}, "cryptography.x509"),
        ({"ssh_keys": {"ed25519_certificate": certificate("ed25519")}}, "cryptography.hazmat.primitives.serialization.ssh"),
    ],
)
def test_what_a_field_needs_is_loaded_for_it(values: dict[str, Any], needs: str) -> None:
    assert needs in loaded_for(SMALL | values)


def test_a_host_key_is_read_without_the_formats_of_others() -> None:
    assert "cryptography.hazmat.primitives.serialization.ssh" in loaded_for(
        SMALL | {"ssh_keys": {"ed25519_certificate": certificate("ed25519")}}
    )
    loaded = loaded_for(SMALL | {"ssh_keys": {"ed25519_private": armoured("ed25519"), "rsa_private": armoured("rsa2048")}})
    assert "cryptography.x509" not in loaded
