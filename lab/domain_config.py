# SPDX-License-Identifier: Apache-2.0
"""What a guest is, and the text that xl creates it from."""

from __future__ import annotations

import hashlib
import json
import re
import uuid as uuids
from dataclasses import asdict, dataclass, field
from typing import Literal

from lab.errors import LabError

Kind = Literal["pvh", "pv"]

#: xl of Xen 4.11 to 4.20.0 (commit e1ccced4af mends it in 4.18.5, 4.19.2 and 4.20.1, but not in 4.17) gives the first channel the
#: number of the primary console and then drops it, saying only "Primary console has invalid configuration". So the first entry is
#: one that nobody misses.
SACRIFICE = "connection=pty,name=org.pvchannel.dropped-by-xl"

SACRIFICE_SAYS = "lab: xl 4.17 drops the first channel= entry of a domain, so each domain's list starts with one to be dropped"

#: sun_path is 108 bytes with its NUL.
MAX_SOCKET_PATH_BYTES = 107

#: A guest with systemd, sshd and an agent in Python uses half of it.
GUEST_MEGABYTES = 384


@dataclass(frozen=True)
class Channel:
    """One PV channel: a name for the guest's side, and what serves it in dom0 (*path* for "socket" only)."""

    name: str
    connection: Literal["socket", "pty"] = "socket"
    path: str = ""

    def __post_init__(self) -> None:
        if (self.connection == "socket") != bool(self.path):
            raise LabError(f"channel {self.name}: a socket has a path, a pty has none")
        for value in (self.name, self.path):
            # xl knows no quoting here.
            if re.search(r'[,="\s]', value):
                raise LabError(f"channel {self.name}: xl cannot be given {value!r}")
        if len(self.path.encode()) > MAX_SOCKET_PATH_BYTES:
            raise LabError(f"channel {self.name}: {self.path} is longer than a socket's address may be")

    def entry(self) -> str:
        """Return what stands for it in xl's list."""
        path = [f"path={self.path}"] if self.path else []
        return ",".join([f"connection={self.connection}", f"name={self.name}", *path])


def mac_of(name: str) -> str:
    """Return the MAC address, in Xen's own range, of a guest *name* that was given none."""
    return ":".join(["00", "16", "3e", *(f"{byte:02x}" for byte in hashlib.sha256(name.encode()).digest()[:3])])


@dataclass(frozen=True)
class DomainConfig:
    """All that xl is told of a guest."""

    name: str
    disk: str
    mac: str
    kind: Kind = "pvh"
    uuid: str = field(default_factory=lambda: str(uuids.uuid4()))
    channels: tuple[Channel, ...] = ()
    megabytes: int = GUEST_MEGABYTES
    kernel_arguments: str = ""
    sacrifice: bool = True
    more_macs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", self.name, re.ASCII):
            raise LabError(f"{self.name!r} is no name for a guest: lower-case letters, digits and dashes")
        for mac in self.macs:
            if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac, re.ASCII):
                raise LabError(f"{mac!r} is no MAC address in lower case")

    @property
    def macs(self) -> tuple[str, ...]:
        """One for each network card."""
        return (self.mac, *self.more_macs)

    def record(self) -> str:
        """Return it as JSON, for `from_record`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_record(cls, record: bytes) -> DomainConfig:
        """Return what `record` was made of."""
        fields = json.loads(record)
        channels = tuple(Channel(**channel) for channel in fields["channels"])
        return cls(**{**fields, "channels": channels, "more_macs": tuple(fields["more_macs"])})

    def text(self) -> str:
        """Return xl's configuration file."""
        entries = [channel.entry() for channel in self.channels]
        if entries and self.sacrifice:
            entries.insert(0, SACRIFICE)
        arguments = f"console=hvc0 loglevel=3 systemd.show_status=0 {self.kernel_arguments}".strip()
        return "\n".join(
            [
                f'name = "{self.name}"',
                f'type = "{self.kind}"',
                f'uuid = "{uuids.UUID(self.uuid)}"',
                # Without it Xen emulates the time stamp counter, each read a trap: a PVH guest then hardly boots.
                'tsc_mode = "native"',
                'kernel = "/root/vmlinux"',
                'ramdisk = "/root/guest-initrd.img"',
                f'extra = "{arguments}"',
                f"memory = {self.megabytes}",
                "vcpus = 1",
                'on_reboot = "restart"',
                f'disk = [ "phy:{self.disk},xvda,w" ]',
                f"vif = [ {', '.join(json.dumps(f'bridge=xenbr0,mac={mac}') for mac in self.macs)} ]",
                f"channel = [ {', '.join(f'{entry!r}' for entry in entries)} ]",
                "",
            ]
        )
