# SPDX-License-Identifier: Apache-2.0
"""A VM is ready when its document is in force, answered for, done and its guest there; else it is said what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.ledger.standing import State
from host_agent.views.verdict import Asked, Verdict, judged
from tests.host.records import READY

if TYPE_CHECKING:
    from host_agent.views.verdict import Stands

#: What is different from a VM that is ready, and why it then waits.
WAITS: dict[str, dict[str, Any]] = {
    "no document has been read for it yet": {"digest_wanted": "", "digest_sent": ""},
    "to be sent": {"digest_wanted": "new"},
    "the VM is off": {"digest_wanted": "new", "state": State.UNREACHABLE, "detail": "the VM is off"},
    "to be applied again": {"reprovision": True},
    "to be applied again: the VM is off": {"reprovision": True, "state": State.UNREACHABLE, "detail": "the VM is off"},
    "the guest is at work": {"generation_sent": 4, "state": State.PROVISIONING},
    "waiting for a word": {"generation_sent": 4, "state": State.PROVISIONING, "detail": "waiting for a word"},
    "user-data: pending": {"pending": "user-data"},
    "the guest has not answered yet": {"state": State.GREETING, "detail": "the guest has not answered yet"},
    "the socket is gone": {"state": State.UNREACHABLE, "detail": "the socket is gone"},
}
#: And why it will not be ready without an operator.
FAILS: dict[str, dict[str, Any]] = {
    "another key": {"quarrel": True, "state": State.KEY_CHANGED, "detail": "another key"},
    "it does not believe this host": {"state": State.REFUSED, "detail": "it does not believe this host"},
    "a.yaml:1:1: users": {"document_error": "a.yaml:1:1: users"},
    "the document was removed": {"state": State.REMOVED, "detail": "the document was removed"},
    "network: no-manager": {"outcome": "failed", "generation_applied": 2, "failed": "network: no-manager"},
    "users: too-old": {"outcome": "refused", "generation_applied": 2, "path": "users", "reason": "too-old"},
    "rolled-back": {"outcome": "rolled-back", "generation_applied": 2, "state": State.GREETING},
    "user-data: command-failed": {"state": State.DEGRADED, "failed": "user-data: command-failed"},
}


def stands(different: dict[str, Any]) -> Stands:
    return READY._replace(**different)


def test_what_is_in_force_answered_for_and_done_is_ready() -> None:
    assert judged(READY) == (Verdict.READY, "")


@pytest.mark.parametrize("why", WAITS)
def test_what_is_missing_is_waited_for_by_name(why: str) -> None:
    assert judged(stands(WAITS[why])) == (Verdict.WAITING, why)


@pytest.mark.parametrize("why", FAILS)
def test_what_needs_an_operator_is_not_waited_for(why: str) -> None:
    assert judged(stands(FAILS[why])) == (Verdict.FAILED, why)


def test_a_generation_that_the_document_names_must_be_the_one_in_force() -> None:
    assert judged(READY._replace(generation_wanted=3)).verdict is Verdict.READY
    assert judged(READY._replace(generation_wanted=4)).verdict is Verdict.WAITING


def test_an_old_failure_does_not_speak_of_a_generation_that_is_under_way() -> None:
    failed = stands(FAILS["network: no-manager"])
    assert judged(failed._replace(generation_sent=4, state=State.PROVISIONING)).verdict is Verdict.WAITING
    assert judged(failed._replace(state=State.PROVISIONING)).verdict is Verdict.WAITING  # the same one, sent again
    assert judged(failed._replace(digest_wanted="mended")).verdict is Verdict.WAITING
    assert judged(failed._replace(reprovision=True)).verdict is Verdict.WAITING


def test_a_document_that_was_not_picked_up_yet_is_waited_for_whatever_became_of_the_one_before() -> None:
    for different in ({}, *FAILS.values()):
        vm = stands(different)
        if not vm.quarrel and vm.state != State.REFUSED:
            verdict, why = judged(vm, Asked(digest="mended"))
            assert (verdict, why.partition(":")[0]) == (Verdict.WAITING, "this document has not been picked up yet")
    assert judged(READY, Asked(digest="d")).verdict is Verdict.READY


def test_a_generation_that_is_asked_for_is_in_force_or_a_later_one_is() -> None:
    assert judged(READY, Asked(generation=3)).verdict is Verdict.READY
    assert judged(READY, Asked(generation=2)).verdict is Verdict.READY
    assert judged(READY, Asked(generation=4)) == (Verdict.WAITING, "generation 3 is in force, not 4")


@pytest.mark.parametrize(
    ("different", "word"),
    [
        ({}, "ready"),
        ({"outcome": "failed"}, "failed"),
        ({"outcome": "rolled-back", "state": State.GREETING}, "greeting"),
        ({"document_error": "bad"}, "bad-document"),
        ({"document_error": "bad", "state": State.UNREACHABLE}, "unreachable"),
    ],
)
def test_the_word_of_a_vm_that_is_there_says_what_is_wrong_with_it(different: dict[str, Any], word: str) -> None:
    assert stands(different).word == word


@given(
    st.builds(
        READY._replace,
        state=st.sampled_from([word for name, word in vars(State).items() if name.isupper()]),
        detail=st.text(max_size=5), digest_wanted=st.sampled_from(["", "d", "e"]), digest_sent=st.sampled_from(["", "d"]),
        generation_sent=st.integers(0, 3), generation_applied=st.integers(0, 3), generation_items=st.integers(0, 3),
        generation_wanted=st.none() | st.integers(1, 3), outcome=st.sampled_from(["", "applied", "failed", "\x1b[2J"]),
        failed=st.text(max_size=5), pending=st.text(max_size=5), reprovision=st.booleans(), quarrel=st.booleans(),
    )
)  # fmt: skip
def test_ready_is_never_said_of_less_and_a_reason_is_safe_to_print(vm: Stands) -> None:
    verdict, why = judged(vm)
    assert why.isascii()
    assert why.isprintable()
    assert bool(why) or verdict is Verdict.READY
    if verdict is Verdict.READY:
        assert vm.digest_wanted == vm.digest_sent != ""
        assert vm.generation_applied == vm.generation_sent == vm.generation_items > 0
        assert vm.outcome in ("", "applied")
        assert vm.state == State.READY
        assert not vm.reprovision
        assert not vm.failed
        assert not vm.pending
