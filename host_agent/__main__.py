# SPDX-License-Identifier: Apache-2.0
"""Arguments, logging and exit status of pv-host-agent."""

from __future__ import annotations

import logging
import os
import sys

from host_agent import cli, standard_streams
from host_agent.errors import HostError
from host_agent.verbs import load

#: What journald takes for priorities (sd-daemon(3)).
_PRIORITY = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>"}


class _ForJournal(logging.Formatter):
    """Lines with journald's priorities; it keeps the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = _PRIORITY.get(record.levelno, "<3>")
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    standard_streams.complete()
    arguments = cli.parse(sys.argv[1:] if argv is None else argv)
    _log(verbose=getattr(arguments, "verbose", False))
    try:
        return load(arguments.verb).run(arguments)
    except HostError as exc:
        print(f"pv-host-agent: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def backend() -> int:
    """The program pv-channel-backend: a description file names a program, and has no place for a verb."""
    return main(["backend", *sys.argv[1:]])


def _log(*, verbose: bool) -> None:
    """Log to the journal by its own protocol where standard error is the journal, else to standard error."""
    handler = _journal() if "JOURNAL_STREAM" in os.environ else None
    if handler is None:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


def _journal() -> logging.Handler | None:
    from host_agent.log.journal import Journal, stderr_is_journal

    if not stderr_is_journal(os.environ["JOURNAL_STREAM"]):  # redirected since
        return None
    try:
        return Journal()
    except OSError:  # its socket is not there, as in a chroot: by lines, then
        handler = logging.StreamHandler()
        handler.setFormatter(_ForJournal("%(message)s"))
        return handler


if __name__ == "__main__":
    sys.exit(main())
