# SPDX-License-Identifier: Apache-2.0
"""The two agents over a relay: the ordinary day."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from host_agent import keys
from host_agent.views.status import View
from tests.pair.conftest import DEADLINE_SECONDS, eventually, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pair.conftest import Stage


def test_a_guest_becomes_what_the_document_says(stage: Stage, web1: str) -> None:
    stage.start_guest()
    status, result = stage.push(web1)
    assert status == 0, stage.log("push.log") + stage.log("guest.log")
    assert {item["item"]: item["outcome"] for item in result["items"]} == {
        "identity": "applied",
        "hostname": "applied",
        "network": "applied",
        "ssh-keys": "applied",
    }
    assert stage.read("etc/hostname") == "web1\n"
    assert "127.0.1.1 web1.example.org web1" in stage.read("etc/hosts").replace("\t", " ")
    assert "operator@example.org" in stage.read("root/.ssh/authorized_keys")
    assert "alice@example.org" in stage.read("home/alice/.ssh/authorized_keys")
    networks = [path.read_text() for path in (stage.root / "etc/systemd/network").glob("10-pv-guest-agent-*.network")]
    assert len(networks) == 1
    assert "Address=10.77.0.10/24" in networks[0]


def test_the_answer_carries_the_ssh_host_keys(stage: Stage, web1: str) -> None:
    stage.start_guest()
    _, result = stage.push(web1)
    wanted = [stage.read(f"etc/ssh/ssh_host_{kind}_key.pub").strip() for kind in ("ecdsa", "ed25519")]
    assert result["host-keys"] == wanted


def test_applying_a_generation_twice_changes_nothing(stage: Stage, web1: str) -> None:
    stage.start_guest()
    assert stage.push(web1)[0] == 0
    before = snapshot(stage.root)
    status, result = stage.push(web1)
    assert (status, result["outcome"]) == (0, "unchanged")
    assert snapshot(stage.root) == before


def test_a_changed_document_is_a_new_generation(stage: Stage, web1: str) -> None:
    stage.start_guest()
    _, first = stage.push(web1)
    status, second = stage.push(web1.replace("web1", "web2"))
    assert status == 0
    assert second["generation"] == first["generation"] + 1
    assert stage.read("etc/hostname") == "web2\n"


def test_an_older_generation_is_refused_and_changes_nothing(stage: Stage, web1: str) -> None:
    stage.start_guest()
    assert stage.push(web1 + "generation: 7\n")[0] == 0
    before = snapshot(stage.root)
    status, result = stage.push(web1.replace("web1", "web2") + "generation: 6\n")
    assert (status, result["outcome"], result["reason"]) == (1, "refused", "generation-old")
    assert snapshot(stage.root) == before


def test_once_ends_with_status_zero_after_a_generation(stage: Stage, web1: str) -> None:
    guest = stage.start_guest("--once")
    assert stage.push(web1)[0] == 0
    assert guest.wait(DEADLINE_SECONDS) == 0


def secrets(stage: Stage) -> list[Path]:
    """The files with a private key in them."""
    return [stage.root / "var/lib/pv-guest-agent/identity.key", stage.work / "host" / keys.HOST_KEY_NAME]


def test_keys_on_both_sides_are_readable_by_their_owner_alone(stage: Stage, web1: str) -> None:
    stage.start_guest()
    assert stage.push(web1)[0] == 0
    for path in secrets(stage):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_private_key_is_in_any_log(stage: Stage, web1: str) -> None:
    stage.start_guest()
    assert stage.push(web1)[0] == 0
    logs = stage.log("guest.log") + stage.log("push.log")
    assert logs
    for path in secrets(stage):
        for word in path.read_text(encoding="latin-1").split():
            if len(word) > 40:
                assert word not in logs


def status(stage: Stage) -> dict[str, Any]:
    """What the ledger has of the one guest."""
    with View(stage.work / "host") as view:
        return view.named("vm1")


def test_the_service_learns_what_the_guest_is_soon_after_its_answer_and_when_it_changes(stage: Stage, web1: str) -> None:
    (stage.root / "etc/os-release").write_text('PRETTY_NAME="A template"\n', encoding="utf-8")
    stage.start_guest()
    stage.serve(web1)
    eventually(lambda: stage.read("etc/hostname") == "web1\n", "the guest never became web1")
    eventually(lambda: status(stage)["facts"].get("hostname") == "web1", "the guest never said what it is")
    vm = status(stage)
    assert vm["facts"]["os"] == "A template"
    assert (vm["sessions"], vm["facts"]["kernel"]) == (1, "")  # a folder has no kernel
    made = stage.read("etc/ssh/ssh_host_ed25519_key.pub").strip()
    assert made in vm["host-keys"]
    (stage.root / "etc/ssh/ssh_host_ed25519_key.pub").unlink()
    eventually(lambda: made not in status(stage)["host-keys"], "the guest never said that it has other keys")


def test_the_service_follows_a_directory_of_documents(stage: Stage, web1: str) -> None:
    stage.start_guest()
    stage.serve(web1)
    eventually(lambda: stage.read("etc/hostname") == "web1\n", "the guest never became web1")
    stage.write_document(web1.replace("web1", "web2"))
    eventually(lambda: stage.read("etc/hostname") == "web2\n", "a changed file was never picked up")
    stage.write_document("local-hostname: [not a name\n")
    eventually(lambda: "vm1.yaml" in stage.log("serve.log"), "a bad file was never complained of")
    assert stage.read("etc/hostname") == "web2\n"
