# SPDX-License-Identifier: Apache-2.0
"""The document's JSON Schema refuses nothing that the agent takes, and of what it refuses all that a schema can say."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_agent.__main__ import main
from host_agent.documents import schema as schema_module
from host_agent.documents.schema import schema
from host_agent.documents.yaml_values import parse
from host_agent.errors import BadFile
from tests.host.damage import damaged
from tests.host.etc import parse_text
from tests.host.networks import OPENSTACK, VERSION1, networks
from tests.protocol.blocks import Case, read

if TYPE_CHECKING:
    from pv_channel.values import Value

TOP = Path(__file__).parents[2]
FILE = Path("web1.yaml")
GOOD = read("documents-good")
BAD = [case for case in read("documents-bad") if "json" in case]
#: What msgspec says of a wrong type, range or field: a schema can say it too.
SAYABLE = re.compile(r"Expected `|unknown field|missing required|Invalid enum|got int$")
#: What defaults or a group may say is not missing in a VM's own file, and null takes away.
MENDABLE = re.compile("network without a version|a VLAN without .*|generation null")
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@cache
def validator() -> jsonschema.Draft202012Validator:
    """Of the printed schema, formats checked too."""
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@cache
def definitions() -> dict[str, Any]:
    """The schemas of the parts."""
    found: dict[str, Any] = schema()["$defs"]
    return found


def errors(values: object) -> list[str]:
    """What the schema finds wrong."""
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(values)]


def agent_takes(values: object) -> bool:
    """Whether the agent takes these values in a file."""
    try:
        parse_text(json.dumps(values), FILE)
    except BadFile:
        return False
    return True


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema()
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert printed["$id"].startswith("urn:pv-channel-agents:document:")


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_every_good_document_validates(case: Case) -> None:
    assert errors(json.loads(case["json"])) == []


def test_the_readmes_documents_validate() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (TOP / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    documents = [parse(block).values for block in blocks if "instance-id:" in block]
    assert documents
    assert [errors(document) for document in documents] == [[] for _ in documents]


@pytest.mark.parametrize("case", BAD, ids=str)
def test_every_bad_document_whose_fault_a_schema_can_say_does_not_validate(case: Case) -> None:
    try:
        values = json.loads(case["json"])
    except (ValueError, RecursionError):
        return
    if SAYABLE.search(case["problem"]) and not MENDABLE.fullmatch(case["case"]):
        assert errors(values) != []


def test_a_schema_finds_half_of_what_is_wrong_before_the_agent_reads_it() -> None:
    found = [bool(errors(json.loads(case["json"]))) for case in BAD if case["problem"] != "not JSON"]
    assert sum(found) > len(found) / 2  # the rest is how one part of a document goes with another


@pytest.mark.parametrize("text", [text for text, _ in VERSION1.values()], ids=VERSION1)
def test_networks_of_version_1_validate(text: str) -> None:
    assert errors(parse("instance-id: i\n" + text).values) == []


@pytest.mark.parametrize("values", [values for values, _ in OPENSTACK.values()], ids=OPENSTACK)
def test_networks_of_openstack_validate(values: dict[str, Any]) -> None:
    assert errors({"instance-id": "i", "network-data": values}) == []


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("system.hostname: web1", True),
        ("firstboot.timezone: Europe/Vienna\nfirstboot.locale: C.UTF-8\npasswd.shell.root: /bin/sh", True),
        ("ssh.authorized_keys.root: |\n  # none\n", True),
        ("ssh.authorized_keys.root: []", True),
        ("passwd.plaintext-password.root: x", False),
        ("passwd.hashed-password.root: hunter2", False),
        ("system.hostname: -web1", False),
        ("network: {version: 3}", False),
        ("network: {version: true, config: []}", False),
        ("network-data: []", False),
    ],
)
def test_other_words_validate_as_the_agent_takes_them(text: str, *, good: bool) -> None:
    values = parse(f"instance-id: i-1\n{text}\n").values
    assert (errors(values) == [], agent_takes(values)) == (good, good)


@given(networks())
@SLOW
def test_every_network_that_the_agent_takes_validates(network: dict[str, Any]) -> None:
    values = {"instance-id": "i", "network": network}
    assert agent_takes(values)
    assert errors(values) == []


DOCUMENTS = [json.loads(case["json"]) for case in GOOD]


@given(damaged(DOCUMENTS))
@settings(SLOW, max_examples=300)
def test_what_the_agent_takes_the_schema_takes(values: Any) -> None:
    if agent_takes(values):
        assert errors(values) == []


KINDS = sorted(schema_module._SAID, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_value_has_a_description_and_an_example_that_is_one(kind: type[Value]) -> None:
    made = definitions()[kind.__name__]
    assert len(made["description"].split()) > 3
    secret_or_long = kind.__name__ in ("PemCertificate", "SshPrivateKey", "SshCertificate")
    assert ("examples" in made) is not secret_or_long
    for example in made.get("examples", []):
        assert kind(example)
        assert jsonschema.Draft202012Validator(made).is_valid(example)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if schema_module._pattern(kind)], ids=lambda k: k.__name__)
@given(data=st.data())
@SLOW
def test_what_a_value_takes_its_schema_takes(kind: type[Value], data: st.DataObject) -> None:
    text = data.draw(st.from_regex(re.compile(schema_module._pattern(kind) or "", re.ASCII), fullmatch=True))
    text = data.draw(st.sampled_from([text, text.upper(), text.lower(), f" {text}\n"]))
    try:
        kind(text)
    except ValueError:
        return
    made = definitions()[kind.__name__]
    assert jsonschema.Draft202012Validator(made).is_valid(text)


def test_the_manual_names_every_field_that_the_schema_knows() -> None:
    manual = (TOP / "docs/man/man5/pv-channel-document.5").read_text(encoding="utf-8")
    named = set(re.findall(r"[a-z0-9][a-z0-9._-]*", " ".join(re.findall(r"^\.(?:It |Pq )?Ic (.*)$", manual, re.MULTILINE))))
    structs = [schema(), *schema()["$defs"].values()]
    fields = {field for made in structs for field in made.get("properties", {})}
    assert fields <= named, sorted(fields - named)
