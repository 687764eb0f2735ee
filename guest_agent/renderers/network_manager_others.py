# SPDX-License-Identifier: Apache-2.0
"""The profiles that somebody else made for NetworkManager, and the interfaces that they are for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.renderers import sections, shell_file
from guest_agent.renderers.network_manager_profile import PRIORITY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.actions.draft import Draft
    from pv_channel.network import NetworkConfig

#: By nm-settings-keyfile(5); netplan and programs put theirs into the second, packages into the third.
DIRECTORIES: Final = (
    "/etc/NetworkManager/system-connections",
    "/run/NetworkManager/system-connections",
    "/usr/lib/NetworkManager/system-connections",
)
_IFCFG: Final = "/etc/sysconfig/network-scripts"
_CLOUD_INIT: Final = "cloud-init"


class Profile(NamedTuple):
    """Somebody's profile as far as it says what it is for. *name* may be a pattern; *priority* is that among several that fit."""

    path: str
    name: str
    mac: str
    priority: int

    def whose(self) -> str:
        """Who made it, as far as its name says."""
        by = " (cloud-init's)" if _CLOUD_INIT in self.path.rpartition("/")[2] else ""
        return f"a profile of NetworkManager{by} has the same interface; remove it, and ours is the only one"


def rival(draft: Draft, network: NetworkConfig, prefix: str) -> Profile | None:
    """The first profile without *prefix* that would be tried for an interface of the document's, or None."""
    wanted = {(name, mac) for key in network.all() for name, mac in _known_as(network, key)}
    for profile in (*_keyfiles(draft, prefix), *_ifcfgs(draft)):
        for name, mac in wanted:
            same_name = bool(profile.name and name) and fnmatchcase(name, profile.name)
            same_mac = bool(profile.mac) and profile.mac == mac
            anything = not profile.name and not profile.mac and profile.priority >= PRIORITY - 1
            if same_name or same_mac or anything:
                return profile
    return None


def _known_as(network: NetworkConfig, key: str) -> Iterator[tuple[str, str]]:
    """The names and MAC addresses by which the document tells an interface."""
    ethernet = network.ethernets.get(key)
    if ethernet is None or ethernet.match is msgspec.UNSET:
        yield key, ""
        return
    name = ethernet.set_name if ethernet.set_name is not msgspec.UNSET else ethernet.match.name
    mac = ethernet.match.macaddress
    yield "" if name is msgspec.UNSET else name, "" if mac is msgspec.UNSET else mac


def _keyfiles(draft: Draft, prefix: str) -> Iterator[Profile]:
    for directory in DIRECTORIES:
        for file in draft.system.names(directory):
            if file.startswith((".", prefix)) or file.endswith(("~", ".bak")):
                continue
            found = dict[str, dict[str, str]]()
            for section, keys in sections.read(draft.text(f"{directory}/{file}")):
                found.setdefault(section, {}).update(keys)
            connection = found.get("connection", {})
            link = found.get("ethernet", found.get("802-3-ethernet", {}))
            if connection.get("autoconnect", "true").lower() in ("false", "no", "0"):
                continue
            if connection.get("type") in ("ethernet", "802-3-ethernet", "bond", "bridge", "vlan"):
                name = connection.get("interface-name") or found.get("match", {}).get("interface-name", "").rstrip(";")
                priority = connection.get("autoconnect-priority", "0")
                number = int(priority) if priority.isascii() and priority.isdigit() else 0
                yield Profile(f"{directory}/{file}", name, link.get("mac-address", "").lower(), number)


def _ifcfgs(draft: Draft) -> Iterator[Profile]:
    """What the plugin ifcfg-rh reads, where it is installed."""
    system = draft.system
    libraries = (f"{top}/NetworkManager" for top in ("/usr/lib64", "/usr/lib"))
    versions = (f"{library}/{version}" for library in libraries for version in system.names(library))
    if not any("libnm-settings-plugin-ifcfg-rh.so" in system.names(version) for version in versions):
        return
    for file in shell_file.profiles(system.names(_IFCFG)):
        values = shell_file.read(draft.text(f"{_IFCFG}/{file}"))
        named = values.get("DEVICE", "") or ("" if "HWADDR" in values else file.partition("-")[2])
        if values.get("ONBOOT", "yes").lower() != "no" and named != "lo":
            yield Profile(f"{_IFCFG}/{file}", named, values.get("HWADDR", "").lower(), 0)
