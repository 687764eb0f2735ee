# SPDX-License-Identifier: Apache-2.0
"""dm-argv: any byte but NUL arrives, what does not fit is refused before anything is written, and the nodes are libxl's."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.__main__ import main
from host_agent.errors import HostError
from host_agent.stubdom import argv
from host_agent.stubdom.argv import MAX_ARGUMENTS, BadArgument, shell_word
from host_agent.stubdom.argv_nodes import Publication, publish, published
from host_agent.stubdom.pair import Meant
from tests.host.fake_xenstored import SET_PERMS, START, WRITE
from tests.host.stubdom_dom0 import HOME, ITS_OWN, STUBDOMAIN, TARGET, UUID, Stubdomains

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

DIRECTORY = f"/vm/{UUID}/image/dm-argv"
HOSTILE = [
    b"-name", b"tab\there", b"new\nline", b"\"quotes\" 'and' `these`", b"$HOME $(id) \\",
    "\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), b"\xff\xfe\x80", b"", b"\x01\x7f", b"--", b" ", b"%s%n", b"*",
]  # fmt: skip
BOTH = Meant(None, "web1-dm", "web1")


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Stubdomains]:
    with Stubdomains(tmp_path) as one:
        yield one


def put(dom0: Stubdomains, arguments: Sequence[bytes], **more: Any) -> str:
    async def story(store: Client, pair: Pair) -> str:
        return await publish(store, pair, Publication(arguments, **more))

    directory: str = dom0.tell(story, BOTH)
    return directory


def got(dom0: Stubdomains) -> list[bytes]:
    arguments: list[bytes] = dom0.tell(published)
    return arguments


def nodes(dom0: Stubdomains, below: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {path: node for path, node in dom0.xen.snapshot().items() if path == below or path.startswith(f"{below}/")}


def test_every_byte_but_nul_arrives(dom0: Stubdomains) -> None:
    assert put(dom0, HOSTILE) == DIRECTORY
    assert got(dom0) == HOSTILE


def test_the_nodes_are_libxls(dom0: Stubdomains) -> None:
    put(dom0, [b"-machine", b"xenfv"], bios="ovmf")
    theirs = ("n0", f"r{STUBDOMAIN}")
    assert nodes(dom0, DIRECTORY) == {
        DIRECTORY: ("", theirs), f"{DIRECTORY}/001": ("-machine", theirs), f"{DIRECTORY}/002": ("xenfv", theirs),
    }  # fmt: skip
    assert nodes(dom0, HOME) == {HOME: ("", (f"n{STUBDOMAIN}", f"r{TARGET}"))}
    values = {path: value for path, (value, _) in dom0.xen.snapshot().items()}
    assert values[f"/local/domain/{STUBDOMAIN}/target"] == str(TARGET)
    assert values[f"/local/domain/{TARGET}/image/device-model-domid"] == str(STUBDOMAIN)
    assert values[f"/local/domain/{TARGET}/hvmloader/bios"] == "ovmf"
    assert values[f"/libxl/{TARGET}/dm-version"] == "qemu_xen"
    assert dom0.xen.targets == {STUBDOMAIN: TARGET}
    assert dom0.xen.requests[START] == 1


def test_what_is_published_anew_replaces_all_that_was(dom0: Stubdomains) -> None:
    put(dom0, [b"-S"] * 9)
    put(dom0, [b"-m", b"16"])
    assert got(dom0) == [b"-m", b"16"]


def test_a_directory_that_changed_hands_meanwhile_is_written_anew(dom0: Stubdomains) -> None:
    meddled: list[str] = []

    def meddle(operation: int, path: str) -> None:
        if operation == SET_PERMS and path == DIRECTORY and len(meddled) < 3:
            meddled.append(path)
            dom0.xen.write("/local/domain/0/somebody", len(meddled))

    dom0.xen.before = meddle
    put(dom0, [b"-S"])
    assert (len(meddled), got(dom0)) == (3, [b"-S"])


@pytest.mark.parametrize(
    ("arguments", "number", "words"),
    [
        ([b"-name", b"a\0b"], 2, "it has a NUL"),
        ([b"x" * 4043], 1, "it has 4043 bytes, and a message of xenstore's has room for 4037"),
        ([b"-S"] * 1000, 1000, "there are 1000, and dm-argv has room for 999"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_number_with_a_cure_and_nothing_is_asked_of_xenstore(
    dom0: Stubdomains, arguments: list[bytes], number: int, words: str
) -> None:
    before = dom0.xen.snapshot()
    with pytest.raises(BadArgument) as told:
        put(dom0, arguments)
    assert told.value.number == number
    assert str(told.value).startswith(f"QEMU's argument {number}: ")
    for word in (words, "; cure: ", "nothing was written"):
        assert word in str(told.value)
    assert dom0.xen.snapshot() == before
    assert dom0.xen.requests[WRITE] == 0


def test_the_longest_argument_and_the_most_of_them_arrive(dom0: Stubdomains) -> None:
    room = 4096 - len(argv.node(DIRECTORY, 1)) - 1
    put(dom0, [b"x" * room])
    assert got(dom0) == [b"x" * room]
    many = [b"%d" % number for number in range(MAX_ARGUMENTS)]
    put(dom0, many)
    assert got(dom0) == many


def test_an_argument_that_xenstored_does_not_take_is_named_and_nothing_is_left(dom0: Stubdomains) -> None:
    before = dom0.xen.snapshot()
    dom0.xen.refusing[f"{DIRECTORY}/003"] = "ENOSPC"
    with pytest.raises(BadArgument, match=r"argument 3: xenstored does not take it \(ENOSPC\).*cure: fewer or shorter"):
        put(dom0, [b"-S"] * 5)
    assert dom0.xen.snapshot() == before


@pytest.mark.parametrize(("word", "said"), [("EQUOTA", "a limit of its own"), ("EACCES", "only dom0's root may")])
def test_a_node_that_xenstored_does_not_take_is_named_and_nothing_is_left(dom0: Stubdomains, word: str, said: str) -> None:
    before = dom0.xen.snapshot()
    dom0.xen.refusing[f"/local/domain/{STUBDOMAIN}/target"] = word
    with pytest.raises(HostError, match=f"target: {word}.*{said}.*nothing was written"):
        put(dom0, [b"-S"])
    assert dom0.xen.snapshot() == before


def test_a_qemu_that_is_up_keeps_its_arguments_unless_it_starts_anew(dom0: Stubdomains) -> None:
    put(dom0, [b"-S"])
    dom0.up()
    with pytest.raises(HostError, match=r"web1-dm \(9\) says that domain web1 \(7\)'s QEMU is running already.*--again"):
        put(dom0, [b"-m", b"16"])
    assert got(dom0) == [b"-S"]
    put(dom0, [b"-m", b"16"], again=True)
    assert got(dom0) == [b"-m", b"16"]
    assert nodes(dom0, HOME) == {HOME: ("", (f"n{STUBDOMAIN}", f"r{TARGET}"))}


def test_xenstored_that_knows_no_such_domains_is_said(dom0: Stubdomains) -> None:
    dom0.xen.before = lambda operation, path: dom0.xen.release(STUBDOMAIN) if operation == 19 else None
    words = r"does not let domain web1-dm \(9\) act for domain web1 \(7\) \(ENOENT\): both have to run"
    with pytest.raises(HostError, match=words):
        put(dom0, [b"-S"])


@pytest.mark.parametrize(
    ("damage", "words"),
    [("/004", "argument 003 is missing"), ("/x", "x is no argument's number"), ("/0003", "0003 is no argument's number")],
)
def test_a_list_that_is_none_is_refused(dom0: Stubdomains, damage: str, words: str) -> None:
    put(dom0, [b"-S", b"-S"])
    dom0.xen.write(DIRECTORY + damage, "")
    with pytest.raises(HostError, match=words):
        got(dom0)


def test_nothing_published_is_said_with_the_cure(dom0: Stubdomains) -> None:
    dom0.published()
    with pytest.raises(HostError, match=r"nothing is published for domain web1 \(7\); 'pv-host-agent dm argv' does it"):
        got(dom0)


# -- which VM is meant


@pytest.mark.parametrize(
    "meant",
    [Meant("web1"), Meant(UUID.upper()), Meant("7"), Meant(None, "web1-dm"), Meant(None, "9"), Meant(None, ITS_OWN, "7"),
     Meant(None, None, "web1")],
)  # fmt: skip
def test_a_vm_is_meant_by_itself_or_by_its_stubdomain(dom0: Stubdomains, meant: Meant) -> None:
    dom0.published()

    async def story(_: Client, pair: Pair) -> tuple[int, int]:
        return pair.stubdomain.domid, pair.target.domid

    assert dom0.tell(story, meant) == (STUBDOMAIN, TARGET)


@pytest.mark.parametrize(
    ("meant", "words"),
    [
        (Meant("web1"), r"no running domain is domain web1 \(7\)'s stubdomain.*--stubdom says"),
        (Meant(None, "web1-dm"), r"web1-dm \(9\) is no running domain's device model yet; cure: --target"),
        (Meant(None, "7", "7"), "cannot be its own stubdomain"),
        (Meant(), "nothing says which VM is meant"),
        (Meant("db9"), "no running domain has the name or uuid db9"),
    ],
)
def test_what_is_not_known_is_said_with_the_cure(dom0: Stubdomains, meant: Meant, words: str) -> None:
    async def story(_: Client, __: Pair) -> None:
        return None

    with pytest.raises(HostError, match=words):
        dom0.tell(story, meant)


# -- the verb


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["dm", *arguments]) == status
    return capsys.readouterr().out


def test_the_verb_publishes_and_shows_bytes_as_they_are(dom0: Stubdomains, capsys: pytest.CaptureFixture[str]) -> None:
    words = [os.fsdecode(each) for each in HOSTILE]
    out = said(capsys, "argv", "--stubdom", "9", "--target", "7", "--anyway", "--json", "--", *words)
    assert json.loads(out)["directory"] == DIRECTORY
    assert got(dom0) == HOSTILE
    shown = json.loads(said(capsys, "argv", "web1", "--show", "--json"))["arguments"]
    assert [each["number"] for each in shown] == list(range(1, len(HOSTILE) + 1))
    assert (shown[5]["text"], shown[6]["text"]) == ("\N{LATIN SMALL LETTER E WITH ACUTE}", None)
    lines = said(capsys, "argv", "web1", "--show").splitlines()
    again = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(lines)}"], check=True, capture_output=True).stdout
    assert again.split(b"\0")[:-1] == HOSTILE


def test_the_verb_is_told_the_vm_and_its_stubdomain_to_be(dom0: Stubdomains, capsys: pytest.CaptureFixture[str]) -> None:
    assert "published 2 arguments" in said(capsys, "argv", "web1", "--stubdom", "web1-dm", "--", "-m", "16")
    assert got(dom0) == [b"-m", b"16"]


def test_the_verb_refuses_what_cannot_work_there_and_publishes_nothing(
    dom0: Stubdomains, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dom0.xen.snapshot()
    assert main(["dm", "argv", "--stubdom", "9", "--target", "7", "--", "-daemonize", "-m", "16"]) == 1
    told = capsys.readouterr().err
    assert "argument 1: -daemonize" in told
    assert "--anyway" in told
    assert dom0.xen.snapshot() == before


def test_the_lint_reads_what_is_published_or_what_is_said(dom0: Stubdomains, capsys: pytest.CaptureFixture[str]) -> None:
    put(dom0, [b"-xen-domid", b"8"])
    (finding,) = json.loads(said(capsys, "lint", "web1", "--json", status=1))
    assert (finding["word"], finding["number"]) == ("domid", 2)
    assert said(capsys, "lint", "--target", "8", "--", "-xen-domid", "8") == "2 arguments, 0 findings\n"


@pytest.mark.parametrize(
    "arguments",
    [["argv", "web1"], ["argv", "--", "-S"], ["argv", "web1", "--target", "7", "--", "-S"],
     ["argv", "web1", "more", "--", "-S"], ["argv", "web1", "--show", "--", "-S"],
     ["lint"]],
)  # fmt: skip
@pytest.mark.usefixtures("dom0")
def test_a_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dm", *arguments])
    assert ended.value.code == 2


@given(st.binary(max_size=30).filter(lambda data: b"\0" not in data))
def test_a_shell_reads_an_argument_as_it_is_shown(argument: bytes) -> None:
    word = shell_word(argument)
    assert word.isprintable()
    if not word.startswith("$"):
        assert [os.fsencode(each) for each in shlex.split(word)] == [argument]
