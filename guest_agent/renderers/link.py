# SPDX-License-Identifier: Apache-2.0
"""Names and wake-on-LAN are udev's: a ``.link`` file (systemd.link(5)) for every boot, and ip(8) for a new name now.

udev names an interface when it appears, from the first ``.link`` file that matches. An initramfs may have named it before;
udev names it again when it starts on the real root, as long as the interface is down. The agent comes after udev, so it
renames what is there itself; udev takes that for an administrator's doing and leaves it. When a document drops ``set-name``,
the file goes and the name stays until the next boot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.changes.files import RemoveFile, WriteFile
from guest_agent.changes.running import RunCommand
from guest_agent.failure import ItemError
from guest_agent.renderers import sections
from guest_agent.renderers.interfaces import NET, driver_name, is_up, present
from guest_agent.renderers.sections import given

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.interfaces import Ethernet
    from pv_channel.network import NetworkConfig

DIRECTORY: Final = "/etc/systemd/network"
#: Sorts before what distributions put there (``73-``, ``99-``): of the files that match, the first one counts.
PREFIX: Final = "10-pv-guest-agent-"
SUFFIX: Final = ".link"
MODE: Final = 0o644
#: What systemd's own 99-default.link says, which a file of ours takes the place of.
_POLICIES: Final = (
    "NamePolicy=keep kernel database onboard slot path",
    "AlternativeNamesPolicy=database onboard slot path",
    "MACAddressPolicy=persistent",
)
#: udev is told here to read its files again; otherwise it looks every three seconds.
_CONTROL: Final = "/run/udev/control"
#: One file per interface that udev has done with.
_DATABASE: Final = "/run/udev/data"
#: A card that udev has not done with may be renamed by it at any moment.
UDEV_SECONDS: Final = 5.0
#: cloud-init and systems of the time before ``.link`` files have names here, in 70-persistent-net.rules.
_RULES: Final = "/etc/udev/rules.d"
_RULE_ADDRESS: Final = re.compile(r"""attrs?\{address\}=="([0-9a-f:]{17})\"""")
_RULE_NAME: Final = re.compile(r"""\bNAME:?="([^"]*)\"""")
_RELOAD: Final = ["udevadm", "control", "--reload"]


def path(key: str) -> str:
    """Where the file of *key* lies."""
    return f"{DIRECTORY}/{PREFIX}{key}{SUFFIX}"


def ours(system: System) -> list[str]:
    """The files that an earlier document made."""
    return [f"{DIRECTORY}/{name}" for name in system.names(DIRECTORY) if name.startswith(PREFIX) and name.endswith(SUFFIX)]


def plan(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What gives the interfaces their names, now and at every boot, and wakes what shall be woken; raise `ItemError`."""
    wanted = {path(key): render(key, ethernet) for key, ethernet in network.ethernets.items() if needs_file(ethernet)}
    changes: list[Change] = [RunCommand([], _RELOAD, _CONTROL), *_without_rules(network, draft)]
    changes += [change for file, text in wanted.items() for change in draft.own(file, text.encode("ascii"), MODE)]
    for file in sorted(set(ours(draft.system)) - set(wanted)):
        draft.check(file)
        changes.append(RemoveFile(file))
    if len(changes) == 1:
        return []  # nothing of udev's was asked for, now or before
    return [*changes, RunCommand(_RELOAD, [], _CONTROL), *renames(network, draft.system)]


def needs_file(ethernet: Ethernet) -> bool:
    """Whether udev has a part in it."""
    return ethernet.set_name is not msgspec.UNSET or ethernet.wakeonlan


def render(key: str, ethernet: Ethernet) -> str:
    """The whole file for one interface."""
    lines = [f"Name={ethernet.set_name}"] if ethernet.set_name is not msgspec.UNSET else list(_POLICIES)
    return sections.text([match(key, ethernet), ["[Link]", *lines, *(["WakeOnLan=magic"] if ethernet.wakeonlan else [])]])


def match(key: str, ethernet: Ethernet) -> list[str]:
    """udev's view: the names are those that the kernel gave."""
    if ethernet.match is msgspec.UNSET:
        return ["[Match]", f"OriginalName={key}"]
    wanted = ethernet.match
    if wanted.macaddress is not msgspec.UNSET:
        return ["[Match]", f"PermanentMACAddress={wanted.macaddress}"]
    driver = msgspec.UNSET if wanted.driver is msgspec.UNSET else driver_name(wanted.driver)
    return ["[Match]", *given("OriginalName", wanted.name), *given("Driver", driver)]


def renames(network: NetworkConfig, system: System) -> list[Change]:
    """What renames the interfaces that are there; raise `ItemError` where somebody else's has a name that is wanted."""
    moves: dict[str, str] = {}
    for key, ethernet in network.ethernets.items():
        if ethernet.set_name is not msgspec.UNSET:
            _wait_for_udev(system, key, ethernet)
            name = present(system, key, ethernet)
            if name is not None and name != ethernet.set_name:
                moves[name] = str(ethernet.set_name)
    taken = [name for name in moves.values() if system.exists(f"{NET}/{name}") and name not in moves]
    if taken:
        raise ItemError("conflict", f"another interface is called {taken[0]} already; choose another 'set-name'")
    steps = list(moves.items())
    if set(moves.values()) & set(moves):  # two that change names pass through names that nobody has
        between = {old: f"pvga{number}" for number, old in enumerate(moves)}
        steps = [*between.items(), *((between[old], new) for old, new in moves.items())]
    # Up to Linux 6.1 only an interface that is down can be renamed, back as well as forth.
    down = [RunCommand(_set(old, "down"), _set(old, "up")) for old in moves if is_up(system, old)]
    named = [RunCommand(_set(old, "name", new), _set(new, "name", old)) for old, new in steps]
    return [*down, *named, *(RunCommand([], _set(new, "down")) for new in moves.values())]


def _set(name: str, *words: str) -> list[str]:
    return ["ip", "link", "set", "dev", name, *words]


def _without_rules(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What takes the rules away by which udev would give our cards other names; raise `ItemError`, unless the document says to
    overwrite. A name that a rule gives counts for more than that of any ``.link`` file (80-net-setup-link.rules)."""
    named = {
        str(ethernet.match.macaddress): str(ethernet.set_name)
        for ethernet in network.ethernets.values()
        if ethernet.match is not msgspec.UNSET and ethernet.set_name is not msgspec.UNSET
    }
    changes: list[Change] = []
    for name in draft.system.names(_RULES) if named else []:
        file = f"{_RULES}/{name}"
        lines = draft.system.text(file).splitlines(keepends=True) if name.endswith(".rules") else []
        others = [line for line in lines if _names_otherwise(line, named)]
        if others:
            draft.conflict(file, f"udev names a card by it that the document names: {others[0].strip()[:120]}")
            stored = draft.read(file)
            kept = "".join(line for line in lines if line not in others)
            changes += [] if stored is None else [WriteFile(file, kept.encode())]
    return changes


def _names_otherwise(line: str, named: dict[str, str]) -> bool:
    address, name = _RULE_ADDRESS.search(line.lower()), _RULE_NAME.search(line)
    if line.lstrip().startswith("#") or address is None or name is None:
        return False
    return named.get(address[1], name[1]) != name[1]


def _wait_for_udev(system: System, key: str, ethernet: Ethernet) -> None:
    def settled() -> bool:
        name = present(system, key, ethernet)
        index = "" if name is None else system.text(f"{NET}/{name}/ifindex", 16).strip()
        return not system.exists(_CONTROL) or (bool(index) and system.exists(f"{_DATABASE}/n{index}"))

    system.wait_for(settled, UDEV_SECONDS)
