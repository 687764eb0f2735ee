# SPDX-License-Identifier: Apache-2.0
"""One booted lab for the whole run. A lab that cannot be built or booted is a failure of every test here, never a skip.

Where the emulator itself breaks under a test (`EmulatorFault`: QEMU ended, or something in it faulted as only bad emulation
makes it), that test is run once more, on a new machine if need be, and the terminal says so. Any other failure stays one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from lab.errors import EmulatorFault
from lab.running import Lab
from tests.xen.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FAULT = f"{EmulatorFault.__module__}.{EmulatorFault.__qualname__}"


class Machines:
    """The one machine that is running, and the next one after the emulator broke it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._lab: Lab | None = None

    def running(self) -> Lab:
        """A lab whose machine is whole."""
        if self._lab is not None:
            try:
                self._lab.machine.check()
            except EmulatorFault as fault:
                self.say(f"the machine broke ({fault}); booting another")
                self.stop()
        if self._lab is None:
            self._lab = Lab.boot(self.say)
        return self._lab

    def stop(self) -> None:
        """End the machine, if there is one."""
        if self._lab is not None:
            self._lab.stop()
            self._lab = None


@pytest.fixture(scope="session")
def machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    """Where `lab` comes from."""
    made = Machines(_speaker(request.config))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def lab(machines: Machines) -> Lab:
    """Real Xen with a dom0 and no guests; each test destroys what it creates."""
    return machines.running()


@pytest.fixture
def serving(lab: Lab) -> Iterator[Serving]:
    """The service with an empty ledger and no documents yet."""
    made = Serving(lab)
    yield made
    made.stop()
    lab.dom0.run("rm -f /etc/pv-host-agent/documents/*")


def _speaker(config: pytest.Config) -> Callable[[str], None]:
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        # Minutes pass in here: whoever waits is to see why, without -s.
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", end="", flush=True)

    return say


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run *item*; where the emulator broke under it, once more."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if any(report.failed and _FAULT in report.longreprtext for report in reports):
        _speaker(item.config)(f"the emulator broke under {item.name}, which says nothing of the product; once more")
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
