# SPDX-License-Identifier: Apache-2.0
"""`./run chaos [SECONDS] [--seed N]`: exit 0 where all guests came through, 1 with what was wrong and how to see it again."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.run import Run
from host_agent.at_start import allow_many_files

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="./run chaos", description="Guests, the service, and all that can happen to them.")
    parser.add_argument("seconds", nargs="?", type=float, default=600.0, help="how long it goes on (default: %(default)g)")
    parser.add_argument("--seed", type=int, help="repeat the run of this seed")
    parser.add_argument("--guests", type=int, default=200, help="how many guests (default: %(default)s)")
    parser.add_argument("--no-etcd", action="store_true", help="documents in a directory, and no etcd")
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}: {chosen.guests} guests, {chosen.seconds:g} s", flush=True)
    allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and all that was started is ended
    work = Path(tempfile.mkdtemp(prefix="pv-chaos-"))
    summary = Run(work, seed, chosen.seconds, chosen.guests, etcd=not chosen.no_etcd).go()
    for line in summary.text:
        print(line)
    if not summary.faults:
        shutil.rmtree(work)
        print("every VM is what it should be")
        return 0
    for fault in summary.faults[:50]:
        print(f"wrong: {fault}", file=sys.stderr)
    print(f"{len(summary.faults)} things were wrong; all that was written is in {work}", file=sys.stderr)
    without = " --no-etcd" if chosen.no_etcd else ""
    print(f"again: ./run chaos {chosen.seconds:g} --seed {seed} --guests {chosen.guests}{without}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
