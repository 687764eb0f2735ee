# SPDX-License-Identifier: Apache-2.0
"""README's definitions of a guest, by xl and by libvirt, and its document: on real Xen, as printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.domain_config import DomainConfig, mac_of
from lab.guests import Guest
from lab.progress import silent
from tests.xen.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.running import Lab

README = Path(__file__).parents[2] / "README.md"
#: Where README has the guest's kernel and disk.
PLACES = """
mkdir -p /var/lib/xen/web1 /dev/vg0
ln -sf /root/vmlinux /var/lib/xen/web1/vmlinuz
ln -sf /root/guest-initrd.img /var/lib/xen/web1/initrd.img
ln -sf /dev/mapper/web1 /dev/vg0/web1
ip addr replace 192.0.2.1/24 dev xenbr0
"""
#: The emulated machine alone needs this: with an emulated time stamp counter as well a guest hardly boots.
XL_NEEDS = 'tsc_mode = "native"\n'
LIBVIRT_NEEDS = "<clock offset='utc'><timer name='tsc' mode='native'/></clock>"


def block(begin: str) -> str:
    """README's block that begins with *begin*."""
    page = README.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```[a-z]*\n({re.escape(begin)}.*?)^```", page, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def web1(lab: Lab) -> Iterator[Serving]:
    """The service with README's document, and what its definitions say there is."""
    made = Serving(lab, "web1")
    made.dom0.put(made.document, block("instance-id: i-web1"), mode=0o600)
    made.dom0.run(PLACES)
    guest = Guest(lab.dom0, DomainConfig("web1", disk="/dev/mapper/web1", mac=mac_of("web1")), silent)
    guest.make_disk()
    yield made
    made.stop()
    guest.destroy()
    made.dom0.run(f"rm -f {made.document} /dev/vg0/web1; ip addr del 192.0.2.1/24 dev xenbr0")


def shown(serving: Serving, wanted: str) -> None:
    """The VM becomes what its document says, over the channel at README's path."""
    vm = serving.wait()
    assert (vm["outcome"], vm["channel"]) == ("applied", wanted)
    serving.eventually(lambda: serving.status()["facts"]["hostname"] == "web1", "the guest never said its name")
    known = serving.dom0.run("pv-host-agent known-hosts").output
    assert "web1.example.org,web1,192.0.2.10,2001:db8::10 ssh-ed25519 " in known


def test_the_definition_for_xl_works_as_printed(web1: Serving) -> None:
    web1.dom0.put("/etc/xen/web1.cfg", block('name    = "web1"') + XL_NEEDS)
    web1.dom0.run("xl create /etc/xen/web1.cfg")
    shown(web1, "/run/pv-channel/web1.sock")


def test_the_definition_for_libvirt_works_as_printed(web1: Serving) -> None:
    daemon = web1.dom0.spawn("exec libvirtd", log="/run/libvirtd.log")
    try:
        definition = block("<domain type='xen'>").replace("<devices>", f"{LIBVIRT_NEEDS}<devices>", 1)
        web1.dom0.put("/root/web1.xml", definition)
        web1.eventually(lambda: web1.dom0.run("virsh -c xen:///system version", check=False).status == 0, "no libvirtd")
        web1.dom0.run("virsh -c xen:///system define /root/web1.xml && virsh -c xen:///system start web1")
        shown(web1, "/run/pv-channel/web1.sock")
        web1.dom0.run("virsh -c xen:///system destroy web1; virsh -c xen:///system undefine web1")
    finally:
        daemon.stop()
