# SPDX-License-Identifier: Apache-2.0
"""Defaults, groups and a VM's own file: which of them wins, how they merge, and which file an error names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from host_agent.__main__ import main
from host_agent.documents.document_file import read
from host_agent.documents.schema import schema, schema_of_layer
from host_agent.documents.yaml_values import parse
from tests.host.etc import ETH0, HASH, Etc
from tests.protocol.blocks import read as read_cases

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.document import Document

KEY, OTHER = (case["kept"] for case in read_cases("ssh-keys-good")[:2])


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc.made(tmp_path)


def without(document: Document) -> dict[str, Any]:
    """What it says besides its identity."""
    values: dict[str, Any] = json.loads(document.encode())
    return {name: value for name, value in values.items() if name != "instance-id"}


#: What stands in defaults, group a, group b and the VM's own file (which inherits a, then b), and what comes of it.
PRECEDENCE = {
    "defaults alone": ("timezone: UTC", "{}", "{}", "", "timezone: UTC"),
    "a group over defaults": ("timezone: UTC", "timezone: Asia/Tokyo", "{}", "", "timezone: Asia/Tokyo"),
    "the later group": ("timezone: UTC", "timezone: Asia/Tokyo", "timezone: Europe/Paris", "", "timezone: Europe/Paris"),
    "the VM itself": ("timezone: UTC", "{}", "timezone: Asia/Tokyo", "timezone: Europe/Rome", "timezone: Europe/Rome"),
    "what nobody else says stays": (
        "locale: C",
        "resize_rootfs: true",
        "{}",
        "fqdn: a.b",
        "{locale: C, resize_rootfs: true, fqdn: a.b}",
    ),
    "null in the VM's own file": ("timezone: UTC", "timezone: Asia/Tokyo", "{}", "timezone: null", "{}"),
    "null in a group": ("timezone: UTC", "timezone: ~", "{}", "", "{}"),
    "null, and said again": ("timezone: UTC", "timezone: null", "timezone: UTC", "", "timezone: UTC"),
    "null of what nobody says": (
        "{}",
        "{}",
        "ntp: null",
        "network: {version: 2, ethernets: {eth0: null}}",
        "network: {version: 2}",
    ),
    "lists are replaced": (
        f"ssh_authorized_keys: [{KEY}]",
        f"ssh_authorized_keys: [{OTHER}]",
        "{}",
        "",
        f"ssh_authorized_keys: [{OTHER}]",
    ),
    "an empty list is a list": (
        f"ssh_authorized_keys: [{KEY}]",
        "{}",
        "{}",
        "ssh_authorized_keys: []",
        "ssh_authorized_keys: []",
    ),
    "mappings merge": (
        "ntp: {servers: [a.b]}",
        "ntp: {pools: [c.d]}",
        "ntp: {enabled: false}",
        "",
        "ntp: {servers: [a.b], pools: [c.d], enabled: false}",
    ),
    "mappings merge at any depth": (
        ETH0,
        "{}",
        "network: {ethernets: {eth0: {nameservers: {search: [b.example]}}}}",
        "network: {ethernets: {eth0: {dhcp4: null, addresses: [192.0.2.9/24]}, eth1: {dhcp6: true}}}",
        (
            "network: {version: 2, ethernets: {eth0: {mtu: 1400, addresses: [192.0.2.9/24], nameservers: {search: [b.example],"
            " addresses: [192.0.2.1]}}, eth1: {dhcp6: true}}}"
        ),
    ),
    "an interface is taken away": (ETH0, "network: {ethernets: {eth0: null}}", "{}", "", "network: {version: 2}"),
    "a whole network is taken away": (ETH0, "network: null", "{}", "", "{}"),
    "a part without what a whole needs": (
        "network: {version: 2}",
        "network: {vlans: {v: {link: eth0}}}",
        "network: {ethernets: {eth0: {}}}",
        "network: {vlans: {v: {id: 7}}}",
        "network: {version: 2, ethernets: {eth0: {}}, vlans: {v: {id: 7, link: eth0}}}",
    ),
    "a credential's name over a field": ("timezone: UTC", "firstboot.timezone: Asia/Tokyo", "{}", "", "timezone: Asia/Tokyo"),
    "a field over a credential's name": ("system.hostname: a", "{}", "{}", "local-hostname: b", "local-hostname: b"),
    "a credential's name takes away": (f"ssh_authorized_keys: [{KEY}]", "ssh.authorized_keys.root: null", "{}", "", "{}"),
    "root's credentials join the users": (
        f"passwd.hashed-password.root: {HASH}",
        "{}",
        "{}",
        "users: [{name: ada}]",
        f"users: [{{name: ada}}, {{name: root, hashed_passwd: {HASH}}}]",
    ),
    "root's credentials are taken away": (
        f"passwd.hashed-password.root: {HASH}\npasswd.shell.root: /bin/sh",
        "passwd.shell.root: null",
        "{}",
        "passwd.hashed-password.root: null",
        "{}",
    ),
    "network version 1 over version 2": (
        ETH0,
        "{}",
        "{}",
        "network: {version: 1, config: [{type: physical, name: eth0, mtu: 1300}]}",
        ETH0.replace("1400", "1300"),
    ),
    "OpenStack's network is taken away": (ETH0, "network-data: null", "{}", "", "{}"),
    "confirm merges too": (
        "confirm: {check: tcp, tcp: 'a.b:22'}",
        "{}",
        "confirm: {within: 90}",
        "",
        "confirm: {check: tcp, tcp: 'a.b:22', within: 90}",
    ),
}


@pytest.mark.parametrize(("defaults", "a", "b", "own", "comes"), PRECEDENCE.values(), ids=PRECEDENCE)
def test_what_stands_higher_wins(etc: Etc, defaults: str, a: str, b: str, own: str, comes: str) -> None:
    etc.put(f"inherit: [a, b]\n{own}", defaults=defaults, a=a, b=b)
    values = parse(comes).values
    assert isinstance(values, dict)
    assert etc.document() == read(etc.write("whole", json.dumps({"instance-id": "i-1", **values})))


def test_without_inherit_only_the_defaults_are_below(etc: Etc) -> None:
    etc.put("", defaults="timezone: UTC", web="locale: C")
    assert without(etc.document()) == {"timezone": "UTC"}


def test_a_vm_can_do_without_the_defaults(etc: Etc) -> None:
    etc.put("defaults: false\ninherit: [web]", defaults="timezone: UTC", web="locale: C")
    assert without(etc.document()) == {"locale": "C"}


def test_the_words_for_layers_are_not_sent_and_change_nothing(etc: Etc) -> None:
    etc.put("inherit: [web]\ndefaults: true\ntimezone: UTC", web="{}")
    layered = etc.document()
    etc.put("timezone: UTC")
    assert etc.document().encode() == layered.encode()


def test_the_order_of_groups_is_that_of_inherit(etc: Etc) -> None:
    for order, zone in (("a, b", "UTC"), ("b, a", "Asia/Tokyo")):
        etc.put(f"inherit: [{order}]", a="timezone: Asia/Tokyo", b="timezone: UTC")
        assert etc.document().timezone == zone


ERRORS = {
    "identity in defaults": (
        "",
        "uuid: 7a1c0b6e-3a52-4a0e-9c58-0d5c1f0e7b11",
        "{}",
        "defaults.yaml:1:7: uuid: stands in a VM's own file alone: it says which VM is meant",
    ),
    "an instance in a group": ("", "{}", "locale: C\ninstance-id: i", "groups/web.yaml:2:14: instance-id: stands in a VM's own"),
    "a generation in a group": ("", "{}", "generation: 3", "groups/web.yaml:1:13: generation: stands in a VM's own file alone"),
    "a group that inherits": (
        "",
        "{}",
        "inherit: [db]",
        "groups/web.yaml:1:10: inherit: stands in a VM's own file alone: it names all",
    ),
    "a group without defaults": ("", "{}", "defaults: false", "groups/web.yaml:1:11: defaults: stands in a VM's own file alone"),
    "a value of the defaults'": ("", "locale: C\ntimezone: ../x", "{}", "defaults.yaml:2:11: timezone: expected a time zone"),
    "a value that is overridden": ("timezone: UTC", "timezone: ../x", "{}", "defaults.yaml:1:11: timezone: expected a time zone"),
    "a word that is none": ("", "{}", "timezome: UTC", "groups/web.yaml:1:11: timezome: unknown field"),
    "a word that is none, taken away": ("timezome: null", "{}", "{}", "documents/web1.yaml:3:11: timezome: unknown field"),
    "deep in a group": (
        "",
        "{}",
        "network:\n  ethernets:\n    eth0.5:\n      mtu: 9\n",
        "groups/web.yaml:4:12: network.ethernets.eth0.5.mtu: ",
    ),
    "deep in the VM's own file": (
        "network: {ethernets: {eth0: {mtu: 9}}}",
        ETH0,
        "{}",
        "documents/web1.yaml:3:35: network.ethernets.eth0.mtu: ",
    ),
    "a credential's name in a group": ("", "{}", "firstboot.locale: ../x", "groups/web.yaml:1:19: firstboot.locale: expected"),
    "one field by two names in one file": (
        "",
        "{}",
        "locale: C\nfirstboot.locale: C",
        "groups/web.yaml:2:19: firstboot.locale: means the same as 'locale', which is there too",
    ),
    "network version 1 in the defaults": (
        "",
        "network:\n  version: 1\n  config: [{type: what, name: a}]",
        "{}",
        "defaults.yaml:3:19: network.config[0].type: ",
    ),
    "what is missing when all is there": (
        "network: {ethernets: {eth0: {}}}",
        "{}",
        "{}",
        "documents/web1.yaml:3:10: network: Object missing required field `version`",
    ),
    "two files that do not go together": (
        "users: [{name: root}]",
        f"ssh_authorized_keys: [{KEY}]",
        "{}",
        (
            "documents/web1.yaml:3:8: users: 'ssh_authorized_keys' at the top are root's, and 'users' has root too"
            " (see defaults.yaml:1:22)"
        ),
    ),
    "two files below that do not go together": (
        "",
        "users: [{name: root}]",
        f"ssh_authorized_keys: [{KEY}]",
        (
            "groups/web.yaml:1:22: ssh_authorized_keys: 'ssh_authorized_keys' at the top are root's, and 'users' has root too"
            " (see defaults.yaml:1:8)"
        ),
    ),
    "two users of one name in the defaults": (
        "",
        "users: [{name: a}, {name: a}]",
        "{}",
        "defaults.yaml:1:8: users: 'users' names",
    ),
    "half a check": (
        "confirm: {within: 9}",
        "{}",
        "confirm: {check: tcp}",
        "groups/web.yaml:1:10: confirm: 'check' is 'tcp', and nothing says which",
    ),
    "a check of another kind": (
        "confirm: {check: guest}",
        "confirm: {check: tcp, tcp: 'a.b:22'}",
        "{}",
        "documents/web1.yaml:3:10: confirm: 'tcp' is there, and 'check' is 'guest' (see defaults.yaml:1:28)",
    ),
    "a bond's member of nowhere": (
        "",
        "network: {version: 2, bonds: {b0: {interfaces: [eth0]}}}",
        "network: {ethernets: {eth1: {}}}",
        "defaults.yaml:1:10: network: 'b0' has 'eth0' among its 'interfaces', which is defined nowhere",
    ),
    "a credential and a user that say the same": (
        "users: [{name: root, shell: /bin/sh}]",
        "passwd.shell.root: /bin/zsh",
        "{}",
        "defaults.yaml:1:20: passwd.shell.root: means the same as 'users[0].shell', which is there too",
    ),
    "nothing where a value should be": (
        "timezone:",
        "{}",
        "{}",
        "documents/web1.yaml:3:10: timezone: nothing stands here; write",
    ),
    "nothing deep down": ("", "{}", "ntp:\n  servers:\n", "groups/web.yaml:2:11: ntp.servers: nothing stands here"),
    "null in a list": ("users: [{name: a, gecos: null}]", "{}", "{}", "documents/web1.yaml:3:26: users[0].gecos: "),
    "an empty group": ("", "{}", "# later\n", "groups/web.yaml: empty"),
    "a group that is no mapping": ("", "{}", "- a\n", "groups/web.yaml:1:1: expected a mapping"),
    "a group that is no YAML": ("", "{}", "a: ]", "groups/web.yaml:1:4: not YAML"),
    "no such group": ("inherit: [web, db]", "{}", "{}", "groups/db.yaml: there is no such group, and 'inherit' names it"),
    "one string": ("inherit: web", "{}", "{}", "documents/web1.yaml:3:10: inherit: expected a list"),
    "a way out of the directory": (
        "inherit: [../documents/web1]",
        "{}",
        "{}",
        "documents/web1.yaml:3:11: inherit[0]: expected a group's",
    ),
    "a hidden file": ("inherit: [.web]", "{}", "{}", "documents/web1.yaml:3:11: inherit[0]: expected a group's name"),
    "one group twice": (
        "inherit: [web, web]",
        "{}",
        "{}",
        "documents/web1.yaml:3:16: inherit[1]: names 'web' for the second time",
    ),
    "defaults that are no flag": ("defaults: none", "{}", "{}", "documents/web1.yaml:3:11: defaults: expected false"),
}


@pytest.mark.parametrize(("own", "defaults", "group", "said"), ERRORS.values(), ids=ERRORS)
def test_an_error_names_the_file_that_is_at_fault(etc: Etc, own: str, defaults: str, group: str, said: str) -> None:
    etc.put(own if "inherit" in own else f"# line 2\n{own}\ninherit: [web]", defaults=defaults, web=group)
    if "inherit" in own:
        etc.put(f"# line 2\n{own}")
    assert etc.error().startswith(said)


def test_what_is_secret_in_a_group_is_in_no_error(etc: Etc) -> None:
    etc.put("inherit: [web]", web="passwd.hashed-password.root: hunter2")
    assert "hunter2" not in etc.error()


def test_two_files_for_one_group_are_refused(etc: Etc) -> None:
    etc.put("inherit: [web]", web="{}")
    (etc.top / "groups/web.json").write_text("{}")
    assert "has the same name; cure: remove one" in etc.error()


def test_a_group_that_everybody_may_write_to_is_refused(etc: Etc) -> None:
    etc.put("inherit: [web]", web="{}")
    (etc.top / "groups/web.yaml").chmod(0o666)
    assert etc.error().startswith("groups/web.yaml: everybody may write to it")


def test_a_group_may_be_json(etc: Etc) -> None:
    etc.put("inherit: [web]")
    (etc.top / "groups").mkdir()
    (etc.top / "groups/web.json").write_text('{"timezone": "UTC", "locale": null}')
    assert without(etc.document()) == {"timezone": "UTC"}


def valid(made: dict[str, Any], text: str) -> bool:
    """Whether *text* fits the schema."""
    return jsonschema.Draft202012Validator(made).is_valid(parse(text).values)


@pytest.mark.parametrize(("defaults", "a", "b", "own", "comes"), PRECEDENCE.values(), ids=PRECEDENCE)
def test_the_schemas_take_every_layer_that_the_agent_takes(defaults: str, a: str, b: str, own: str, comes: str) -> None:
    assert comes
    assert [valid(schema_of_layer(), text) for text in (defaults, a, b)] == [True] * 3
    assert valid(schema(), f"instance-id: i-1\ninherit: [a, b]\n{own}")


@pytest.mark.parametrize(
    "text", ["instance-id: i", "uuid: x", "inherit: [a]", "generation: 1", "defaults: true", "timezome: null"]
)
def test_the_layers_schema_has_no_word_of_a_vms_own(text: str) -> None:
    assert not valid(schema_of_layer(), text)


def test_the_command_prints_the_layers_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--layer"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema_of_layer()
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed["$id"] != schema()["$id"]
