# SPDX-License-Identifier: Apache-2.0
"""A fleet in network namespaces: three dom0s, an etcd, and VMs that move between them; one dom0 is killed and one cut off."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.real.fleet_stage import SHORT, Dom0, Vm, document, eventually
from tests.real.namespaces import Namespaces
from tests.real.real_etcd import Authority, RealEtcd

if TYPE_CHECKING:
    from pathlib import Path

VMS = 6


class Story:
    """Three dom0s, and VMs that shall all become the same, again and again."""

    def __init__(self, work: Path, stack: ExitStack) -> None:
        self.net = stack.enter_context(Namespaces("a", "b", "c"))
        authority = Authority(work)
        self.etcd = stack.enter_context(RealEtcd(work, authority, self.net.hub_address, self.net.inside("hub")))
        certificate, key = authority.issue("dom0")
        lines = f"endpoints: ['{self.etcd.endpoint}']\nca: {authority.ca}\ncert: {certificate}\nkey: {key}\nlease: {SHORT}\n"
        self.dom0s = {name: Dom0(work, name, lines, self.net.inside(name)) for name in "abc"}
        self.vms = [stack.enter_context(Vm(f"vm{number}")) for number in range(VMS)]
        self.wanted: list[str] = []

    def at(self, where: str) -> None:
        """Each VM moves to the dom0 of its letter in *where*."""
        for vm, name in zip(self.vms, where, strict=True):
            vm.at(self.dom0s[name])

    def want(self, hostname: str) -> None:
        """All VMs shall become this."""
        self.wanted.append(hostname)
        for vm in self.vms:
            self.etcd.put(f"/pv-channel/documents/{vm.name}", document(vm.name, hostname))

    def is_so(self, *vms: Vm) -> bool:
        """Whether these, or all, are what they should become."""
        return all(vm.became and vm.became[-1][1] == self.wanted[-1] for vm in vms or self.vms)

    def text(self) -> str:
        """What all have logged, and what became of the VMs."""
        return "\n".join([*(dom0.text[-2000:] for dom0 in self.dom0s.values()), *(f"{vm.name}: {vm.became}" for vm in self.vms)])


def test_vms_move_between_three_dom0s_while_one_is_killed_and_one_cut_off_and_nothing_is_applied_twice(tmp_path: Path) -> None:
    with ExitStack() as stack:
        story = Story(tmp_path, stack)
        a, b, c = (stack.enter_context(dom0) for dom0 in story.dom0s.values())
        story.want("one")
        story.at("aabbcc")
        eventually(story.is_so, story.text)
        story.want("two")
        story.at("bbccaa")
        eventually(story.is_so, story.text)

        b.kill()
        story.want("three")
        story.at("ccccaa")
        eventually(story.is_so, story.text)
        assert {dom0["dom0"] for dom0 in c.status()["dom0s"]} >= {"a", "c"}

        story.net.cut("a")
        eventually(lambda: "etcd cannot be reached" in a.text, story.text)
        eventually(lambda: not story.etcd.value("/pv-channel/owners/vm5"), story.text)
        story.want("four")
        eventually(lambda: story.is_so(*story.vms[:4]), story.text)
        assert [vm.became[-1][1] for vm in story.vms[4:]] == ["three", "three"]
        b.start()
        story.at("ccbbbb")
        eventually(story.is_so, story.text)
        story.net.join("a")
        story.want("five")
        story.at("ababab")
        eventually(story.is_so, story.text)
        eventually(lambda: c.says("wait", "--all").returncode == 0, story.text)

        for vm in story.vms:
            generations, hostnames = zip(*vm.became, strict=True)
            assert list(generations) == sorted(set(generations)), vm.became
            assert list(hostnames) == story.wanted, vm.became
        assert "key changed" not in a.text + b.text + c.text
        assert (a.text + b.text + c.text).count("met for the first time") == VMS
