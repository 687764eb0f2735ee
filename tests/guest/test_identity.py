# SPDX-License-Identifier: Apache-2.0
"""The guest's key survives everything but its own file's damage, and what is pinned is never guessed."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode
from pathlib import Path

import pytest

from guest_agent import identity
from guest_agent.identity import BadTrust, Believed, our_key, state_directory
from guest_agent.log import Log
from guest_agent.system import System
from pv_channel.errors import NotAuthenticated
from pv_channel.noise import KeyPair
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, fingerprint, format_key

STATE = "var/lib/pv-guest-agent"
TEMPLATE = "etc/pv-guest-agent/trusted_keys"
TOP = Path(__file__).parent.parent.parent


def key_of(root: Path) -> tuple[bytes, str]:
    """The public half of the key, and what was logged."""
    output = io.StringIO()
    return our_key(System(root), Log(output, {})).public, output.getvalue()


def template(root: Path, text: str | bytes) -> None:
    """What the template's maker pinned."""
    path = root / TEMPLATE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def test_a_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    key_of(tmp_path)
    assert (tmp_path / STATE).stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / STATE / "identity.key").stat().st_mode & 0o7777 == 0o600


def test_the_key_stays_the_same(tmp_path: Path) -> None:
    assert key_of(tmp_path)[0] == key_of(tmp_path)[0]


def test_the_log_shows_the_public_half_and_not_the_private_one(tmp_path: Path) -> None:
    public, log = key_of(tmp_path)
    private = (tmp_path / STATE / "identity.key").read_text().split()[1]
    assert fingerprint(public) in log
    assert private not in log


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 80,
        b"pv-guest-x25519-private AAAA AAAA\n",
        b"pv-guest-x25519-private " + b"A" * 43 + b"=\n",
        # Two halves that are not each other's, as after a flipped bit.
        b"pv-guest-x25519-private " + b"A" * 43 + b"= " + b"A" * 43 + b"=\n",
        b"A" * 10000,
    ],
)
def test_a_damaged_key_is_set_aside_loudly_and_a_new_one_made(tmp_path: Path, content: bytes) -> None:
    old, _ = key_of(tmp_path)
    path = tmp_path / STATE / "identity.key"
    path.write_bytes(content)
    new, log = key_of(tmp_path)
    assert new != old
    assert "held no key" in log
    assert [aside.read_bytes() for aside in path.parent.glob("identity.key.damaged-*")] == [content]
    assert key_of(tmp_path)[0] == new


def test_a_symbolic_link_in_the_keys_place_is_set_aside_and_its_target_left_alone(tmp_path: Path) -> None:
    key_of(tmp_path)
    path = tmp_path / STATE / "identity.key"
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    before = elsewhere.read_bytes()
    path.symlink_to(elsewhere)
    key_of(tmp_path)
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == before


def test_a_key_that_others_could_read_is_kept_and_closed_to_them(tmp_path: Path) -> None:
    old, _ = key_of(tmp_path)
    path = tmp_path / STATE / "identity.key"
    path.chmod(0o644)
    (tmp_path / STATE).chmod(0o755)
    new, log = key_of(tmp_path)
    assert (new, path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (old, 0o600, 0o700)
    assert "could be read by others" in log


def test_a_kill_while_the_key_is_made_leaves_a_whole_key_or_none(tmp_path: Path) -> None:
    code = (
        "import sys, os, io; from guest_agent.identity import our_key; from guest_agent.system import System\n"
        "from guest_agent.log import Log\n"
        "sys.stdout.write('go\\n'); sys.stdout.flush()\n"
        "our_key(System(sys.argv[1]), Log(io.StringIO(), {}))"
    )
    for delay in (0.0, 0.0005, 0.001, 0.002, 0.004):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=TOP, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
        public, log = key_of(tmp_path)
        assert "held no key" not in log
        assert key_of(tmp_path)[0] == public
        (tmp_path / STATE / "identity.key").unlink()


def test_two_agents_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    code = (
        "import sys, io; from guest_agent.identity import our_key; from guest_agent.system import System\n"
        "from guest_agent.log import Log\n"
        "print(our_key(System(sys.argv[1]), Log(io.StringIO(), {})).public.hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate()[0] for process in processes}) == 1


def test_a_directory_that_another_holds_for_ever_is_an_error_and_no_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "LOCK_SECONDS", 0.1)
    key_of(tmp_path)
    held = os.open(tmp_path / STATE, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(BlockingIOError), state_directory(System(tmp_path)):
            pass
    finally:
        os.close(held)


def test_with_no_file_at_all_nothing_is_pinned(tmp_path: Path) -> None:
    trust = Believed(System(tmp_path)).trust
    assert (trust.host_keys, trust.authorities) == (frozenset(), frozenset())


def test_what_the_template_pins_and_what_the_first_use_pinned_are_believed_together(tmp_path: Path) -> None:
    system, (first, pinned, authority) = System(tmp_path), (bytes([n]) * 32 for n in (1, 2, 3))
    Believed(system).pin(first)
    template(tmp_path, f"# the fleet's\n{format_key(HOST_KEY_TYPE, pinned)}\n\n{format_key(AUTHORITY_TYPE, authority, 'ops')}\n")
    trust = Believed(system).trust
    assert trust.host_keys == {first, pinned}
    assert trust.authorities == {authority}


def test_a_first_host_stays_pinned(tmp_path: Path) -> None:
    believed = Believed(System(tmp_path))
    believed.pin(bytes(32))
    believed.pin(bytes(32))
    assert believed.trust.host_keys == Believed(System(tmp_path)).trust.host_keys == {bytes(32)}


@pytest.mark.parametrize("kind", [HOST_KEY_TYPE, AUTHORITY_TYPE])
def test_nothing_is_pinned_by_first_use_where_something_was_pinned_meanwhile(tmp_path: Path, kind: str) -> None:
    believed = Believed(System(tmp_path))
    template(tmp_path, format_key(kind, bytes([7]) * 32))
    with pytest.raises(NotAuthenticated):
        believed.pin(bytes(32))
    assert bytes(32) not in believed.trust.host_keys
    assert not (tmp_path / STATE / "trusted_keys").exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"pv-host-x25519\n", 1),
        (b"# fine\n\npv-host-x25519 AAAA\n", 3),
        (b"ssh-ed25519 AAAA\n", 1),
        (format_key(HOST_KEY_TYPE, bytes(32)).encode() + b"\n\xff\xfe\n", 2),
    ],
)
def test_a_file_of_trusted_keys_with_an_error_pins_nothing_and_names_its_line(tmp_path: Path, content: bytes, line: int) -> None:
    template(tmp_path, content)
    with pytest.raises(BadTrust, match=rf"{TEMPLATE}: line {line}:"):
        Believed(System(tmp_path))


def test_a_damaged_file_of_our_own_is_an_error_too_and_not_an_empty_one(tmp_path: Path) -> None:
    Believed(System(tmp_path)).pin(bytes(32))
    (tmp_path / STATE / "trusted_keys").write_bytes(b"pv-host-x255")
    with pytest.raises(BadTrust, match="trusted_keys: line 1"):
        Believed(System(tmp_path))


def test_an_endless_file_of_trusted_keys_is_not_read_to_its_end(tmp_path: Path) -> None:
    template(tmp_path, b"#" * 1_000_000)
    with pytest.raises(BadTrust, match="more than"):
        Believed(System(tmp_path))


def test_a_public_key_from_the_file_is_the_private_halfs(tmp_path: Path) -> None:
    public, _ = key_of(tmp_path)
    words = (tmp_path / STATE / "identity.key").read_text().split()
    assert KeyPair.from_private(b64decode(words[1])).public == public
