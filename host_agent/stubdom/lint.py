# SPDX-License-Identifier: Apache-2.0
"""Say what of a QEMU's command line cannot work inside a stubdomain, before it is started there and fails where nobody looks.

Whatever bytes the arguments are, there are findings or there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.stubdom import argv
from host_agent.stubdom.lint_devices import disks, graphics, nics
from host_agent.stubdom.lint_finding import Finding
from host_agent.stubdom.lint_options import options
from host_agent.stubdom.lint_paths import paths
from host_agent.stubdom.lint_process import daemon, domain, incoming, monitors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: As long as every VM's is.
_DIRECTORY: Final = argv.directory_of("/vm/00000000-0000-0000-0000-000000000000")
_RULES: Final = (daemon, monitors, incoming, domain, disks, nics, graphics, paths)


def lint(arguments: Sequence[bytes], target: int | None = None, has: Sequence[str] = ()) -> list[Finding]:
    """What is wrong with them, in their order; *target* is the domain that QEMU is for, where that is known.

    *has* are the files and directories, besides /dev, /proc, /sys and /usr/share, that the stubdomain is known to have.
    """
    said = options(arguments)
    found = [finding for rule in _RULES for finding in rule(said, target, has)]
    return sorted([*_limits(arguments), *found], key=lambda finding: finding.number)


def _limits(arguments: Sequence[bytes]) -> Iterator[Finding]:
    try:
        argv.check(arguments, _DIRECTORY)
    except argv.BadArgument as exc:
        sentence, _, cure = str(exc).removesuffix("; nothing was written").partition("; cure: ")
        yield Finding("limit", exc.number, sentence.partition(": ")[2], cure)
