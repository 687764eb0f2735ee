# SPDX-License-Identifier: Apache-2.0
"""Planning: whose a file is, what an item sees of the items before it, and a dry run that shows all and touches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from guest_agent.actions.draft import Draft, digest_of, owned
from guest_agent.actions.plan import Plan
from guest_agent.actions.planning import plan_all
from guest_agent.changes.files import MakeLink, RemoveFile, WriteFile
from guest_agent.failure import ItemError
from guest_agent.preview import preview
from guest_agent.state import State, Target
from pv_channel import messages
from pv_channel.document import parse
from pv_channel.messages import Outcome
from tests.guest.machine import Machine, document, no_progress, whole

if TYPE_CHECKING:
    from pathlib import Path

    from guest_agent.actions.planning import Planner
    from pv_channel.document import Document

PATH = "/etc/ours.conf"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def give(machine: Machine, generation: int, **fields: Any) -> messages.Result:
    return machine.provisioner().provision(document(generation, **fields), None, no_progress)


def draft(machine: Machine, before: dict[str, bytes], overwrite: list[str] | None = None, instance: str = "i-1") -> Draft:
    """The planning of generation 2 of ``i-1``, whose first one wrote *before* as the item ``hostname``."""
    paths = {path: digest_of(content) for path, content in before.items()}
    state = State(Target("i-1", 1, ""), messages.Result(1, Outcome.APPLIED), {"hostname": paths})
    made = Draft(machine.system, parse(document(2, instance, overwrite=overwrite or [])), state)
    made.item = "hostname"
    return made


def test_a_name_that_an_administrator_has_given_since_is_not_taken_away(machine: Machine) -> None:
    give(machine, 1, **{"local-hostname": "web1"})
    machine.write("etc/hostname", b"admins-choice\n")
    result = give(machine, 2, **{"local-hostname": "web2"})
    (item,) = result.items
    assert (result.outcome, item.outcome, item.reason) == (Outcome.FAILED, Outcome.FAILED, "conflict")
    assert "/etc/hostname" in item.detail
    assert "since generation 1" in item.detail
    assert machine.read("etc/hostname") == "admins-choice\n"
    again = give(machine, 2, **{"local-hostname": "web2", "overwrite": ["hostname"]})
    assert again.outcome is Outcome.APPLIED
    assert machine.read("etc/hostname") == "web2\n"


def test_what_is_changed_back_is_ours_again(machine: Machine) -> None:
    give(machine, 1, **{"local-hostname": "web1"})
    machine.write("etc/hostname", b"admins-choice\n")
    machine.write("etc/hostname", b"web1\n")
    assert give(machine, 2, **{"local-hostname": "web2"}).outcome is Outcome.APPLIED


def test_a_new_instance_owes_nothing_to_the_one_before(machine: Machine) -> None:
    machine.write(PATH[1:], b"edited")
    old, new = draft(machine, {PATH: b"ours"}), draft(machine, {PATH: b"ours"}, instance="i-2")
    with pytest.raises(ItemError, match="conflict"):
        old.own(PATH, b"next")
    assert new.own(PATH, b"next") == [WriteFile(PATH, b"next", owned=True)]


def test_a_file_that_no_document_asks_for_any_more_goes(machine: Machine) -> None:
    machine.write(PATH[1:], b"ours")
    assert draft(machine, {PATH: b"ours"}).gone([]) == [RemoveFile(PATH)]
    assert draft(machine, {PATH: b"ours"}).gone([PATH]) == []


def test_a_file_that_was_edited_is_not_removed_either(machine: Machine) -> None:
    machine.write(PATH[1:], b"edited")
    with pytest.raises(ItemError, match="conflict"):
        draft(machine, {PATH: b"ours"}).gone([])
    assert draft(machine, {PATH: b"ours"}, ["hostname"]).gone([]) == [RemoveFile(PATH)]


def test_a_link_of_ours_that_leads_elsewhere_was_changed(machine: Machine) -> None:
    changes = [MakeLink(PATH, "/usr/share/a", owned=True)]
    recorded = owned(changes)
    changes[0].apply(machine.system)
    state = State(Target("i-1", 1, ""), messages.Result(1, Outcome.APPLIED), {"hostname": recorded})
    planning = Draft(machine.system, parse(document(2)), state)
    planning.item = "hostname"
    planning.check(PATH)
    (machine.root / PATH[1:]).unlink()
    (machine.root / PATH[1:]).symlink_to("/usr/share/b")
    with pytest.raises(ItemError, match="conflict"):
        planning.check(PATH)


def test_what_was_ours_stays_known_through_a_generation_that_says_nothing_of_it(machine: Machine) -> None:
    give(machine, 1, **{"local-hostname": "web1"})
    give(machine, 2, ssh_authorized_keys=[])
    machine.write("etc/hostname", b"admins-choice\n")
    assert give(machine, 3, **{"local-hostname": "web3"}).outcome is Outcome.FAILED


def plan_with(
    planners: dict[str, Planner], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], dict[str, str]]:
    monkeypatch.setattr("guest_agent.actions.planning._planners", lambda document: planners)
    plans, failures = plan_all(parse(document(1)), machine.system, None)
    return [plan.item for plan in plans], {item: failure.reason for item, failure in failures.items()}


def test_two_items_cannot_write_one_file(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def writes(document: Document, draft: Draft) -> Plan:
        return Plan(draft.own(PATH, draft.item.encode()), "")

    items, failures = plan_with({"hostname": writes, "write-files": writes}, machine, monkeypatch)
    assert items == ["hostname", "write-files"]
    assert failures == {"write-files": "conflict"}


def test_an_item_sees_what_the_items_before_it_will_write(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def first(document: Document, draft: Draft) -> Plan:
        return Plan([WriteFile(PATH, b"new"), RemoveFile("/etc/hosts")], "")

    def second(document: Document, draft: Draft) -> Plan:
        stored = draft.read(PATH)
        seen.extend([stored and stored.content, draft.text(PATH), draft.text("/etc/hosts"), draft.read("/etc/hosts")])
        return Plan([], "")

    plan_with({"hostname": first, "users": second}, machine, monkeypatch)
    assert seen == [b"new", "new", "", None]
    assert not (machine.root / PATH[1:]).exists()


def test_a_dry_run_shows_each_change_and_touches_nothing(machine: Machine) -> None:
    before = machine.snapshot()
    planned = machine.provisioner().plan(whole(), None)
    assert machine.snapshot() == before
    assert machine.programs.calls == []
    steps = {item.item: item.steps for item in planned.items}
    assert "  -template" in steps["hostname"]
    assert "  +web1" in steps["hostname"]
    assert any("127.0.1.1" in step and step.startswith("  +") for step in steps["hostname"])
    assert any(step.startswith("write /etc/systemd/network/") for step in steps["network"])
    assert "run networkctl reload" in steps["network"]
    assert not planned.cut
    assert messages.decode_from_guest(messages.encode(planned)) == planned


def test_a_dry_run_of_what_is_in_force_has_no_steps(machine: Machine) -> None:
    machine.provisioner().provision(whole(), None, no_progress)
    assert [item.steps for item in machine.provisioner().plan(whole(), None).items] == [[], [], []]


def test_a_dry_run_says_why_an_item_cannot_be(machine: Machine) -> None:
    machine.without_networkd()
    planned = machine.provisioner().plan(whole(), None)
    assert {item.item: item.reason for item in planned.items if item.reason is not msgspec.UNSET} == {"network": "no-manager"}


def test_a_dry_run_of_a_bad_or_an_old_document_is_refused(machine: Machine) -> None:
    assert machine.provisioner().plan(b"{", None).reason == "bad-document"
    give(machine, 2, **{"local-hostname": "web1"})
    assert machine.provisioner().plan(document(1), None).reason == "generation-old"


def test_a_plan_never_outgrows_its_message_and_never_shows_a_secret(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(document: Document, draft: Draft) -> Plan:
        public = [WriteFile(f"/etc/{n}", b"\x01\n".join(b"%d" % line for line in range(300))) for n in range(300)]
        return Plan([WriteFile("/etc/secret", b"hunter2\n", 0o600, secret=True), *public], "")

    monkeypatch.setattr("guest_agent.actions.planning._planners", lambda document: {"write-files": everything})
    planned = preview(plan_all(parse(document(1)), machine.system, None), 1, machine.system)
    assert planned.cut
    encoded = messages.encode(planned)
    assert len(encoded) <= messages.MAX_GUEST_MESSAGE_BYTES
    assert b"hunter2" not in encoded
    assert planned.items[0].steps[0] == "write /etc/secret (new, 0600)"
