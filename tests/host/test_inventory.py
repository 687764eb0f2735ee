# SPDX-License-Identifier: Apache-2.0
"""The inventory over defaults and groups: who is read anew, what stays in force, and what is said how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from host_agent.documents.inventory import Changes, Inventory
from host_agent.errors import BadFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from host_agent.documents.directory import Found
    from host_agent.documents.document_file import Wanted

WEB1 = "instance-id: i-web1\ninherit: [web]\n"
DB1 = "instance-id: i-db1\n"


class Etc:
    """A directory like /etc/pv-host-agent, two clocks, and what is in force."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.now = 0.0
        self.slow = 0.0
        self._clock = 0.0
        self.in_force: dict[str, str] = {}
        (top / "documents").mkdir()
        (top / "groups").mkdir()
        self.inventory = Inventory(top / "documents", lambda: self.now, self._tick)

    def _tick(self) -> float:
        self._clock += self.slow
        return self._clock

    def put(self, name: str, text: str) -> Path:
        """One file, all at once; nobody has looked since."""
        path = self.top / name
        path.write_text(text)
        self.now = path.stat().st_ctime
        return path

    def settle(self) -> None:
        """Nothing happens for a while."""
        self.now += 5

    def look(self) -> Changes:
        """One look; what it says goes into *in_force* as time zones."""
        changes = self.inventory.look()
        for wanted in changes.wanted:
            self.in_force[wanted.name] = str(wanted.document.timezone)
        return changes

    def looked(self) -> Changes:
        """The changes once all has settled."""
        self.settle()
        return self.look()


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    made = Etc(tmp_path)
    made.put("defaults.yaml", "timezone: UTC\n")
    made.put("groups/web.yaml", "timezone: Asia/Tokyo\n")
    made.put("documents/web1.yaml", WEB1)
    made.put("documents/db1.yaml", DB1)
    made.looked()
    assert made.in_force == {"web1": "Asia/Tokyo", "db1": "UTC"}
    return made


def names(changes: Changes) -> set[str]:
    """Whose documents came."""
    assert changes.errors == []
    return {wanted.name for wanted in changes.wanted}


def told(changes: Changes) -> list[str]:
    """Who has errors, when nothing else has changed."""
    assert changes.wanted == []
    assert changes.removed == []
    return [name for name, _ in changes.errors]


def test_only_those_over_a_changed_layer_get_another_document(etc: Etc) -> None:
    assert names(etc.looked()) == set()
    etc.put("groups/web.yaml", "timezone: Europe/Rome\n")
    assert names(etc.looked()) == {"web1"}
    etc.put("defaults.yaml", "timezone: Europe/Paris\n")
    assert names(etc.looked()) == {"db1"}
    assert etc.in_force == {"web1": "Europe/Rome", "db1": "Europe/Paris"}


def test_a_layer_that_says_the_same_in_other_words_changes_nothing(etc: Etc) -> None:
    etc.put("defaults.yaml", "# the fleet's\ntimezone: 'UTC'\n")
    assert names(etc.looked()) == set()


def test_a_vm_without_defaults_does_not_follow_them(etc: Etc) -> None:
    etc.put("documents/db1.yaml", DB1 + "defaults: false\ntimezone: Europe/Rome\n")
    assert names(etc.looked()) == {"db1"}
    etc.put("defaults.yaml", "timezone: ../x\n")
    assert told(etc.looked()) == ["web1"]


def test_defaults_that_come_and_go_are_followed(etc: Etc) -> None:
    (etc.top / "defaults.yaml").unlink()
    assert names(etc.look()) == set()
    assert names(etc.look()) == {"db1"}
    assert etc.in_force["db1"] == "UNSET"
    etc.put("defaults.json", '{"timezone": "UTC"}')
    assert names(etc.looked()) == {"db1"}


def test_an_editor_that_moves_the_old_file_away_first_takes_nothing_away(etc: Etc) -> None:
    (etc.top / "defaults.yaml").rename(etc.top / "defaults.yaml~")
    assert names(etc.look()) == set()
    etc.put("defaults.yaml", "timezone: UTC\n")
    assert names(etc.look()) == set()
    assert names(etc.looked()) == set()


def test_a_bad_layer_leaves_the_good_one_in_force_and_is_said_once(etc: Etc) -> None:
    for number in range(2, 8):
        etc.put(f"documents/web{number}.yaml", WEB1.replace("web1", f"web{number}"))
    etc.looked()
    etc.put("groups/web.yaml", "timezone: ../x\n")
    changes = etc.looked()
    assert sorted(told(changes)) == [f"web{number}" for number in range(1, 8)]
    assert {text for _, text in changes.errors} == {changes.errors[0][1]}
    assert changes.errors[0][1].startswith(f"{etc.top}/groups/web.yaml:1:11: timezone: ")
    (complaint,) = changes.complaints
    assert complaint.startswith(changes.errors[0][1])
    assert complaint.endswith(" and 6 more VMs; what was in force stays)")
    assert (told(etc.looked()), etc.look().complaints) == ([], [])
    assert set(etc.in_force.values()) == {"Asia/Tokyo", "UTC"}


def test_a_fault_of_ones_own_is_not_said_again_when_a_layer_changes(etc: Etc) -> None:
    etc.put("documents/db1.yaml", DB1 + "locale: ../x\n")
    assert told(etc.looked()) == ["db1"]
    etc.put("defaults.yaml", "timezone: Europe/Rome\n")
    assert names(etc.looked()) == set()


def test_a_layer_that_is_good_again_is_told_to_those_who_heard_of_its_fault(etc: Etc) -> None:
    etc.put("defaults.yaml", "timezone: [")
    assert sorted(told(etc.looked())) == ["db1", "web1"]
    etc.put("defaults.yaml", "timezone: UTC\n")
    assert names(etc.looked()) == {"db1", "web1"}


def test_a_group_in_use_that_goes_is_an_error_and_coming_back_mends_it(etc: Etc) -> None:
    (etc.top / "groups/web.yaml").unlink()
    etc.look()
    changes = etc.look()
    assert told(changes) == ["web1"]
    assert "groups/web.yaml: there is no such group" in changes.errors[0][1]
    assert told(etc.looked()) == []
    etc.put("groups/web.yaml", "timezone: Europe/Rome\n")
    assert names(etc.looked()) == {"web1"}


def test_all_groups_going_at_once_takes_nothing_out_of_force(etc: Etc) -> None:
    (etc.top / "groups").rename(etc.top / "groups.old")
    etc.look()
    assert told(etc.look()) == ["web1"]
    (etc.top / "groups.old").rename(etc.top / "groups")
    assert names(etc.looked()) == {"web1"}
    assert etc.in_force["web1"] == "Asia/Tokyo"


def test_a_group_that_is_being_written_is_waited_for_and_not_missing(etc: Etc) -> None:
    etc.put("documents/web2.yaml", WEB1.replace("web", "app", 1).replace("[web]", "[app]"))
    assert names(etc.look()) == set()
    etc.put("groups/app.yaml", "timezone: UTC\n")
    assert names(etc.look()) == set()
    assert names(etc.looked()) == {"web2"}


def test_a_document_over_a_layer_that_is_being_written_is_read_over_the_good_one(etc: Etc) -> None:
    etc.put("groups/web.yaml", "timezone: Europe/")
    assert names(etc.look()) == set()
    assert etc.in_force["web1"] == "Asia/Tokyo"


def test_a_layer_in_a_directory_that_everybody_may_write_to_changes_nothing(etc: Etc) -> None:
    (etc.top / "groups").chmod(0o777)
    etc.put("groups/web.yaml", "timezone: UTC\n")
    etc.settle()
    with pytest.raises(BadFile, match="everybody may write there"):
        etc.look()
    (etc.top / "groups").chmod(0o700)
    assert names(etc.looked()) == {"web1"}


NEW = "# the new one\ntimezone: Europe/Rome\nntp:\n  servers: [a.example]\n"


def written_in_place(path: Path) -> Iterator[None]:
    """Every moment of a plain write: truncated, then byte by byte."""
    with path.open("w") as file:
        for character in NEW:
            file.flush()
            yield
            file.write(character)


def written_aside(path: Path) -> Iterator[None]:
    """Every moment of a write to a temporary file, and of the rename that ends it."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as file:
        for character in NEW:
            file.flush()
            yield
            file.write(character)
    yield
    temporary.rename(path)


@pytest.mark.parametrize("write", [written_in_place, written_aside])
@pytest.mark.parametrize("name", ["defaults.yaml", "groups/web.yaml", "documents/db1.yaml"])
def test_nothing_but_old_and_new_is_ever_in_force_while_a_file_is_written(
    etc: Etc, name: str, write: Callable[[Path], Iterator[None]]
) -> None:
    before = dict(etc.in_force)
    path = etc.top / name
    for _ in write(path):
        etc.now = path.stat().st_ctime
        assert etc.look().errors == []
        assert etc.in_force == before
    etc.put(name, path.read_text() if "documents" not in name else DB1 + path.read_text())
    etc.looked()
    assert [zone for vm, zone in etc.in_force.items() if before[vm] != zone] == ["Europe/Rome"]


@pytest.mark.parametrize("name", ["defaults.yaml", "groups/web.yaml", "documents/db1.yaml"])
def test_a_writer_that_is_killed_at_any_moment_leaves_old_or_new_where_it_wrote_aside(etc: Etc, name: str) -> None:
    before = dict(etc.in_force)
    for length in range(len(NEW) + 1):
        etc.put(f"{name.rpartition('/')[0] or '.'}/.{name.rpartition('/')[2]}.{length}", NEW[:length])
        assert etc.looked() == Changes([], [], [], [], more=False)
    assert etc.in_force == before


@pytest.mark.parametrize("name", ["defaults.yaml", "groups/web.yaml"])
def test_a_writer_that_is_killed_in_place_leaves_the_good_one_in_force_where_the_rest_is_bad(etc: Etc, name: str) -> None:
    for length in range(len(NEW)):
        before = dict(etc.in_force)
        etc.put(name, NEW[:length])
        changes = etc.looked()
        if changes.errors:
            assert changes.wanted == []
            assert all(str(etc.top / name) in text for _, text in changes.errors)
            assert etc.in_force == before
        etc.put(name, f"timezone: {before['db1' if name[0] == 'd' else 'web1']}\n")
        etc.looked()


def test_a_document_that_changes_while_it_is_read_is_not_taken(etc: Etc) -> None:
    class Disturbed(Inventory):
        """One that takes so long that somebody has begun to write when it is done."""

        def _wanted(self, name_of_vm: str, file: Found) -> Wanted:
            try:
                return super()._wanted(name_of_vm, file)
            finally:
                path.write_text("timezone: Europe/Rom")

    path = etc.top / "documents/db1.yaml"
    (etc.top / "documents/web1.yaml").unlink()
    etc.settle()
    inventory = Disturbed(etc.top / "documents", lambda: etc.now)
    assert inventory.look() == Changes([], [], [], [], more=False)


def test_one_look_takes_no_longer_than_its_slice_and_the_next_goes_on(etc: Etc) -> None:
    for number in range(2, 8):
        etc.put(f"documents/web{number}.yaml", WEB1.replace("web1", f"web{number}"))
    etc.settle()
    etc.slow = 1.0
    looks: list[Changes] = []
    while not looks or looks[-1].more:
        looks.append(etc.look())
    assert [len(look.wanted) for look in looks] == [1] * 6
    assert set(etc.in_force) == {"db1", *(f"web{number}" for number in range(1, 8))}
    assert not etc.look().more


def test_a_fault_that_takes_many_looks_to_find_is_still_said_once(etc: Etc) -> None:
    etc.slow = 1.0
    etc.put("defaults.yaml", "timezone: ../x\n")
    etc.settle()
    first, second = etc.look(), etc.look()
    assert (len(first.errors), first.complaints, first.more) == (1, [], True)
    assert (len(second.errors), len(second.complaints), second.more) == (1, 1, False)
    assert "and 1 more VM;" in second.complaints[0]


def test_a_file_that_goes_between_two_slices_is_not_an_error_but_removed(etc: Etc) -> None:
    etc.slow = 1.0
    for name in ("a", "b", "c"):
        etc.put(f"documents/{name}.yaml", DB1)
    etc.settle()
    left = {"a", "b", "c"} - names(etc.look())
    for name in left:
        (etc.top / f"documents/{name}.yaml").unlink()
    while (changes := etc.look()).more:
        assert changes.errors == []
    assert changes.errors == []
    assert set(etc.look().removed) == left
