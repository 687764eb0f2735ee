# SPDX-License-Identifier: Apache-2.0
"""A directory like /etc/pv-host-agent: documents, defaults and groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from host_agent.documents.document_file import read, stack_of
from host_agent.documents.layers import Layers
from host_agent.errors import BadFile

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.document import Document


HASH = "$6$rounds=5000$salt$abcdefghijklmnopqrstuvwxyz"
ETH0 = (
    "network: {version: 2, ethernets: {eth0: {mtu: 1400, dhcp4: true,"
    " nameservers: {search: [a.example], addresses: [192.0.2.1]}}}}"
)


class Etc(NamedTuple):
    """A directory like /etc/pv-host-agent."""

    top: Path

    @classmethod
    def made(cls, top: Path) -> Etc:
        """One without files."""
        (top / "documents").mkdir()
        return cls(top)

    @property
    def documents(self) -> Path:
        """The VMs' own files."""
        return self.top / "documents"

    def write(self, name: str, text: str) -> Path:
        """One file, ``defaults``, ``groups/web`` or ``documents/web1``."""
        path = self.top / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def put(self, own: str, **shared: str) -> Path:
        """The VM web1's own file, and below it defaults and groups."""
        for name, text in shared.items():
            self.write("defaults" if name == "defaults" else f"groups/{name}", text)
        return self.write("documents/web1", f"instance-id: i-1\n{own}\n")

    def document(self) -> Document:
        """What web1 shall become."""
        layers = Layers(self.documents)
        layers.look()
        return read(self.documents / "web1.yaml", layers)

    def error(self) -> str:
        """Why web1 can become nothing, with paths below the top."""
        with pytest.raises(BadFile) as caught:
            self.document()
        return str(caught.value).replace(f"{self.top}/", "")


def parse_text(text: str, path: Path) -> Document:
    """The document that *text* alone is; *path* is only named in errors."""
    return stack_of(text, path, None).document()
