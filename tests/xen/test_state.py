# SPDX-License-Identifier: Apache-2.0
"""On real Xen a VM is saved, its host loses all that it knew, and the VM comes back with what was saved beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.domain_config import Channel
from pv_channel import CHANNEL_NAME
from tests.xen.serving import MAC, SOCKET, UUID, Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guests import Guest

BUNDLE = "/var/lib/lab/db1.state"


@pytest.fixture
def guest(serving: Serving) -> Iterator[Guest]:
    """db1, provisioned."""
    serving.write("first")
    made = serving.lab.create("db1", uuid=UUID, mac=MAC, channels=[Channel(CHANNEL_NAME, path=SOCKET)])
    serving.wait()
    made.wait_ready()
    yield made
    made.destroy()
    serving.dom0.run(f"rm -f {BUNDLE}")


def test_a_vm_is_restored_on_a_host_that_knows_it_only_by_what_was_saved_beside_it(serving: Serving, guest: Guest) -> None:
    before = serving.status()
    serving.stop()
    serving.dom0.run(f"pv-host-agent state save db1 {BUNDLE}")
    assert serving.dom0.run(f"stat -c %a {BUNDLE}").output == "600\n"
    guest.save_and_restore("rm -f /var/lib/pv-host-agent/ledger*")
    assert serving.ask("status db1", good=False) is None

    loaded = serving.dom0.run(f"pv-host-agent state load db1 {BUNDLE}").output
    assert f"generation 1 of i-db1 in force, the guest's key {before['guest-key']}" in loaded
    serving.start()
    vm = serving.wait()
    assert (vm["guest-key"], vm["first-met"]) == (before["guest-key"], before["first-met"])
    assert (vm["generation-applied"], vm["outcome"], vm["items"]) == (1, "applied", before["items"])
    assert "met for the first time" not in " ".join(event["what"] for event in vm["events"])
    assert any("loaded the state that came from" in entry["what"] for entry in vm["audit"])
    assert not any("met for the first time" in entry["what"] for entry in vm["audit"])
    assert serving.applied(guest, 1) <= 1  # a journal of a machine whose machine-id is new may begin after it

    # And it is the one that is changed from here on.
    serving.write("second")
    assert serving.wait()["generation-applied"] == 2
    assert guest.run("cat /etc/app.conf").output.strip() == "second"

    # What was saved before that is older than what is known now, and is not taken.
    assert "this stays" in serving.dom0.run(f"pv-host-agent state load db1 {BUNDLE}").output
    assert serving.status()["generation-applied"] == 2
