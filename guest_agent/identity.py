# SPDX-License-Identifier: Apache-2.0
"""Who this guest is and whom it believes: its key, what its template pinned, the first host it met, and what documents said."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from binascii import a2b_base64, b2a_base64
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from guest_agent import files
from guest_agent.directories import add_directories, sync
from pv_channel.errors import LocalError, NotAuthenticated
from pv_channel.noise import KeyPair
from pv_channel.trust import HOST_KEY_TYPE, Trust, fingerprint, format_key, parse_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.log import Log
    from guest_agent.system import System

#: What the agent knows across reboots. 0700: the private key is in it.
STATE_DIRECTORY: Final = "/var/lib/pv-guest-agent"
STATE_MODE: Final = 0o700
KEY_NAME: Final = "identity.key"
KEY_MODE: Final = 0o600
TRUSTED_NAME: Final = "trusted_keys"
#: Whom documents said to believe, and whom no more (the item ``host-trust``).
HOST_TRUST: Final = f"{STATE_DIRECTORY}/host_trust"
#: What the template's maker pinned; an operator's file, which the agent only reads.
TEMPLATE_TRUSTED: Final = "/etc/pv-guest-agent/trusted_keys"

#: Another agent holds the directory for as long as a file takes; longer means that it hangs, and waiting would be to hang too.
LOCK_SECONDS: Final = 10.0

_KEY_TYPE: Final = b"pv-guest-x25519-private"
#: A fleet's worth of authorities and hosts with comments; more is not such a file.
MAX_TRUSTED_BYTES: Final = 256 * 1024


class BadTrust(Exception):  # noqa: N818 -- it says what the file is
    """A file of trusted keys that cannot be read as one. Guessing what it pins would be to trust everyone."""


@contextmanager
def state_directory(system: System) -> Iterator[int]:
    """The open state directory, made where it was missing, ours alone while this lasts; raise `OSError`."""
    new = add_directories(system, STATE_DIRECTORY, STATE_MODE)
    with system.directory(STATE_DIRECTORY) as opened:
        _lock(opened)
        if os.fstat(opened).st_mode & 0o077:
            os.fchmod(opened, STATE_MODE)
        yield opened
    sync(system, new)  # last: on most file systems the files' own fsync did it already, and this costs nothing


def _lock(directory: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def our_key(system: System, log: Log) -> KeyPair:
    """This guest's key pair, made and stored durably where there was none; raise `OSError`.

    A file that holds no key is set aside and a new key made: the host will see a changed key, and its operator decides.
    """
    with state_directory(system) as state:
        stored = _read(state, KEY_NAME, 4096)
        if stored is not None:
            key = _decode(stored.content)
            if key is not None:
                if stored.mode & 0o077:
                    log.alert(f"{STATE_DIRECTORY}/{KEY_NAME} could be read by others; its mode is 0600 again")
                    files.replace(state, KEY_NAME, files.new_file(stored.content, KEY_MODE))
                return key
            _set_aside(state, log)
        key = KeyPair.generate()
        files.replace(state, KEY_NAME, files.new_file(_encode(key), KEY_MODE))
        log.note(f"made this guest's key, {fingerprint(key.public)}")
        return key


def _read(state: int, name: str, limit: int) -> files.Stored | None:
    """The file *name*; what is no regular file, or too large to be one of ours, reads as an empty one."""
    try:
        return files.read(state, name, limit)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR, errno.EFBIG):
            return files.new_file(b"", KEY_MODE)
        raise


def _encode(key: KeyPair) -> bytes:
    """Type, private half, public half: what was damaged does not fit together any more."""
    halves = (b2a_base64(half, newline=False) for half in (key.private_bytes(), key.public))
    return b"%b %b %b\n" % (_KEY_TYPE, *halves)


def _decode(content: bytes) -> KeyPair | None:
    try:
        key = KeyPair.from_private(a2b_base64(content.split(b" ")[1], strict_mode=True))
    except (IndexError, ValueError, LocalError):
        return None
    return key if _encode(key) == content else None


def _set_aside(state: int, log: Log) -> None:
    name = f"{KEY_NAME}.damaged-{time.time_ns()}"
    os.rename(KEY_NAME, name, src_dir_fd=state, dst_dir_fd=state)
    os.fsync(state)
    log.fail(
        f"{STATE_DIRECTORY}/{KEY_NAME} held no key; it is now {name}, and this guest has a new key. "
        "The host will report a changed key: accept it there"
    )


class Believed:
    """Whom this guest believes: `trust`, as the template, the first use and documents have it."""

    def __init__(self, system: System) -> None:
        """Raise `BadTrust` naming file and line, or `OSError`."""
        self._system = system
        self.trust = pins(system)

    def read_again(self) -> Trust:
        """`trust` as the files have it by now; on `BadTrust` or `OSError` it is what it was."""
        self.trust = pins(self._system)
        return self.trust

    def pin(self, host_key: bytes) -> None:
        """Believe *host_key*, the first that this guest met, and from now on no other; durable when this returns.

        Raise `NotAuthenticated` where another is pinned by now, `OSError` where it cannot be written; `trust` is then the old one
        or what was read.
        """
        if self._is_settled(host_key):
            return
        with state_directory(self._system) as state:
            self.read_again()
            if self._is_settled(host_key):
                return
            line = format_key(HOST_KEY_TYPE, host_key, "the first host this guest met")
            content = f"# Written by pv-guest-agent. Remove the line to believe another host, the next that greets.\n{line}\n"
            files.replace(state, TRUSTED_NAME, files.new_file(content.encode("ascii"), KEY_MODE))
            self.trust |= Trust(frozenset((host_key,)))

    def _is_settled(self, host_key: bytes) -> bool:
        if not self.trust.pinned:
            return False
        if host_key not in self.trust.host_keys:
            raise NotAuthenticated(f"another key was pinned meanwhile; this one is {fingerprint(host_key)}")
        return True


def pins(system: System, *, but: str = "") -> Trust:
    """What all files of trusted keys say, *but* the one that is named; raise `BadTrust` naming file and line, or `OSError`."""
    trust = Trust()
    for path in (TEMPLATE_TRUSTED, f"{STATE_DIRECTORY}/{TRUSTED_NAME}", HOST_TRUST):
        if path != but:
            trust |= _parse(system, path)
    return trust


def _parse(system: System, path: str) -> Trust:
    where = system.file(path)
    try:
        with open(where, "rb") as file:  # noqa: PTH123 -- pathlib is 4 ms that the start does without
            content = file.read(MAX_TRUSTED_BYTES + 1)
    except FileNotFoundError:
        return Trust()
    try:
        if len(content) > MAX_TRUSTED_BYTES:
            raise LocalError(f"more than {MAX_TRUSTED_BYTES} bytes")
        return parse_trusted(content.decode("ascii"))
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise BadTrust(f"{where}: line {line}: a byte that is not ASCII; correct the line or remove it") from None
    except LocalError as exc:
        raise BadTrust(f"{where}: {exc}; correct the line or remove it") from None
