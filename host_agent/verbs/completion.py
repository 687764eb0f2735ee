# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent completion`: print the script by which a shell completes this command's verbs, options, VMs and files."""

from __future__ import annotations

import argparse

from host_agent.completion import SHELLS
from host_agent.verbs import options


def describe(verb: argparse.ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Print a completion script for a shell. For bash: 'pv-host-agent completion bash > /etc/bash_completion.d/pv-host-agent';"
        " for zsh: '... zsh > /usr/local/share/zsh/site-functions/_pv-host-agent'; for fish: '... fish >"
        " /etc/fish/completions/pv-host-agent.fish'. Names of VMs are looked up in the ledger whenever they are completed."
    )
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("shell", nargs="?", choices=SHELLS, metavar="SHELL", help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}")
    what.add_argument("--vms", action="store_true", help=argparse.SUPPRESS)  # for the scripts
    options.state(verb)


def run(arguments: argparse.Namespace) -> int:
    """Print it; for the scripts the names of the VMs, a line each."""
    from host_agent import completion

    if arguments.vms:
        from host_agent.views.status import View

        with View(arguments.state) as view:
            names = [vm["vm"] for vm in view.all()]
        print("".join(f"{name}\n" for name in completion.plain_names(names)), end="")
    else:
        from host_agent.cli import parser

        print(completion.script(parser(), arguments.shell))
    return 0
