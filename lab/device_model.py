# SPDX-License-Identifier: Apache-2.0
"""What makes a guest a stubdomain: a QEMU of this machine with all that it loads, and dom0's proxy for its monitor."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.programs import run, search_path

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A machine with 16 MB of memory and its firmware is all that a stubdomain of the lab emulates.
MEGABYTES = 640

QEMU = "qemu-system-x86_64"
#: Debian's QEMU loads its own accelerator as a module; without it not even a machine without parts starts.
_MODULES = ("accel-tcg-x86_64.so",)
_FIRMWARE = ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin")
_DATA = (Path("/usr/share/seabios"), Path("/usr/share/qemu"))
_LIBRARY = re.compile(r"(?:=>\s+|^\s+)(/\S+) \(0x", re.MULTILINE)

#: In dom0, with the guest's disk mounted at /mnt: the other end of a monitor over vchan, and its libraries.
ADD_PROXY = """
proxy=$(ls /usr/lib/xen-*/bin/vchan-socket-proxy)
ldd $proxy | sed -n 's/.*=> \\(\\/[^ ]*\\) .*/\\1/p' | while read -r library; do
    [ -e "/mnt$library" ] || cp -L --parents "$library" /mnt
done
cp --parents $proxy /mnt
"""


def archive() -> bytes:
    """Return a tar of this machine's QEMU, to be unpacked at a guest's root; LabError where there is none."""
    program = shutil.which(QEMU, path=search_path())
    if program is None:
        raise LabError(f"no {QEMU} on this machine; as root: apt-get install -y --no-install-recommends qemu-system-x86")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path in dict.fromkeys([Path(program), *_modules(), *_firmware(), *_libraries([program, *map(str, _modules())])]):
            tar.add(path.resolve(), arcname=str(path).lstrip("/"), recursive=False)
    return made.getvalue()


def _modules() -> list[Path]:
    found = [path for name in _MODULES for path in Path("/usr/lib").glob(f"*/qemu/{name}")]
    if len(found) != len(_MODULES):
        raise LabError(f"{QEMU} lacks one of its modules {', '.join(_MODULES)} in /usr/lib/*/qemu")
    return found


def _firmware() -> Iterator[Path]:
    for name in _FIRMWARE:
        yield from (directory / name for directory in _DATA if (directory / name).exists())


def _libraries(programs: list[str]) -> list[Path]:
    """What the loader would load for *programs*, by the names that it looks for."""
    return [Path(path) for program in programs for path in _LIBRARY.findall(run(["ldd", program]))]
