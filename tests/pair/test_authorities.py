# SPDX-License-Identifier: Apache-2.0
"""A fleet of two dom0s and one guest that moves between them: certificates, keys that follow others, revocations in documents."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from guest_agent.identity import pins
from guest_agent.system import System
from host_agent import keys
from host_agent.__main__ import main
from host_agent.authorities.authority import public_of
from host_agent.ledger.standing import State
from host_agent.views.status import View
from pv_channel.trust import fingerprint
from tests.pair.conftest import eventually

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from pv_channel.trust import Trust
    from tests.pair.conftest import Stage

TEMPLATE = "etc/pv-guest-agent/trusted_keys"


class Dom0:
    """One of them: a state, a directory of sockets and a service of its own; documents are the fleet's."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name, self.top, self._stage = name, stage.work / name, stage
        self.state, self.sockets, self.documents = self.top / "state", self.top / "sockets", stage.work / "fleet/documents"
        for directory in (self.sockets, self.documents):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys.create_host_key(self.state, name, replace=False)
        self.process: subprocess.Popen[bytes] | None = None

    def keys(self, *words: str, given: str = "", status: int = 0) -> str:
        """What ``pv-host-agent keys`` prints, *given* that on standard input."""
        before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given.encode()))
        try:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                assert main(["keys", *words, "--state", str(self.state)]) == status
        finally:
            sys.stdin = before
        return printed.getvalue()

    def in_documents(self, *words: str) -> None:
        """Have the fleet's documents say it."""
        self.keys(*words, "--documents", str(self.documents))

    @property
    def fingerprint(self) -> str:
        """Of its key."""
        return keys.existing(self.state).fingerprint

    def be_certified(self, authority: Path, verb: str = "request") -> None:
        """Ask, have it signed, take it; a running service takes it up."""
        asked = self.keys(verb, "--authority", str(authority.with_suffix(".pub")), "--label", self.name)
        self.keys("install", "-", given=self.keys("sign", "-", "--authority", str(authority), given=asked))
        self.reload()

    def serve(self) -> None:
        """Start the service."""
        arguments = ("--documents", str(self.documents), "--sockets", str(self.sockets), "--state", str(self.state))
        self.process = self._stage.start("host_agent", "serve", "--no-xenstore", *arguments, log=f"{self.name}.log")

    def reload(self) -> None:
        """As systemctl reload does."""
        if self.process is not None:
            said = self._stage.log(f"{self.name}.log").count("read again")
            self.process.send_signal(signal.SIGHUP)
            eventually(lambda: self._stage.log(f"{self.name}.log").count("read again") > said, "the service read nothing again")

    def standing(self) -> tuple[str, str]:
        """Where its ledger has the guest, and why."""
        with View(self.state) as view:
            (vm,) = view.standings()
        return vm.state, vm.detail


class Fleet:
    """Both of them, and the guest."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.a, self.b = Dom0(stage, "dom0-a"), Dom0(stage, "dom0-b")

    def say(self, text: str) -> None:
        """Be the guest's document."""
        (self.a.documents / "vm1.yaml").write_text(text, encoding="utf-8")

    def template(self, text: str) -> None:
        """Be what the guest's template pins."""
        path = self._stage.root / TEMPLATE
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="ascii")

    def move(self, to: Dom0) -> None:
        """The guest runs there from now on."""
        self._stage.relay.vanish()
        self._stage.relay.path = to.sockets / "vm1.sock"
        self._stage.relay.listen()

    def trust(self) -> Trust:
        """Whom the guest believes."""
        return pins(System(self._stage.root))

    def becomes(self, name: str) -> None:
        """Wait until the guest is called that."""
        eventually(lambda: self._stage.read("etc/hostname") == f"{name}\n", f"the guest never became {name}: {self.logs()}")

    def meets(self, dom0: Dom0, how: str = "") -> None:
        """Wait until the guest is in session with the host's key as it is now."""
        met = f"in session with host {dom0.fingerprint} ({how}"
        eventually(lambda: met in self._stage.log("guest.log"), f"never '{met}': {self.logs()}")
        eventually(lambda: dom0.standing()[0] == State.READY, f"{dom0.name} never said that all is well: {self.logs()}")

    def logs(self) -> str:
        """All that was said."""
        names = ("guest.log", "dom0-a.log", "dom0-b.log")
        return "\n".join(f"{name}:\n{self._stage.log(name)}" for name in names if (self._stage.work / name).exists())


@pytest.fixture
def fleet(stage: Stage) -> Fleet:
    """Nobody knows anybody yet."""
    return Fleet(stage)


def test_a_guest_that_pinned_an_authority_lives_through_a_fleet_s_life(fleet: Fleet, stage: Stage, web1: str) -> None:
    a, b, old = fleet.a, fleet.b, stage.work / "fleet.key"
    pin = a.keys("authority", str(old))
    for dom0 in (a, b):
        dom0.be_certified(old)
    fleet.template(pin)
    fleet.say(web1)
    fleet.move(a)
    stage.start_guest()
    a.serve()
    b.serve()
    fleet.becomes("web1")
    fleet.meets(a, "certified 'dom0-a'")

    fleet.move(b)  # another host, the same authority: believed, and nothing is applied twice
    written = (stage.root / "etc/hostname").stat().st_mtime_ns
    fleet.meets(b, "certified 'dom0-b'")
    assert (stage.root / "etc/hostname").stat().st_mtime_ns == written
    fleet.say(web1.replace("web1", "web2"))
    fleet.becomes("web2")

    before = a.fingerprint  # another key follows A's, while the guest is elsewhere
    a.be_certified(old, "rotate")
    assert a.fingerprint != before
    fleet.move(a)
    fleet.meets(a, "certified 'dom0-a'")

    fleet.move(b)  # which tells the guest that A is not to be believed again
    b.in_documents("revoke", a.fingerprint, "--reason", "stolen")
    eventually(lambda: a.fingerprint in fleet.trust().revoked, "the revocation never came: " + fleet.logs())
    eventually(lambda: b.standing()[0] == State.READY, "the document that revokes was never answered well")
    fleet.move(a)
    eventually(lambda: a.standing()[0] == State.REFUSED, "the guest never refused A: " + fleet.logs())
    assert "is revoked there for ever" in a.standing()[1]
    assert stage.log("dom0-a.log").count("the guest refused") == 1
    (refusal,) = [line for line in stage.log("guest.log").splitlines() if "refused the host key" in line]
    assert f"{a.fingerprint}: it is revoked here" in refusal

    fleet.say(web1.replace("web1", "web3"))  # the authority itself is followed by another, by B's documents alone
    fleet.move(b)
    fleet.becomes("web3")
    new = stage.work / "next.key"
    b.keys("authority", str(new))
    b.in_documents("trust", str(new.with_suffix(".pub")), "--name", "fleet-2")
    eventually(lambda: len(fleet.trust().believed) == 2, "the new authority never came: " + fleet.logs())
    b.be_certified(new)
    b.in_documents("revoke", str(old.with_suffix(".pub")))
    eventually(lambda: len(fleet.trust().believed) == 1, "the old authority never went: " + fleet.logs())
    met = f"by authority {fingerprint(next(iter(fleet.trust().believed)))}"
    eventually(lambda: met in stage.log("guest.log"), "B was never met by its new certificate: " + fleet.logs())
    fleet.say(web1.replace("web1", "web4"))
    fleet.becomes("web4")
    assert fleet.trust().revoked == {a.fingerprint, fingerprint(keys_of(old))}


def keys_of(authority: Path) -> bytes:
    """Its public half."""
    public = authority.with_suffix(".pub")
    return public_of(public, public.read_bytes())


def test_a_guest_that_pinned_one_host_s_key_is_told_of_the_next_by_the_old_one(fleet: Fleet, stage: Stage, web1: str) -> None:
    a = fleet.a
    fleet.template(a.keys("show"))
    fleet.say(web1)
    fleet.move(a)
    stage.start_guest()
    a.serve()
    fleet.becomes("web1")
    fleet.meets(a, "pinned")
    before = a.fingerprint
    following = a.keys("rotate")
    a.keys("rotate", "--finish", "--documents", str(a.documents), status=1)  # nobody knows the next one yet
    a.in_documents("trust", following.strip(), "--name", "dom0-a-2")
    eventually(lambda: len(fleet.trust().host_keys) == 2, "the next key was never told: " + fleet.logs())
    eventually(lambda: a.standing()[0] == State.READY, "the document that tells of it was never answered well")
    a.keys("rotate", "--finish", "--documents", str(a.documents))
    a.reload()
    assert a.fingerprint != before
    fleet.move(a)
    fleet.meets(a, "pinned")
    a.in_documents("revoke", before)
    eventually(lambda: len(fleet.trust().believed) == 1, "the old key never went: " + fleet.logs())


def test_a_guest_killed_again_and_again_while_it_is_told_ends_believing_what_the_document_says(
    fleet: Fleet, stage: Stage, web1: str
) -> None:
    a = fleet.a
    old = stage.work / "fleet.key"
    fleet.template(a.keys("authority", str(old)))
    a.be_certified(old)
    fleet.say(web1)
    fleet.move(a)
    guest = stage.start_guest()
    a.serve()
    fleet.becomes("web1")
    gone = [fingerprint(bytes([n])) for n in range(3)]
    for number, key in enumerate(gone):
        a.in_documents("revoke", key)
        if number:  # it is being told, or was just now
            eventually(lambda: key in fleet.trust().revoked, "it was never told: " + fleet.logs())  # noqa: B023
        guest.kill()
        guest.wait()
        assert fleet.trust().revoked <= set(gone)
        guest = stage.start_guest()
    eventually(lambda: fleet.trust().revoked == set(gone), "it was never told: " + fleet.logs())
    eventually(lambda: a.standing()[0] == State.READY, "what it was told was never answered well")
    assert fleet.trust().believed == {keys_of(old)}
