# SPDX-License-Identifier: Apache-2.0
"""The command `pv-guest-agent`: its arguments and its exit status (0 ok, 1 error, 2 wrong usage)."""

from __future__ import annotations

import argparse
import gc
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from guest_agent import VERSION
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Formatter(argparse.HelpFormatter):
    """Help of a fixed width: asking for the terminal's loads shutil and four compressors, help wanted or not."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0] in _VERBS:  # the parsers of the other verbs cost 2 ms, and the start is a budget
        verb, parsed = words[0], _describe(words[0], argparse.ArgumentParser).parse_args(words[1:])
    else:
        parsed = _parser().parse_args(words)
        verb = parsed.verb
    try:
        return _VERBS[verb].do(parsed)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pv-guest-agent",
        formatter_class=_Formatter,
        description="The guest's side of a Xen PV channel: makes this machine what its host says it shall be.",
        epilog="Exit status: 0 ok, 1 error, 2 wrong usage. Keys and state are in /var/lib/pv-guest-agent.",
    )
    parser.add_argument("--version", action="version", version=f"pv-guest-agent {VERSION}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, verb in _VERBS.items():
        _describe(name, partial(verbs.add_parser, name, help=verb.summary))
    return parser


def _describe(name: str, make: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The parser of one verb, made by *make*."""
    verb = _VERBS[name]
    description = f"{verb.summary[0].upper()}{verb.summary[1:]}. {verb.more}"
    parser = make(prog=f"pv-guest-agent {name}", description=description, formatter_class=_Formatter)
    verb.add_arguments(parser)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channel", metavar="NAME", default=CHANNEL_NAME, help="the channel's name (default: %(default)s)")
    parser.add_argument("--tty", metavar="PATH", help="the channel's tty; skips the search on the xen bus")
    parser.add_argument("--root", metavar="DIR", default="/", help="configure the machine under DIR instead of the running one")
    parser.add_argument(
        "--once", action="store_true", help="end after the first document: 0 where it was applied or in force already, else 1"
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=10.0,
        help="how long a machine's first boot waits for the host, and how long --once does (default: %(default)g)",
    )
    _add_hand_to(parser)
    _add_registry(parser)


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    """The verb has no arguments."""


def _add_hand_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hand-to", metavar="cloud-init", choices=["cloud-init"], help="make documents cloud-init's seed, and let it do the rest"
    )


def _add_channels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    _add_registry(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the document, JSON; '-' for standard input")
    parser.add_argument("--root", metavar="DIR", default="/", help="the machine under DIR instead of the running one")
    parser.add_argument("--json", action="store_true", help="a JSON object instead of lines")
    _add_hand_to(parser)


def _add_install(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", default="/", help="the system to install into (default: the running one)")
    parser.add_argument("--agent", metavar="PATH", help="where pv-guest-agent is in that system (default: in /usr/local/bin)")
    _add_hand_to(parser)
    parser.add_argument("--uninstall", action="store_true", help="remove what install put there")


def _add_seal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", default="/", help="the system to seal (default: the running one)")
    parser.add_argument(
        "--trust", metavar="FILE|LINE", action="append", default=[], help="pin a key, in the form of 'pv-host-agent keys show'"
    )
    parser.add_argument("--first-use", action="store_true", help="pin nothing: clones believe the first host that speaks")
    parser.add_argument("--network", action="store_true", help="comment out or remove what others say of interfaces")
    parser.add_argument("--logs", action="store_true", help="remove logs and root's shell histories too")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _add_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registry", metavar="FILE", help="the registry of channel names (default: the agent's own)")


def _seconds(text: str) -> float:
    """A number of seconds from 0 to a day."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"expected a number of seconds from 0 to 86400, got '{text}'")
    return seconds


def _run(parsed: argparse.Namespace) -> int:
    # What modules make while they load is no garbage, and looking for some costs 2.5 of 63 ms. `run` enables it again.
    gc.disable()
    from guest_agent.run import run

    return run(parsed)


def _channels(parsed: argparse.Namespace) -> int:
    from guest_agent.channels import show

    return show(parsed)


def _plan(parsed: argparse.Namespace) -> int:
    from guest_agent.dry_run import show

    return show(parsed)


def _user_data(parsed: argparse.Namespace) -> int:
    from guest_agent.user_data import run

    return run(parsed)


def _install(parsed: argparse.Namespace) -> int:
    from guest_agent.install import install_or_remove

    return install_or_remove(parsed)


def _seal(parsed: argparse.Namespace) -> int:
    from guest_agent.seal import seal

    return seal(parsed)


class _Verb:
    """What it is for, in two sentences; its arguments; and what it does. No NamedTuple: making one costs as much as a module."""

    def __init__(
        self,
        summary: str,
        more: str,
        add_arguments: Callable[[argparse.ArgumentParser], None],
        do: Callable[[argparse.Namespace], int],
    ) -> None:
        self.summary, self.more = summary, more
        self.add_arguments, self.do = add_arguments, do


_VERBS: Final = {
    "run": _Verb("serve the channel", "Find the channel, answer the host, apply what it sends.", _add_run, _run),
    "channels": _Verb("show this guest's channels", "Names, ttys and owners.", _add_channels, _channels),
    "plan": _Verb("show what a document would change", "Every diff and every command; nothing is touched.", _add_plan, _plan),
    "user-data": _Verb(
        "run the scripts of user-data", "Those that never began, once; started by its unit.", _add_nothing, _user_data
    ),
    "install": _Verb("put the udev rule and the units in place", "Repeating it is safe.", _add_install, _install),
    "seal": _Verb("make this machine a template", "Shows what it will do and asks; undone by nothing.", _add_seal, _seal),
}


if __name__ == "__main__":
    sys.exit(main())
