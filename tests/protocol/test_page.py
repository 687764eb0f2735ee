# SPDX-License-Identifier: Apache-2.0
"""PROTOCOL.md says what the code does: the state table, the limits, the messages, the reasons and the transcript are compared."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pv_channel import accounts, confirm, document, host_trust, interfaces, machine, messages, network, routes
from pv_channel.greeting import GuestGreeting, HostGreeting, Refusal
from pv_channel.line import MAX_LINE_BYTES, parse
from pv_channel.messages import Hello, Outcome
from pv_channel.noise import PROTOCOL_NAME
from pv_channel.states import TABLE, Input, Role, State
from tests.protocol.blocks import read
from tests.protocol.ends import DOCUMENT

TOP = Path(__file__).parents[2]
PAGE = (TOP / "PROTOCOL.md").read_text("utf-8")


def rows(first: str) -> list[list[str]]:
    """The cells of every table whose first heading is *first*, without the headings."""
    found = []
    for table in re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        found += [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    return found


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_state_table_is_the_code_s() -> None:
    written = {(Role(role), State(state), Input(happened)): State(after) for role, state, happened, after in rows("role")}
    assert len(rows("role")) == len(written)
    assert written == dict(TABLE)


@pytest.mark.parametrize(("name", "value"), [(row[0], row[1]) for row in rows("limit")])
def test_each_limit_is_the_code_s(name: str, value: str) -> None:
    module, *attributes = name.strip("`").split(".")
    found: Any = importlib.import_module(f"pv_channel.{module}")
    for attribute in attributes:
        found = getattr(found, attribute)
    assert found == int(value)


def test_no_limit_of_the_core_is_missing_from_the_page() -> None:
    constant = re.compile(r"^(M(?:AX|IN)_[A-Z0-9_]+|[A-Z][A-Z_]+_(?:BYTES|SECONDS))\b.*=", re.MULTILINE)
    defined = [
        (path.stem, name) for path in (TOP / "pv_channel").glob("*.py") for name in constant.findall(path.read_text("utf-8"))
    ]
    assert len(defined) > 20
    assert [
        f"{module}.{name}" for module, name in defined if name not in NOT_ON_THE_WIRE and f"`{module}.{name}`" not in PAGE
    ] == []


#: Limits of a value's own spelling, or of Noise itself.
NOT_ON_THE_WIRE = {"MAX_NONCE", "TAG_BYTES", "MAX_HOSTNAME_BYTES", "MAX_FQDN_BYTES"}

STRUCTS: dict[str, type[msgspec.Struct]] = {
    "`ping`": messages.Ping,
    "`pong`": messages.Pong,
    "facts": messages.Facts,
    "`provision`": messages.Provision,
    "`progress`": messages.Progress,
    "`result`": messages.Result,
    "item": messages.ItemResult,
    "`plan`": messages.Plan,
    "`planned`": messages.Planned,
    "planned item": messages.PlannedItem,
    "`unconfirmed`": messages.Unconfirmed,
    "check": messages.Check,
    "`confirm`": messages.Confirm,
    "`reject`": messages.Reject,
    "`report`": messages.Report,
    "`hello`": Hello,
}


@pytest.mark.parametrize("name", STRUCTS)
def test_the_fields_of_each_message_are_the_code_s(name: str) -> None:
    struct: type[msgspec.Struct] = STRUCTS[name]
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    written = {row[1].strip("`"): row[2] for row in rows("message") if row[0] == name}
    tagged = {"type"} if struct.__struct_config__.tag_field else set()
    assert set(written) == set(fields) | tagged
    assert {field for field, value in written.items() if value.startswith("opt,")} == {
        name for name, field in fields.items() if not field.required
    }
    if tagged:
        assert written["type"] == f'`"{struct.__struct_config__.tag}"`'


def test_every_message_and_outcome_is_on_the_page() -> None:
    said = {struct for union in (messages.HostMessage, messages.GuestMessage) for struct in union.__args__}
    assert said <= set(STRUCTS.values())
    assert all(f"`{outcome.value}`" in section("Messages") for outcome in Outcome)


def test_the_refusals_are_the_code_s() -> None:
    assert {row[1]: int(row[0]) for row in rows("number")} == {refusal.name: refusal.value for refusal in Refusal}


PARTS: dict[str, type[msgspec.Struct]] = {
    "the document": document.Document,
    "`host_trust`": host_trust.HostTrust,
    "a user": accounts.User,
    "`ntp`": machine.Ntp,
    "`ssh_keys`": machine.SshKeys,
    "`ca_certs`": machine.CaCerts,
    "a file": machine.FileToWrite,
    "`confirm`": confirm.Confirm,
    "`network`": network.NetworkConfig,
    "every interface": interfaces.Interface,
    "an ethernet": interfaces.Ethernet,
    "`match`": interfaces.Match,
    "a bond": interfaces.Bond,
    "a bond's parameters": interfaces.BondParameters,
    "a bridge": interfaces.Bridge,
    "a bridge's parameters": interfaces.BridgeParameters,
    "a VLAN": interfaces.Vlan,
    "`nameservers`": interfaces.Nameservers,
    "DHCP's overrides": interfaces.DhcpOverrides,
    "a route": routes.Route,
    "a routing policy": routes.RoutingPolicy,
}


@pytest.mark.parametrize("part", PARTS)
def test_the_fields_of_each_part_of_a_document_are_the_code_s(part: str) -> None:
    struct = PARTS[part]
    inherited = {field.name for field in msgspec.structs.fields(interfaces.Interface)}
    own = inherited if struct is not interfaces.Interface and issubclass(struct, interfaces.Interface) else set()
    fields = {field.encode_name: field.required for field in msgspec.structs.fields(struct) if field.name not in own}
    written = {row[0].strip("`"): row[1].startswith("needed") for row in rows(f"field of {part}")}
    assert written == fields
    assert len(written) == len(rows(f"field of {part}"))


def test_every_part_on_the_page_is_a_part() -> None:
    assert set(re.findall(r"^\| field of (.*?) \|", PAGE, re.MULTILINE)) == set(PARTS)


def words_of(kind: Any) -> set[str]:
    """Every word that a field's type may be, wherever in it."""
    inside = [word for part in getattr(kind, "__args__", ()) for word in words_of(part)]
    return set(inside) if not isinstance(kind, str) else {kind}


@pytest.mark.parametrize("part", PARTS)
def test_the_words_that_a_field_may_be_are_on_the_page(part: str) -> None:
    written = {row[0].strip("`"): row[1] + row[2] for row in rows(f"field of {part}")}
    for field in msgspec.structs.fields(PARTS[part]):
        words = words_of(field.type) - set(document.ITEMS)
        if field.encode_name in written:
            assert [word for word in words if f"`{word}`" not in written[field.encode_name]] == []


def test_the_items_are_on_the_page_in_their_order() -> None:
    (listed,) = re.findall(r"in the order in which they are applied: (.*)\.$", section("Messages"), re.MULTILINE)
    assert listed.split(", ") == [f"`{item}`" for item in document.ITEMS]


def reasons_of_the_guest() -> set[str]:
    """Every word that the guest's code gives as a reason, as it stands in the source."""
    words: set[str] = set()
    for path in (TOP / "guest_agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"ItemError": 0, "refused": 1}.get(node.func.id)
                given = [node.args[place]] if place is not None and len(node.args) > place else []
                given += [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
                words |= {value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)}
    failure = importlib.import_module("guest_agent.failure")
    return words | set(vars(failure)["_REASONS"].values()) | {"io-error"}


def test_the_reasons_are_those_that_the_guest_gives() -> None:
    assert {row[0].strip("`") for row in rows("reason")} == reasons_of_the_guest()


def test_the_transcript_is_the_vector() -> None:
    (fenced,) = re.findall(r"```\n(.*?)```", section("A session, byte for byte"), re.DOTALL)
    lines = [line for line in fenced.splitlines() if not line.startswith("#")]
    _, *said = read("transcript")
    assert lines == [case["line"] for case in said]
    assert DOCUMENT.decode() in section("A session, byte for byte")


def test_the_transcript_s_greetings_are_laid_out_as_the_tables_say() -> None:
    _, greeting, answer, *_ = read("transcript")
    ours = HostGreeting.decode(parse(greeting["line"].encode()).payload)
    assert len(ours.encode()) == 1 + 16 + 1 + len(ours.channel) + 32 + 32
    theirs = GuestGreeting.decode(parse(answer["line"].encode()).payload)
    assert len(theirs.body) == 96 + len(messages.encode(Hello("0.1.0")))


def test_every_echo_and_example_line_of_the_page_starts_as_the_transcript_does() -> None:
    _, greeting, *_ = read("transcript")
    (example,) = re.findall(r"`(> AAAA.*?)`", section("When something is wrong"))
    start, end = example.split("…")
    assert greeting["line"].startswith(start)
    assert greeting["line"].endswith(end)


def test_the_grammar_s_longest_certificate_fits_the_greeting() -> None:
    fixed, signature = 32 + 8 + 1, 64
    assert f"0 or {fixed + 1 + signature} to {fixed + 64 + signature}" in PAGE
    assert "1,900" in section("Lines")
    assert MAX_LINE_BYTES == 1900


def test_the_page_names_the_handshake() -> None:
    assert f"`{PROTOCOL_NAME.decode()}`" in section("Handshake")


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`((?:tests|pv_channel)/[\w/.-]+)`", PAGE):
        assert (TOP / name).exists(), name
    for name in re.findall(r"`(?:vectors/)?([a-z-]+\.txt)`", PAGE):
        assert (TOP / "tests/protocol/vectors" / name).exists(), name
