# SPDX-License-Identifier: Apache-2.0
"""The item ``user-data``: to cloud-init where that is enabled, and otherwise its scripts run once in the life of an instance.

cloud-init gets user-data alone: everything else of the machine is the document's affair, or nobody's. A user-data that says
something else of it is believed.

cloud-init's rule holds in both cases: another user-data in a later generation of the same instance is kept or ignored, never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import cloud_config, cloud_init, scripts, user_data_run
from guest_agent.actions.plan import Plan
from guest_agent.changes.files import MakeDirectory, MakeLink, RemoveFile, WriteFile, missing_parents
from guest_agent.failure import ItemError
from guest_agent.state import Target
from guest_agent.user_data_run import BEGUN, DIRECTORY, RESULT, RUN, SCRIPT, UNIT, WANTS
from pv_channel.digest import sha256
from pv_channel.document import KEY_TYPES
from pv_channel.text import printable

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.document import Document

_UNIT_DIRECTORIES: Final = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
#: Where the unit may have been put: by us, or by a distribution's package.
_UNIT_PATHS: Final = tuple(f"{directory}/{UNIT}" for directory in _UNIT_DIRECTORIES)
_CURE: Final = f"remove {cloud_init.SEED} in the template"


def plan(document: Document, draft: Draft) -> Plan | None:
    """What gets the document's user-data to whoever runs it; None where it has none. Raise `ItemError`, `OSError`."""
    if document.user_data is msgspec.UNSET:
        return None
    try:
        found = scripts.find(document.user_data)
    except ValueError as exc:
        raise ItemError("not-supported", f"user-data: {exc}") from None
    if _is_cloud_inits(found, draft.system):
        return _handed(document, document.user_data, draft)
    return _run_by_us(document, document.user_data, found, draft)


def _is_cloud_inits(found: scripts.Found, system: System) -> bool:
    """Whether cloud-init gets it. Where that sits this boot out, scripts do not wait for the next one, which may never come."""
    return cloud_init.is_enabled(system) and (bool(found.other) or not cloud_init.sits_this_boot_out(system))


def _handed(document: Document, user_data: str, draft: Draft) -> Plan:
    instance = str(document.instance_id)
    changes = _forget(draft)
    if not user_data.strip():
        return Plan([*changes, *draft.gone([])], "none")
    files = {
        cloud_init.META_DATA: cloud_init.meta_data(instance),
        cloud_init.USER_DATA: user_data.encode("utf-8"),
        cloud_init.VENDOR_DATA: cloud_init.cloud_config(cloud_config.NOTHING | _host_keys(draft)),
        cloud_init.NETWORK_CONFIG: cloud_init.json_lines(cloud_config.NO_NETWORK),
    }
    changes += cloud_init.seed(draft, files, _CURE)
    if cloud_init.has_configured(draft.system, instance):
        detail = "with cloud-init, which has begun with this instance: what it does once it does not do again"
        return Plan(changes, detail, pending=not cloud_init.has_finished(draft.system))
    cloud_init.check_sources(draft.system)
    return Plan(changes, f"handed to cloud-init, {cloud_init.when(draft.system)}", pending=True)


def _host_keys(draft: Draft) -> dict[str, object]:
    """That there shall be host keys of the types that there are, for cloud-init makes what it misses."""
    types = [kind for kind in KEY_TYPES if draft.read(f"/etc/ssh/ssh_host_{kind}_key") is not None]
    return {"ssh_genkeytypes": types} if types else {}


def _run_by_us(document: Document, user_data: str, found: scripts.Found, draft: Draft) -> Plan:
    if found.other:
        raise cloud_init.needs(f"user-data has '{found.other}', which is no script")
    changes: list[Change] = list(draft.gone([]))  # a seed of ours, from when cloud-init was enabled
    digest = sha256(user_data.encode("utf-8")).hex()[:32]
    known = _known(document, digest, draft)
    if known is not None:
        return Plan([*changes, *known.changes], known.detail, known.pending)
    if not found.scripts:
        return Plan([*changes, *_forget(draft)], "none")
    if not any(map(draft.system.exists, _UNIT_PATHS)):
        raise ItemError("not-supported", f"{UNIT}, which runs scripts, is missing; 'pv-guest-agent install' puts it in place")
    run = user_data_run.Run(_target(document), digest, [SCRIPT.format(n) for n in range(1, len(found.scripts) + 1)])
    files = {f"{DIRECTORY}/{name}": content for name, content in zip(run.scripts, found.scripts, strict=True)}
    changes += _forget(draft, files)
    if not draft.system.exists(DIRECTORY):
        changes += [*missing_parents(draft.system, DIRECTORY), MakeDirectory(DIRECTORY, 0o700)]
    changes += [WriteFile(path, content, 0o700, secret=True) for path, content in files.items()]
    changes += [WriteFile(f"{DIRECTORY}/{RUN}", msgspec.json.encode(run), 0o600)]
    unit = next(path for path in _UNIT_PATHS if draft.system.exists(path))
    changes += [*missing_parents(draft.system, WANTS), MakeLink(WANTS, unit)]
    count = f"{len(files)} script{'' if len(files) == 1 else 's'}"
    detail = f"{count} to run when the network is there"
    return Plan(changes, detail, pending=True, afterwards=(("systemctl", "start", "--no-block", UNIT),))


def _known(document: Document, digest: str, draft: Draft) -> Plan | None:
    """The answer where scripts of this instance have run, run now, or wait to be run; None where it has had none."""
    try:
        ended = user_data_run.load(draft.system, RESULT)
        begun = user_data_run.load(draft.system, BEGUN)
        waiting = user_data_run.load_run(draft.system)
    except ValueError as exc:
        raise ItemError("io-error", f"what ran already cannot be read in {DIRECTORY}: {printable(exc, 80)}; remove it") from None
    instance = str(document.instance_id)
    if ended is not None and ended.target.instance_id == instance:
        detail = f"ran in generation {ended.target.generation} of this instance: {ended.item().detail}"
        return Plan([], detail + _ignored(digest, ended.digest))
    if begun is not None and begun.target.instance_id == instance:
        return Plan([], f"running since generation {begun.target.generation}{_ignored(digest, begun.digest)}", pending=True)
    if waiting is not None and (waiting.target.instance_id, waiting.digest) == (instance, digest):
        return Plan([], f"waiting since generation {waiting.target.generation} to be run", pending=True)
    return None


def _ignored(wanted: str, ran: str) -> str:
    return "" if wanted == ran else "; this one is another, and is not run: scripts run once for an instance"


def _forget(draft: Draft, wanted: dict[str, bytes] | None = None) -> list[Change]:
    """What removes scripts that nobody has begun to run, but for the *wanted* files."""
    keep = {RESULT} if wanted is None else {RESULT, RUN}
    left = [name for name in draft.system.names(DIRECTORY) if name not in keep and not name.startswith(".")]
    paths = [path for path in (f"{DIRECTORY}/{name}" for name in left) if path not in (wanted or {})]
    changes: list[Change] = [RemoveFile(path, secret=True) for path in paths]
    return changes if wanted else [*changes, *([RemoveFile(WANTS)] if draft.system.exists(WANTS) else [])]


def _target(document: Document) -> Target:
    generation = 0 if document.generation is msgspec.UNSET else document.generation
    return Target(str(document.instance_id), generation, document.digest())
