# SPDX-License-Identifier: Apache-2.0
"""The item ``cloud-init``, in place of all but ``host-trust`` where the agent was told to hand documents over: a NoCloud seed.

cloud-init configures an instance once. A later generation of one that it has begun with is refused rather than ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import cloud_config, cloud_init
from guest_agent.actions.hostname import names
from guest_agent.actions.plan import Plan
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from pv_channel.document import Document

ITEM: Final = "cloud-init"
_CURE: Final = f"remove {cloud_init.SEED} in the template"


def plan(document: Document, draft: Draft) -> Plan | None:
    """What hands the whole *document* to cloud-init; raise `ItemError`, `OSError`."""
    system = draft.system
    if not cloud_init.is_enabled(system):
        raise cloud_init.needs("documents are handed to cloud-init here")
    cloud_init.check_sources(system)
    users = {line.partition(":")[0] for line in draft.text("/etc/passwd").splitlines()}
    user_data = "" if document.user_data is msgspec.UNSET else document.user_data
    instance = str(document.instance_id)
    short, full = names(document)
    files = {
        cloud_init.META_DATA: cloud_init.meta_data(instance, [("local-hostname", full or short)] if short else []),
        cloud_init.USER_DATA: user_data.encode("utf-8") if user_data.strip() else cloud_init.cloud_config({}),
        cloud_init.VENDOR_DATA: cloud_init.cloud_config(cloud_config.config(document, users.__contains__)),
        cloud_init.NETWORK_CONFIG: cloud_init.json_lines(cloud_config.network(document)),
    }
    changes = cloud_init.seed(draft, files, _CURE)
    changed = not all(change.holds(system) for change in changes)
    if cloud_init.has_configured(system, instance):
        if not changed:
            return Plan(changes, "with cloud-init", pending=not cloud_init.has_finished(system))
        raise ItemError(
            "not-supported",
            f"cloud-init has configured the instance {instance} already, and does that once; give another instance-id, "
            "or run the agent without --hand-to",
        )
    return Plan(changes, f"handed to cloud-init, {cloud_init.when(system)}", pending=True)
