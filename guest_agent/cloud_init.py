# SPDX-License-Identifier: Apache-2.0
"""cloud-init in this machine: whether it is enabled, the NoCloud seed that hands it something, and what it made of that.

systemd's generator decides at boot whether cloud-init runs at all, before any agent speaks: it looks for a data source, which a
seed directory is from the next boot on, and ``datasource_list: [NoCloud, None]`` is at once.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.failure import ItemError, log_tail
from guest_agent.renderers import units
from pv_channel.messages import MAX_DETAIL, ItemResult, Outcome
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.state import Target
    from guest_agent.system import System

#: Where NoCloud looks without being told (cloud-init's documentation, "NoCloud").
SEED: Final = "/var/lib/cloud/seed/nocloud"
META_DATA: Final = f"{SEED}/meta-data"
USER_DATA: Final = f"{SEED}/user-data"
VENDOR_DATA: Final = f"{SEED}/vendor-data"
NETWORK_CONFIG: Final = f"{SEED}/network-config"
SEED_FILES: Final = (META_DATA, USER_DATA, VENDOR_DATA, NETWORK_CONFIG)
#: A seed holds password hashes and private keys.
SEED_MODE: Final = 0o600
_FRAGMENTS: Final = "/etc/cloud/cloud.cfg.d"
_RUN: Final = "/run/cloud-init"
_UNIT: Final = "cloud-init-local.service"
_MAX_BYTES: Final = 256 * 1024


class _Start(msgspec.Struct, frozen=True):
    start: float | None = None


class _Stages(msgspec.Struct, frozen=True):
    init_local: _Start = msgspec.field(name="init-local", default_factory=_Start)


class _Status(msgspec.Struct, frozen=True):
    v1: _Stages


class _Errors(msgspec.Struct, frozen=True):
    datasource: str | None = None
    errors: list[str] = []


class _Result(msgspec.Struct, frozen=True):
    v1: _Errors


def is_installed(system: System) -> bool:
    """Whether the program is there."""
    return system.exists("/usr/bin/cloud-init")


def is_enabled(system: System) -> bool:
    """Whether it is installed and nobody has switched it off; the boot may still find nothing for it to do."""
    return (
        is_installed(system)
        and units.is_enabled(system, _UNIT)
        and not system.exists("/etc/cloud/cloud-init.disabled")
        and "cloud-init=disabled" not in system.text("/proc/cmdline", 4096).split()
    )


def has_configured(system: System, instance_id: str) -> bool:
    """Whether it has begun with this instance: most of what it does, it does once for each."""
    return system.exists(f"/var/lib/cloud/instances/{instance_id}")


def has_finished(system: System) -> bool:
    """Whether it came to its end in this boot."""
    return system.exists(f"{_RUN}/result.json")


def check_sources(system: System) -> None:
    """Raise `ItemError` where the list of data sources leaves the seed's out; the last file that has a list counts."""
    paths = [f"{_FRAGMENTS}/{name}" for name in system.names(_FRAGMENTS) if name.endswith(".cfg")]
    for path in [*reversed(paths), "/etc/cloud/cloud.cfg"]:
        lists = [line for line in system.text(path).splitlines() if line.startswith("datasource_list:")]
        if lists:
            if "NoCloud" not in lists[-1]:
                problem = f"{path} has a datasource_list without NoCloud; add it there"
                raise ItemError("needs-cloud-init", problem)
            return


def sits_this_boot_out(system: System) -> bool:
    """Whether the generator found nothing for it to do in this boot."""
    return system.exists(f"{_RUN}/disabled")


def runs_in_this_boot(system: System) -> bool:
    """Whether the generator let it run and its first stage, which reads the seed, is still to come."""
    return system.live and system.exists(f"{_RUN}/enabled") and not system.exists(f"{_RUN}/status.json")


def when(system: System) -> str:
    """From when on it has what is handed to it now, in words."""
    return "in this boot" if runs_in_this_boot(system) else "from the next boot on"


def seed(draft: Draft, files: dict[str, bytes], cure: str) -> list[Change]:
    """What makes the seed hold *files*; raise `ItemError` with *cure* where somebody else's seed is there."""
    changes: list[Change] = []
    for path in SEED_FILES:
        if path not in draft.before and draft.system.exists(path):
            draft.conflict(path, f"another seed for cloud-init is there; {cure}")
    for path, content in files.items():
        changes += draft.own(path, content, SEED_MODE, secret=True)
    return [*draft.gone(files), *changes]


def result(system: System, target: Target, item: str) -> ItemResult | None:
    """What it made of the seed that *target* wrote; None while that is not known. Raises nothing."""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        handed = os.stat(system.file(META_DATA)).st_mtime  # noqa: PTH116  pathlib is 4 ms that the start does without
        if _went_without(system, handed):
            detail = f"cloud-init is installed, but this boot went without it: see {_RUN}/cloud-init-generator.log"
            return ItemResult(item, Outcome.FAILED, "needs-cloud-init", detail)
        status = msgspec.json.decode(_bytes(system, f"{_RUN}/status.json"), type=_Status)
        started = status.v1.init_local.start
        if started is None or started < handed or _instance(system) != target.instance_id:
            return None
        return _of(item, msgspec.json.decode(_bytes(system, f"{_RUN}/result.json"), type=_Result).v1)
    return None


def _went_without(system: System, handed: float) -> bool:
    """Whether a boot after the seed was *handed* decided against cloud-init."""
    try:
        return os.stat(system.file(f"{_RUN}/disabled")).st_mtime > handed  # noqa: PTH116  as above
    except OSError:
        return False


def _instance(system: System) -> str:
    return system.text("/var/lib/cloud/data/instance-id", 256).strip()


def _of(item: str, ended: _Errors) -> ItemResult:
    source = printable(ended.datasource or "none", 120)
    if "NoCloud" not in source:
        detail = f"cloud-init took another data source than the seed: {source}"
        return ItemResult(item, Outcome.FAILED, "not-in-force", detail)
    if ended.errors:
        detail = f"cloud-init ended with {len(ended.errors)} error{'s' if len(ended.errors) > 1 else ''}"
        log = log_tail("\n".join(ended.errors).encode("utf-8", "replace"))
        return ItemResult(item, Outcome.FAILED, "command-failed", detail, log)
    return ItemResult(item, Outcome.APPLIED, detail=printable(f"by cloud-init, {source}", MAX_DETAIL))


def _bytes(system: System, path: str) -> bytes:
    """What the file, or what a link there leads to, holds; raise `OSError`."""
    with open(system.file(path), "rb") as file:  # noqa: PTH123  as above
        return file.read(_MAX_BYTES)


def needs(what: str) -> ItemError:
    """Why *what* cannot be done here."""
    return ItemError("needs-cloud-init", f"{what}; install cloud-init and enable it in the template")


def json_lines(values: dict[str, object]) -> bytes:
    """*values* as JSON, which is YAML, for people too."""
    return msgspec.json.format(msgspec.json.encode(values, enc_hook=str), indent=2) + b"\n"


def cloud_config(values: dict[str, object]) -> bytes:
    """*values* as user-data that cloud-init reads as its own configuration."""
    return b"#cloud-config\n" + json_lines(values)


def meta_data(instance_id: str, names: Iterable[tuple[str, str]] = ()) -> bytes:
    """The instance, and what it is called."""
    return json_lines({"instance-id": instance_id, **dict(names)})
