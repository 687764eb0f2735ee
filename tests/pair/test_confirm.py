# SPDX-License-Identifier: Apache-2.0
"""The two agents and a running network: it stays where dom0 says so in time; dry runs; and what takes longer is told later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pair.conftest import eventually
from tests.pair.live_guest import MAC, prepare

if TYPE_CHECKING:
    import subprocess

    from tests.pair.conftest import Stage


@pytest.fixture
def live(stage: Stage) -> Stage:
    """A guest whose network runs."""
    prepare(stage.root)
    stage.start("tests.pair.live_guest", stage.relay.tty, str(stage.root), log="guest.log")
    return stage


def document(stage: Stage, host: int, *, within: int = 60, check: str = "") -> str:
    """An address, which dom0 confirms when the file ``yes`` is there."""
    waits = f"for n in $(seq 4000); do [ -e {stage.work}/yes ] && exit; sleep 0.05; done; exit 1"  # its host is killed
    rule = check or f"{{check: command, command: [/bin/sh, -c, '{waits}']"
    return f"""\
instance-id: i-live
local-hostname: web{host}
network:
  version: 2
  ethernets:
    lan: {{match: {{macaddress: "{MAC}"}}, addresses: [10.77.0.{host}/24]}}
confirm: {rule}, within: {within}}}
"""


def address(stage: Stage) -> str:
    """The address that is configured, empty where there is none."""
    files = [path.read_text() for path in (stage.root / "etc/systemd/network").glob("10-pv-guest-agent-*.network")]
    return "".join(line.partition("=")[2] for text in files for line in text.splitlines() if line.startswith("Address="))


def waits(stage: Stage, host: int) -> None:
    """Until the guest has made the change, and waits for the word on it."""
    generation = "changed the network"
    eventually(lambda: address(stage) == f"10.77.0.{host}/24", "the address never came")
    eventually(lambda: generation in stage.log("guest.log").splitlines()[-1], "the guest never asked for the host's word")


def kill(service: subprocess.Popen[bytes]) -> None:
    service.kill()
    service.wait()


def test_a_change_that_is_confirmed_stays(live: Stage) -> None:
    (live.work / "yes").touch()
    status, result = live.push(document(live, 5))
    assert status == 0, (result, live.log("push.log"), live.log("guest.log"))
    assert (result["outcome"], address(live)) == ("applied", "10.77.0.5/24")
    assert "the changed network is confirmed: /bin/sh ended with status 0" in live.log("push.log")


def test_a_change_that_is_not_confirmed_heals_itself(live: Stage) -> None:
    (live.work / "yes").touch()
    assert live.push(document(live, 5))[0] == 0
    status, result = live.push(document(live, 6, check="{check: command, command: [/bin/false]"))
    assert (status, result["outcome"], result["detail"]) == (1, "failed", "the previous configuration is back")
    network = next(item for item in result["items"] if item["item"] == "network")
    assert (network["outcome"], network["reason"], network["detail"]) == ("failed", "rejected", "/bin/false ended with status 1")
    assert (address(live), live.read("etc/hostname")) == ("10.77.0.5/24", "web5\n")


def test_the_guests_own_look_decides_where_nothing_else_is_said(live: Stage) -> None:
    """The fake machine's kernel has no address at all."""
    assert live.push(document(live, 5, check="{check: guest", within=5))[0] == 1
    assert "network: rejected: eth0 does not have 10.77.0.5" in live.log("push.log")
    assert (address(live), live.read("etc/hostname")) == ("", "template\n")


def test_a_host_that_is_killed_during_the_wait_leaves_the_old_network(live: Stage) -> None:
    (live.work / "yes").touch()
    assert live.push(document(live, 5))[0] == 0
    (live.work / "yes").unlink()
    service = live.serve(document(live, 6, within=5))
    waits(live, 6)
    kill(service)
    eventually(lambda: address(live) == "10.77.0.5/24", "the old address never came back")
    eventually(lambda: "the previous configuration is back" in live.log("guest.log"), "the guest never said so")
    assert live.read("etc/hostname") == "web5\n"


def test_an_agent_that_is_stopped_during_the_wait_puts_the_old_network_back_before_it_ends(live: Stage) -> None:
    (live.work / "yes").touch()
    assert live.push(document(live, 5))[0] == 0
    (live.work / "yes").unlink()
    live.serve(document(live, 6, within=600))
    waits(live, 6)
    (guest,) = [process for process in live.processes if "tests.pair.live_guest" in str(process.args)]
    guest.terminate()
    assert guest.wait(60) == 0
    assert (address(live), live.read("etc/hostname")) == ("10.77.0.5/24", "web5\n")
    assert not (live.root / "var/lib/pv-guest-agent/journal.json").exists()


def test_a_host_that_is_killed_and_comes_back_during_the_wait_confirms(live: Stage) -> None:
    first = live.serve(document(live, 6, within=120))
    waits(live, 6)
    kill(first)
    (live.work / "yes").touch()
    live.serve()
    eventually(lambda: "generation 1: applied" in live.log("serve.log"), "the second host never confirmed")
    assert live.log("guest.log").count("changed the network") == 1
    assert (address(live), live.read("etc/hostname")) == ("10.77.0.6/24", "web6\n")


def test_a_host_that_comes_back_with_another_document_does_not_wait_for_the_first(live: Stage) -> None:
    first = live.serve(document(live, 6, within=600))
    waits(live, 6)
    kill(first)
    (live.work / "yes").touch()
    live.write_document(document(live, 7))
    live.serve()
    eventually(lambda: live.read("etc/hostname") == "web7\n", "the second document never came into force")
    eventually(lambda: "generation 2: applied" in live.log("serve.log"), "the second host never heard so")
    assert address(live) == "10.77.0.7/24"


def test_a_dry_run_shows_the_change_and_touches_neither_side(live: Stage) -> None:
    (live.work / "yes").touch()
    assert live.push(document(live, 5))[0] == 0
    status, planned = live.push(document(live, 6), "--dry-run")
    assert (status, planned["outcome"], planned["generation"]) == (0, "planned", 2)
    steps = [step.strip() for item in planned["items"] for step in item["steps"]]
    changed = [step for step in steps if step.startswith(("-Address", "+Address"))]
    assert changed == ["-Address=10.77.0.5/24", "+Address=10.77.0.6/24"]
    assert "run networkctl reload" in steps
    assert address(live) == "10.77.0.5/24"
    status, planned = live.push(document(live, 5), "--dry-run")
    assert (status, planned["outcome"], planned["items"]) == (0, "unchanged", [])
    status, result = live.push(document(live, 6))
    assert (status, result["generation"]) == (0, 2)


def with_script(script: str) -> str:
    return f"instance-id: i-live\nlocal-hostname: web1\nuser-data: |\n  #!/bin/sh\n  {script}\n"


def test_a_script_that_takes_longer_is_waited_for_and_its_end_is_told(live: Stage) -> None:
    status, result = live.push(with_script("sleep 1; echo well done"))
    assert status == 0, (result, live.log("push.log"), live.log("guest.log"))
    item = next(item for item in result["items"] if item["item"] == "user-data")
    assert (item["outcome"], item["log"]) == ("applied", ["well done"])
    assert "waiting for user-data" in live.log("push.log")


def test_a_script_that_fails_while_no_host_listens_is_told_to_the_next(live: Stage) -> None:
    status, result = live.push(with_script(f"until [ -e {live.work}/go ]; do sleep 0.05; done; exit 3"), "--no-wait")
    assert (status, [item["outcome"] for item in result["items"]][-1]) == (0, "pending")
    (live.work / "go").touch()
    eventually(lambda: "user-data failed" in live.log("guest.log"), "the guest never heard of its script's end")
    status, result = live.push((live.work / "vm1.yaml").read_text())
    assert (status, result["outcome"]) == (1, "degraded")
    assert [(item["item"], item["outcome"]) for item in result["items"]] == [("user-data", "failed")]
