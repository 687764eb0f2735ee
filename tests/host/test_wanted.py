# SPDX-License-Identifier: Apache-2.0
"""What a VM shall become, while nobody asks for it: kept as JSON, and the same document again when somebody does."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from host_agent.documents.document_file import Wanted
from pv_channel.document import Document, from_values
from pv_channel.greeting import NO_UUID
from pv_channel.messages import MAX_DOCUMENT_BYTES
from tests.host.fakes import PLAIN
from tests.host.talk import UUID, wanted
from tests.protocol.documents import documents


def of(document: Document) -> Wanted:
    return Wanted("web1", NO_UUID, document, document.digest())


@settings(max_examples=60)
@given(documents)
def test_a_document_that_rested_is_the_same(values: dict[str, Any]) -> None:
    document = from_values(values)
    rested, other = of(document), of(document)
    rested.rest()
    assert rested == other
    assert rested.document == document
    assert rested.document.digest() == document.digest()
    assert rested.document.encode() == document.encode()
    assert rested.document.confirm == document.confirm


def test_one_that_layers_have_made_longer_than_any_file_may_be_is_the_same_too() -> None:
    files = [{"path": f"/f{number}", "content": "\x01" * (MAX_DOCUMENT_BYTES // 8)} for number in range(4)]
    document = from_values(PLAIN | {"write_files": files})
    rested = of(document)
    rested.rest()
    assert rested.document == document


def test_two_are_equal_exactly_where_nothing_of_them_differs() -> None:
    assert wanted() == wanted()
    assert wanted() != wanted(name="web2")
    assert wanted() != wanted(uuid=NO_UUID)
    assert wanted() != wanted(PLAIN | {"generation": 3})
    assert wanted() != wanted(PLAIN | {"confirm": {"check": "none"}})
    assert len({wanted(), wanted(), wanted(name="web2")}) == 2


def test_it_is_known_by_its_uuid_or_else_by_its_name_and_shows_nothing_of_the_document() -> None:
    assert (wanted(uuid=NO_UUID).key, wanted(uuid=UUID).key) == ("web1", "00010203-0405-0607-0809-0a0b0c0d0e0f")
    assert (wanted().generation, wanted(PLAIN | {"generation": 3}).generation) == (None, 3)
    secret = wanted(PLAIN | {"user-data": "#!/bin/sh\n# secret\n"})
    secret.rest()
    assert "secret" not in repr(secret)
