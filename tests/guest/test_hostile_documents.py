# SPDX-License-Identifier: Apache-2.0
"""No value in any field of a document, and no bytes in place of one, reach the machine unless they are what they should be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pv_channel.messages import Outcome
from tests.guest.machine import MAC, Machine, everything, key, network, provision

if TYPE_CHECKING:
    from pathlib import Path

UUID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


HOSTILE: list[object] = [
    "", " ", "$(reboot)", "`id`", "a;b", "a|b", "a&b", "a\nb", "a\r\nb", "a\0b", "../../etc/passwd", "/etc/passwd", "a'b", 'a"b',
    "a\\b", "-rf", "%n", "*", "a b", "\x1b[31m", "\u202eevil", "é", "a" * 1_000_000, None, 7, -1, 1.5, True, [], {}, ["x"] * 2000,
]  # fmt: skip
ETHERNET = "network.ethernets.eth0"
FIELDS = [
    "instance-id", "generation", "uuid", "local-hostname", "fqdn", "ssh_authorized_keys", "ssh_authorized_keys.0",
    "users", "users.0", "users.0.name", "users.0.ssh_authorized_keys", "users.0.ssh_authorized_keys.0", "network",
    "network.version", "network.ethernets", "network.ethernets.KEY", "network.ethernets.eth0", "unknown",
    *(f"{ETHERNET}.{name}" for name in (
        "match", "match.macaddress", "addresses", "addresses.0", "gateway4", "gateway6", "dhcp4", "dhcp6", "accept-ra",
        "mtu", "nameservers", "nameservers.addresses.0", "nameservers.search.0", "routes.0", "routes.0.to",
        "routes.0.via", "routes.0.metric", "routes.0.on-link",
    )),
]  # fmt: skip
#: What is hostile somewhere and an honest value here: these documents are not part of the test.
HONEST = {
    "generation": (7,), f"{ETHERNET}.mtu": (), f"{ETHERNET}.routes.0.metric": (7,),
    "network.ethernets.eth0": ({},), "users": ([],), "ssh_authorized_keys": ([],), "users.0.ssh_authorized_keys": ([],),
    f"{ETHERNET}.addresses": ([],), f"{ETHERNET}.nameservers": ({},), "network.ethernets": ({},),
    f"{ETHERNET}.dhcp4": (True,), f"{ETHERNET}.dhcp6": (True,), f"{ETHERNET}.accept-ra": (True,),
    f"{ETHERNET}.routes.0.on-link": (True,),
}  # fmt: skip


def with_field(path: str, value: object) -> dict[str, Any]:
    """A document that is good but for the value at *path*."""
    values: dict[str, Any] = {
        "instance-id": "i-1", "generation": 1, "uuid": UUID, "local-hostname": "web1", "fqdn": "web1.example.org",
        "ssh_authorized_keys": [key(1)], "users": [{"name": "ada", "ssh_authorized_keys": [key(2)]}],
        "network": network(
            eth0={
                "match": {"macaddress": MAC}, "addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1", "gateway6": "fd00::1",
                "nameservers": {"addresses": ["10.0.0.2"], "search": ["example.org"]},
                "routes": [{"to": "10.9.0.0/16", "via": "10.0.0.9"}],
            }
        ),
    }  # fmt: skip
    *parents, last = path.split(".")
    inside: Any = values
    for name in parents:
        inside = inside[int(name)] if isinstance(inside, list) else inside[name]
    if last == "KEY":
        inside[str(value)] = {}
    elif isinstance(inside, list):
        inside[int(last)] = value
    else:
        inside[last] = value
    return values


@pytest.mark.parametrize("path", FIELDS)
def test_a_hostile_value_in_any_field_is_refused_where_it_stands_and_nothing_is_touched(machine: Machine, path: str) -> None:
    before = everything(machine)
    for value in HOSTILE:
        if any(type(value) is type(honest) and value == honest for honest in HONEST.get(path, ())):
            continue
        if path.endswith("KEY") and not isinstance(value, str):
            continue
        result = provision(machine, json.dumps(with_field(path, value)).encode())
        assert (result.outcome, result.reason) == (Outcome.REFUSED, "bad-document"), (path, str(value)[:40])
        assert all(" " <= character <= "~" for character in result.detail + result.path)
    assert everything(machine) == before


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS[:8]) | st.text(), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_bytes_make_it_raise(machine: Machine, raw: bytes) -> None:
    assert provision(machine, raw).outcome in set(Outcome)
