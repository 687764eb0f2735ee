# SPDX-License-Identifier: Apache-2.0
"""The lab by hand: build it, boot it, run things in its dom0 and its guests, stop it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab import images
from lab.domain_config import Channel
from lab.errors import EmulatorFault, LabError
from lab.running import Lab, left_running_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.dom0 import Completed

#: The project's own channel, which `create` gives to each guest.
CHANNEL_NAME = "org.pvchannel.config.1"

_EXAMPLES = """\
examples:
  python -m lab boot
  python -m lab create vm1
  python -m lab guest vm1 'networkctl; journalctl -b -u "pv-guest-agent@*"'
  python -m lab d0 'pv-host-agent push --socket /run/pv-channel/vm1.sock vm1.yaml'
  python -m lab stop
"""


def say(text: str) -> None:
    """Print progress where it does not mix with a script's output."""
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit status: a script's own, 1 for an error, 3 when the emulator failed."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.do(arguments))
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except EmulatorFault as fault:
        say(f"lab: the emulator failed, which says nothing about the project: {fault}")
        return 3
    except KeyboardInterrupt:
        say("lab: interrupted")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(do=do)
        return added

    command("build", build, "build the images, if anything has changed (root)")
    command("boot", boot, "build, boot, and leave the machine running")
    command("stop", stop, "end the machine")
    dom0 = command("d0", in_dom0, "run a bash script in dom0")
    dom0.add_argument("script", help="the script; - reads it from standard input")
    create = command("create", create_guest, f"create a guest with the channel {CHANNEL_NAME} and wait until it is up")
    create.add_argument("name")
    create.add_argument("--kind", choices=["pvh", "pv"], default="pvh")
    guest = command("guest", in_guest, "run a bash script in a guest, over its console")
    guest.add_argument("name")
    guest.add_argument("script", help="the script; - reads it from standard input")
    console = command("console", show_console, "print what a guest has printed")
    console.add_argument("name")
    destroy = command("destroy", destroy_guest, "end a guest and forget its disk")
    destroy.add_argument("name")
    put = command("put", put_file, "copy a file into dom0")
    put.add_argument("file", type=Path)
    put.add_argument("path", help="where to, in dom0")
    get = command("get", get_file, "copy a file from dom0 to standard output")
    get.add_argument("path")
    return parser


def build(_arguments: argparse.Namespace) -> int:
    """Build the images."""
    built = images.build(say)
    print(built.dom0, built.guest, sep="\n")
    return 0


def boot(_arguments: argparse.Namespace) -> int:
    """Boot a machine that outlives us."""
    if Lab.find(left_running_at()) is not None:
        raise LabError("a lab is running already; python -m lab stop ends it")
    started = time.monotonic()
    Lab.boot(say, keep_at=left_running_at())
    say(f"lab: dom0 is up after {time.monotonic() - started:.0f} s; python -m lab stop ends it")
    return 0


def stop(_arguments: argparse.Namespace) -> int:
    """End the machine that was left running."""
    if (lab := Lab.find(left_running_at())) is not None:
        lab.stop()
    return 0


def _running() -> Lab:
    if (lab := Lab.find(left_running_at(), say)) is None:
        raise LabError("no lab is running; python -m lab boot starts one")
    return lab


def _script(arguments: argparse.Namespace) -> str:
    return sys.stdin.read() if arguments.script == "-" else str(arguments.script)


def _print_live(text: str) -> None:
    print(text, end="", flush=True)


def in_dom0(arguments: argparse.Namespace) -> int:
    """Run a script in dom0, its output as it comes."""
    return _running().dom0.run(_script(arguments), check=False, live=_print_live).status


def in_guest(arguments: argparse.Namespace) -> int:
    """Run a script in a guest."""
    done: Completed = _running().dom0.run_in_guest(arguments.name, _script(arguments), check=False)
    _print_live(done.output)
    return done.status


def create_guest(arguments: argparse.Namespace) -> int:
    """Create a guest with our channel."""
    socket = Channel(CHANNEL_NAME, path=f"/run/pv-channel/{arguments.name}.sock")
    guest = _running().create(arguments.name, kind=arguments.kind, channels=[socket])
    state = guest.wait_ready()
    print(f"{guest.name} is up ({state}): uuid {guest.uuid}, mac {guest.config.mac}, channel {socket.path} in dom0")
    return 0


def show_console(arguments: argparse.Namespace) -> int:
    """Print a guest's console."""
    print(_running().guest(arguments.name).console(), end="")
    return 0


def destroy_guest(arguments: argparse.Namespace) -> int:
    """End a guest and forget its disk."""
    _running().guest(arguments.name).destroy()
    return 0


def put_file(arguments: argparse.Namespace) -> int:
    """Copy a file into dom0."""
    _running().dom0.put(arguments.path, arguments.file.read_bytes())
    return 0


def get_file(arguments: argparse.Namespace) -> int:
    """Copy a file out of dom0."""
    sys.stdout.buffer.write(_running().dom0.get(arguments.path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
