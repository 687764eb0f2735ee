# SPDX-License-Identifier: Apache-2.0
"""Scripts by which shells complete pv-host-agent's command line: verbs and options from its parser, VMs from the ledger."""

from __future__ import annotations

import re
from argparse import _SubParsersAction
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable

SHELLS: Final = ("bash", "zsh", "fish")
#: What a script runs to learn the names of VMs.
NAMES_COMMAND: Final = "pv-host-agent completion --vms 2>/dev/null"
#: A shell takes nothing but these characters for what they are, whoever named the VM.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*", re.ASCII)
_OF_BASH: Final = """
_pv_host_agent_vms() {
  local vm
  while IFS= read -r vm; do
    [[ $vm == "$1"* ]] && printf '%s\\n' "$vm"
  done < <(COMMAND)
}"""
_OF_ZSH: Final = """
_pv_host_agent_vms() {
  local -a vms
  vms=(${(f)"$(COMMAND)"})
  compadd -a vms
}"""
_VM: Final = {
    "bash": "_pv_host_agent_vms",
    "zsh": "_pv_host_agent_vms",
    "fish": f"({NAMES_COMMAND})",
    "preamble": {"bash": _OF_BASH.replace("COMMAND", NAMES_COMMAND), "zsh": _OF_ZSH.replace("COMMAND", NAMES_COMMAND)},
}


def script(parser: ArgumentParser, shell: str) -> str:
    """The script for *shell*, one of `SHELLS`; *parser* is changed for it."""
    import shtab

    files = dict.fromkeys(("FILE", "PATH", "SOCKET", "FILE.pub", "PATH.prom", "REQUEST", "CERTIFICATE", "KEY"), shtab.FILE)
    _attach(parser, {**files, "DIR": shtab.DIRECTORY, "VM": _VM})
    return shtab.complete(parser, shell)


def plain_names(names: Iterable[str]) -> list[str]:
    """Those of *names* that mean themselves in every shell, sorted, each once."""
    return sorted({name for name in names if _PLAIN_NAME.fullmatch(name)})


def _attach(parser: ArgumentParser, known: dict[str, Any]) -> None:
    """Have each argument whose metavar is *known* completed so."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for below in action.choices.values():
                _attach(below, known)
        elif isinstance(action.metavar, str) and action.metavar in known:
            action.complete = known[action.metavar]  # type: ignore[attr-defined]  # where shtab looks for it
