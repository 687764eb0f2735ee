# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent keys trust` and `revoke`: documents tell guests whom to believe besides, and whom never again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.errors import shown
from host_agent.install import DOCUMENTS
from host_agent.verbs import options
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, fingerprint

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from host_agent.authorities.told import Told


def describe(add: Callable[[str, str], ArgumentParser]) -> None:
    """Their arguments."""
    trust = add("trust", "have documents tell guests to believe an authority or a host besides those that they believe")
    line = "its public key: the line, a file with it, or -"
    trust.add_argument("key", metavar="KEY", help=line)
    trust.add_argument("--name", required=True, metavar="NAME", help="what to call it in documents")
    revoke = add("revoke", "have documents tell guests never to believe a host's key or an authority's again")
    revoke.add_argument("key", metavar="KEY", help=f"its fingerprint, as SHA256:...; or {line}")
    revoke.add_argument("--reason", default="", metavar="TEXT", help="why, for people")
    revoke.add_argument("--force", action="store_true", help="even this host's own key, or its authority's")
    for verb in (trust, revoke):
        directory(verb)
        verb.add_argument("--into", type=Path, metavar="FILE", help="the layer that says it (default: defaults.yaml beside them)")


def directory(verb: ArgumentParser) -> None:
    """``--documents``."""
    words = "the directory of the VMs' documents (default: %(default)s)"
    verb.add_argument("--documents", type=Path, default=options.ROOT / DOCUMENTS, metavar="DIR", help=words)


def trust(arguments: Namespace) -> int:
    """Have a layer say it."""
    from host_agent.authorities import told

    key = told.public_key(_text(arguments.key), arguments.key)
    return _tell(told.trust(arguments.documents, arguments.into, arguments.name, key), f"to believe {fingerprint(key.raw)}")


def revoke(arguments: Namespace) -> int:
    """Have a layer say it, unless this very host would be refused."""
    from host_agent.authorities import told

    given: str = arguments.key
    revoked = given if told.is_fingerprint(given) else fingerprint(told.public_key(_text(given), given).raw)
    if not arguments.force:
        told.check_not_ours(arguments.state, revoked)
    return _tell(told.revoke(arguments.documents, arguments.into, revoked, arguments.reason), f"never to believe {revoked} again")


def _tell(said: Told, what: str) -> int:
    """What was written, and which VMs it does not reach: then the exit status is 1."""
    from host_agent.authorities.told import some

    word = "now" if said.is_new else "already"
    print(f"{shown(said.path)}: {word} tells guests {what}; 'pv-host-agent wait --all' sees it done")
    if said.silent:
        why = "not told, for their documents do not say it (without defaults, or bad)"
        print(f"pv-host-agent keys: {why}: {some(said.silent)}", file=sys.stderr)
    return 1 if said.silent else 0


def _text(key: str) -> str:
    """A key's line, as it was said or as a file has it."""
    if key.startswith((HOST_KEY_TYPE, AUTHORITY_TYPE)):
        return key
    return read(Path(key)).decode("latin-1")


def read(path: Path) -> bytes:
    """What a small file holds, or standard input where that is -."""
    from host_agent.authorities import key_lines

    return sys.stdin.buffer.read(key_lines.MAX_BYTES + 1) if str(path) == "-" else key_lines.read_public(path)
