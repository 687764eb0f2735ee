# SPDX-License-Identifier: Apache-2.0
"""The checked strings: the form that is kept, what an address is made of, and no alphabet wider than it is said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.addresses import Address, Destination, InterfaceAddress, MacAddress
from pv_channel.document import from_values
from pv_channel.names import DomainName, Fqdn, Hostname, InstanceId, InterfaceName, UserName, VmUuid
from pv_channel.network import NetworkConfig
from pv_channel.routes import Route
from pv_channel.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS: Sequence[type[Value]] = [
    Address, Destination, DomainName, Fqdn, Hostname, InstanceId, InterfaceAddress, InterfaceName, MacAddress, UserName, VmUuid,
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        (Hostname, "web1", "web1"),
        (Hostname, "Web-1.Example", "Web-1.Example"),
        (Hostname, "a" * 63, "a" * 63),
        (Fqdn, "web1.example.org", "web1.example.org"),
        (DomainName, "example.org", "example.org"),
        (InstanceId, "iid-0:1_2.3", "iid-0:1_2.3"),
        (VmUuid, "00112233-4455-6677-8899-AABBCCDDEEFF", "00112233-4455-6677-8899-aabbccddeeff"),
        (UserName, "_svc-1", "_svc-1"),
        (InterfaceName, "enX0", "enX0"),
        (InterfaceName, "eth0.100", "eth0.100"),
        (MacAddress, "00:16:3E:AA:bb:0C", "00:16:3e:aa:bb:0c"),
        (Address, "10.0.0.1", "10.0.0.1"),
        (Address, "FE80:0:0::1", "fe80::1"),
        (InterfaceAddress, "10.0.0.5/24", "10.0.0.5/24"),
        (InterfaceAddress, "FD00:0::5/64", "fd00::5/64"),
        (Destination, "default", "default"),
        (Destination, "10.0.0.0/8", "10.0.0.0/8"),
        (Destination, "0.0.0.0/0", "0.0.0.0/0"),
        (Destination, "FD00::/8", "fd00::/8"),
    ],
)
def test_a_good_value_is_kept_in_one_form(kind: type[Value], text: str, kept: str) -> None:
    value = kind(text)
    assert value == kept
    assert kind(value) == value
    assert isinstance(value, str)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "web1; reboot",
        "$(id)",
        "`id`",
        "a\nb",
        "a\n",
        "\n",
        "a\0",
        "a'b",
        'a"b',
        "a\\b",
        "a|b",
        "a&b",
        "a>b",
        "#",
        "%i",
        "../../etc/passwd",
        "/etc/passwd",
        "é",
        "٣",
        "\u202eabc",
        "\x1b[31m",
        "x" * 1_000_000,
        "10.0.0.1\t",
        "::1%lo",
        "-rf",
        "a=b",
    ],
)
def test_hostile_text_is_refused_in_a_few_printable_words(kind: type[Value], text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|is ") as caught:
        kind(text)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(alphabet="abz019.:/-_%$ \n\0é", max_size=40))
def test_what_is_taken_has_no_character_that_a_file_gives_a_meaning(kind: type[Value], text: str) -> None:
    try:
        value = kind(text)
    except ValueError:
        return
    assert not set(value) & set(" \t\n\r\0'\"\\$`;&|<>()#%*?~!{}[]=,é")
    assert value == text or kind(text.lower()) == kind(value)


def test_a_value_without_a_check_takes_nothing() -> None:
    with pytest.raises(ValueError, match="nothing checks"):
        Value("x")


def test_an_address_knows_its_family_and_its_parts() -> None:
    assert (Address("10.0.0.1").version, Address("fd00::1").version) == (4, 6)
    four, six = InterfaceAddress("10.0.0.5/24"), InterfaceAddress("fd00::5/64")
    assert (four.version, four.address, four.prefix) == (4, "10.0.0.5", 24)
    assert (six.version, six.address, six.prefix) == (6, "fd00::5", 64)
    assert (Destination("default").version, Destination("10.0.0.0/8").version, Destination("fd00::/8").version) == (None, 4, 6)
    assert Fqdn("web1.example.org").short == "web1"


def test_a_gateway_is_the_default_route_that_it_means() -> None:
    ethernet = {"addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1", "gateway6": "fd00::1", "routes": [{"to": "10.1.0.0/16"}]}
    document = from_values({"instance-id": "i-1", "network": {"version": 2, "ethernets": {"eth0": ethernet}}})
    assert isinstance(document.network, NetworkConfig)
    routes = document.network.ethernets["eth0"].all_routes()
    assert routes[:2] == [Route(Destination("default"), Address("10.0.0.1")), Route(Destination("default"), Address("fd00::1"))]
    assert [route.version for route in routes] == [4, 6, 4]
