# SPDX-License-Identifier: Apache-2.0
"""Whose channel is whose: by uuid, by name, by the socket's name, and nobody's where that is not certain."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.channels.whereabouts import Nowhere, Whereabouts
from host_agent.documents.document_file import Wanted
from pv_channel import CHANNEL_NAME
from pv_channel.document import from_values
from pv_channel.greeting import NO_UUID
from tests.host.fakes import PLAIN
from tests.host.talk import OTHER, UUID

WEB1 = Domain(3, UUID, "web1", 1000)
WEB2 = Domain(4, OTHER, "web2")
DIRECTORY = Path("/run/pv-channel")


def wanted(name: str = "web1", uuid: bytes = NO_UUID) -> Wanted:
    document = from_values(PLAIN)
    return Wanted(name, uuid, document, document.digest())


def channel(domain: Domain, path: str = "web1.sock", name: str = CHANNEL_NAME) -> Endpoint:
    return Endpoint(DIRECTORY / path, made=1, channel=name, domain=domain)


def socket(path: str = "web1.sock") -> Endpoint:
    return Endpoint(DIRECTORY / path, made=1)


def look(
    *found: Endpoint, domains: tuple[Domain, ...] = (WEB1, WEB2), named: dict[str, Endpoint] | None = None, xen: bool = True
) -> Whereabouts:
    return Whereabouts(CHANNEL_NAME, found, domains, named or {}, xen=xen)


def nowhere(where: Endpoint | Nowhere) -> Nowhere:
    assert isinstance(where, Nowhere), where
    return where


def test_a_uuid_decides_whatever_the_names_are() -> None:
    theirs = channel(WEB2, "other.sock")
    assert look(channel(WEB1), theirs).of(wanted("web1", OTHER)) == theirs


def test_a_document_without_uuid_is_for_the_domain_of_its_name() -> None:
    ours = channel(WEB1, "x.sock")
    assert look(ours, channel(WEB2, "y.sock"), named={"web1": socket("web1.sock")}).of(wanted()) == ours


def test_without_xen_a_sockets_name_decides() -> None:
    assert look(domains=(), named={"web1": socket()}, xen=False).of(wanted()) == socket()
    assert look(domains=(), named={"web1": socket()}, xen=False).of(wanted(uuid=UUID)) == socket()
    off = nowhere(look(domains=(), xen=False).of(wanted()))
    assert not off.wrong
    assert off.why == "no such socket: web1.sock; the VM is off or restarting"


def test_one_path_from_two_sources_is_one_endpoint() -> None:
    ours = channel(WEB1)
    for document in (wanted(), wanted(uuid=UUID)):
        assert look(ours, named={"web1": socket()}).of(document) == ours


def test_the_first_of_two_channels_of_one_name_is_it() -> None:
    first, second = channel(WEB1, "a.sock"), channel(WEB1, "b.sock")
    assert look(first, second).of(wanted()) == first


@pytest.mark.parametrize("document", [wanted(), wanted(uuid=UUID)])
def test_what_two_running_domains_claim_is_neithers(document: Wanted) -> None:
    twin = Domain(9, UUID, "web1")
    both = channel(WEB1), channel(twin)
    found = nowhere(look(*both, domains=(WEB1, twin)).of(document))
    assert found.why.startswith("2 running domains have ")
    assert "web1 (3), web1 (9)" in found.why
    assert found.wrong
    assert found.claimed == both


def test_a_socket_of_the_right_name_that_is_another_vms_is_left_alone() -> None:
    found = nowhere(look(channel(WEB2), domains=(WEB2,), named={"web1": socket()}).of(wanted(uuid=UUID)))
    assert found.why.startswith("/run/pv-channel/web1.sock is not its channel's socket: it is that of domain web2 (4), channel ")


def test_another_applications_socket_is_left_alone_whatever_its_name() -> None:
    theirs = channel(WEB1, name="org.qemu.guest_agent.0")
    for document in (wanted(), wanted(uuid=UUID)):
        assert "channel org.qemu.guest_agent.0" in nowhere(look(theirs, named={"web1": socket()}).of(document)).why


def test_a_document_without_uuid_may_be_for_the_domain_that_has_its_socket() -> None:
    theirs = channel(WEB2)
    assert look(theirs, domains=(WEB2,), named={"web1": socket()}).of(wanted()) == theirs


def test_a_path_that_two_domains_have_is_served_for_neither() -> None:
    found = look(channel(WEB1, "x.sock"), channel(WEB2, "x.sock"))
    for document in (wanted(uuid=UUID), wanted(uuid=OTHER)):
        assert "the path of domain web1 (3)" in nowhere(found.of(document)).why
        assert "give each its own" in nowhere(found.of(document)).why


def test_a_running_domain_without_the_channel_is_told_of_xls_dropped_entry() -> None:
    found = nowhere(look().of(wanted(uuid=UUID)))
    assert found.why.startswith(f"domain web1 (3) runs without a channel {CHANNEL_NAME}")
    assert "drops the first 'channel=' entry" in found.why
    assert found.wrong


def test_where_xl_dropped_the_entry_qemus_socket_is_served_with_the_domain_known() -> None:
    assert look(named={"web1": socket()}).of(wanted(uuid=UUID)) == socket()._replace(domain=WEB1)


def test_a_vm_that_is_off_is_no_fault() -> None:
    found = nowhere(look(domains=(WEB2,)).of(wanted(uuid=UUID)))
    assert not found.wrong
    assert found.why.startswith("no running domain has uuid 00010203-0405-0607-0809-0a0b0c0d0e0f, and no such socket: web1.sock")


def test_a_domains_name_is_made_printable() -> None:
    rude = Domain(3, UUID, "web\x1b[2J1")
    assert "\x1b" not in nowhere(look(domains=(rude,)).of(wanted(uuid=UUID))).why
