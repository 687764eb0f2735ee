# SPDX-License-Identifier: Apache-2.0
"""What a schema says a QEMU can do, how far it is told to be, where it is told to go, and which cure goes with its words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from host_agent.errors import HostError
from host_agent.qemu import capabilities
from host_agent.qemu.capabilities import Capabilities
from host_agent.qemu.migration_channel import MigMode
from host_agent.qemu.migration_cures import cure_of, of_words
from host_agent.qemu.migration_outcome import Outcome, Reason, Runs
from host_agent.qemu.migration_route import incoming, outgoing
from host_agent.qemu.migration_status import Memory, Phase, Status, duration, phase_of, size
from tests.host.fake_moving import MODES, SWITCHES, schema

if TYPE_CHECKING:
    from pathlib import Path

NEW, OLD = (capabilities.read(schema(channels=channels)) for channels in (True, False))
UNIX = {"transport": "socket", "type": "unix", "path": "/way"}


def test_a_schema_says_what_there_is() -> None:
    assert Capabilities(
        channels=True, channel_types=frozenset({"main", "cpr"}), transports=frozenset({"socket", "exec", "file"}),
        modes=frozenset(MODES), exit_on_error=True, switches=frozenset(SWITCHES),
        parameters=frozenset({"max-bandwidth", "downtime-limit", "mode"}),
    ) == NEW  # fmt: skip
    assert NEW._replace(
        channels=False, channel_types=frozenset(), transports=frozenset(), modes=frozenset({"normal"}), exit_on_error=False,
        parameters=frozenset({"max-bandwidth", "downtime-limit"}),
    ) == OLD  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        [],
        [{"name": "migrate", "arg-type": "migrate"}],
        [{"name": "migrate", "arg-type": "a"}, {"name": "a", "element-type": "b"}, {"name": "b", "element-type": "a"}],
        [{"name": "migrate-set-parameters", "members": [{"name": "mode", "type": "nowhere"}]}],
    ],
)
def test_an_odd_schema_says_nothing_and_ends(odd: list[dict[str, Any]]) -> None:
    assert capabilities.read(odd) == Capabilities(
        False, frozenset(), frozenset(), frozenset({"normal"}), False, frozenset(), capabilities.read(odd).parameters
    )


@pytest.mark.parametrize("none", [None, {}, [1], [{"name": 1}], [{"name": "x", "members": {}}]])
def test_what_is_no_schema_is_an_error(none: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        capabilities.read(none)


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("", Phase.NONE), ("none", Phase.NONE), ("setup", Phase.UNDER_WAY), ("device", Phase.UNDER_WAY),
        ("cancelling", Phase.UNDER_WAY), ("a-word-of-tomorrow", Phase.UNDER_WAY), ("completed", Phase.COMPLETED),
        ("failed", Phase.FAILED), ("cancelled", Phase.CANCELLED),
    ],
)  # fmt: skip
def test_a_status_is_over_or_under_way(word: str, phase: Phase) -> None:
    assert phase_of(word) is phase


def test_progress_has_a_share_a_speed_and_an_end_in_sight() -> None:
    ram = Memory(total=4 << 30, remaining=1 << 30, page_size=4096, dirty_pages_rate=100, mbps=1000.0, dirty_sync_count=2)
    status = Status("active", ram=ram, expected_downtime=300)
    assert status.text == "active: 75 % of 4.0 GiB memory, 119 MiB/s, about 9 s to go, pass 2, downtime about 300 ms"


def test_progress_says_that_a_guest_writes_faster_than_it_is_sent() -> None:
    ram = Memory(total=4 << 30, remaining=1 << 30, page_size=4096, dirty_pages_rate=100_000, mbps=100.0)
    assert Status("active", ram=ram).text.endswith("12 MiB/s, no end in sight: the guest writes 391 MiB/s")


def test_progress_of_which_nothing_is_known_yet_is_a_word() -> None:
    assert [Status().text, Status("setup").text, Status("\x1bfailed").text] == ["not begun", "setup", "\\x1bfailed"]
    assert Status("active", ram=Memory(total=1024, remaining=4096)).text == "active: 0 % of 1.0 KiB memory, 0 B/s"


def test_a_guests_or_peers_words_do_not_draw_on_a_terminal() -> None:
    assert Status("failed", "bad \x1b[2Jdevice\n").why == "bad \\x1b[2Jdevice\\n"
    assert "\x1b" not in of_words("\x1b[2J").why


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10 << 20, "10 MiB"), (5 << 50, "5120 TiB")]
)
def test_sizes_are_short(amount: float, text: str) -> None:
    assert size(amount) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.1, "1 s"), (119, "119 s"), (120, "2 min"), (7200, "2.0 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_way_is_told_by_channels_or_by_a_uri() -> None:
    way = outgoing("unix:/way", MigMode.NORMAL)
    assert way.arguments(NEW) == {"channels": [{"channel-type": "main", "addr": UNIX}]}
    assert way.arguments(OLD) == {"uri": "unix:/way"}
    assert (str(way), way.answers, way.file) == ("unix:/way", True, None)
    assert outgoing("file:/vm,offset=4k", MigMode.NORMAL).file == "/vm"


def test_a_way_that_a_qemu_does_not_know_is_refused_with_those_that_it_knows() -> None:
    with pytest.raises(HostError, match="rdma:h:1: this QEMU has no rdma, only exec, file, socket"):
        outgoing("rdma:h:1", MigMode.NORMAL).arguments(NEW)
    with pytest.raises(HostError, match="knows file:"):
        outgoing("file:/vm", MigMode.NORMAL).arguments(OLD)


@pytest.mark.parametrize(
    "value",
    [
        [{"channel-type": "main", "addr": UNIX}],
        {"channels": [{"channel-type": "main", "addr": UNIX}]},
        {"uri": "unix:/way"},
    ],
)
def test_a_file_has_channels_or_the_arguments_of_qmps_own_command(value: object, tmp_path: Path) -> None:
    file = tmp_path / "channels.json"
    file.write_text(json.dumps(value))
    assert outgoing(f"@{file}", MigMode.NORMAL).arguments(OLD) == {"uri": "unix:/way"}
    assert incoming(f"@{file}").channels == incoming("unix:/way").channels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "truncated"), ("{", "truncated"), ("7", "expected: object"), ("[]", "need either 'uri' or 'channels'"),
        ('[{"channel-type": "cpr", "addr": {"transport": "file", "filename": "/x", "offset": 0}}]', "no main entry"),
    ],
)  # fmt: skip
def test_a_file_that_says_no_way_is_named_with_what_is_wrong(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "channels.json"
    file.write_text(text)
    with pytest.raises(HostError, match=words) as told:
        outgoing(f"@{file}", MigMode.NORMAL)
    assert str(told.value).startswith(f"{file}: ")


def test_a_file_that_everybody_may_change_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "channels.json"
    file.write_text("[]")
    file.chmod(0o666)
    with pytest.raises(HostError, match="everybody may write to it"):
        incoming(f"@{file}")


@pytest.mark.parametrize(
    ("way", "addresses", "found"),
    [
        ("tcp:h:0", [{"type": "inet", "host": "::", "port": "4711"}], "tcp:h:4711"),
        ("tcp:h:0", [{"type": "inet", "port": 4711}], "tcp:h:0"),
        ("tcp:h:0", [], "tcp:h:0"),
        ("tcp:h:5", [{"type": "inet", "port": "4711"}], "tcp:h:5"),
        ("unix:/way", [{"type": "unix", "path": "/other"}], "unix:/way"),
        ("tcp:[::1]:0", [{"type": "inet", "port": "4711"}], "tcp:[::1]:4711"),
    ],
)
def test_a_port_that_a_listener_chose_is_the_one_to_go_to(way: str, addresses: list[dict[str, object]], found: str) -> None:
    listening = incoming(way).listening_at(addresses)
    assert str(listening) == found
    assert listening.channels == incoming(found).channels


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("Failed to connect to '127.0.0.1:1': Connection refused", "have the destination's QEMU wait"),
        ("Unable to write to file: No space left on device", "make room"),
        ("Sibling indicated error 1", "same machine type"),
        ("Unable to write to socket: Broken pipe", "the other end hung up"),
        ("Parameter 'uri' expects a valid migration protocol", "no such transport"),
        ("'-incoming' was not specified on the command line", "-incoming defer"),
        ("The incoming migration has already been started", "start it anew"),
        ("something that nobody knows", "QEMU's log may say more"),
    ],
)
def test_each_of_qemus_words_has_a_cure(words: str, cure: str) -> None:
    assert cure in cure_of(words)


def test_an_outcome_is_one_sentence() -> None:
    outcome = Outcome(Runs.SOURCE, *of_words("No space left on device"))
    assert outcome.text("web1") == "web1 runs on the source: No space left on device; cure: make room there, and say it again"
    assert Outcome(Runs.DESTINATION, paused=True).text("web1") == "web1 is on the destination, paused"
    assert Outcome(Runs.NOWHERE, paused=True).text("web1") == "web1 runs nowhere"
    assert not Reason()
    assert Reason("a", "b").and_then("c") == Reason("a; c", "b")
    assert Reason().and_then("c", "d") == Reason("c", "d")
