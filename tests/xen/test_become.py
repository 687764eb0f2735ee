# SPDX-License-Identifier: Apache-2.0
"""What a guest can become, on real Xen: two networks, users and authorities, a change that heals itself, clones, power cuts."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from lab.domain_config import Channel
from lab.running import Lab
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.guests import Guest
    from tests.xen.conftest import Machines

UUIDS = {"app1": "3d6bf1a4-7c0e-4b8c-9f0e-6f0c2a7d1e11", "app2": "3d6bf1a4-7c0e-4b8c-9f0e-6f0c2a7d1e12"}
MACS = ("00:16:3e:5e:00:11", "00:16:3e:5e:00:12")
#: Emulated; three times the slowest that was seen.
EVENTUALLY_SECONDS = 300
PUSH_SECONDS = 600


def socket_of(name: str) -> str:
    """The channel's socket in dom0."""
    return f"/run/pv-channel/{name}.sock"


def document(
    lab: Lab, name: str, *, host: int, gateway: str = "10.77.0.1", bob: str = "Bob", file: bool = True, more: str = ""
) -> str:
    """Two networks, both families, three users with keys, a hash and sudo, an ssh authority, a time zone, perhaps a file."""
    entry = f"""
  - path: /etc/app/settings.conf
    content: "listen = 10.88.0.{host}\\n"
    permissions: "0640\""""
    operator = lab.dom0.get("/root/operator.pub").decode().strip()
    authority = lab.dom0.get("/root/user_ca.pub").decode().strip()
    return f"""\
instance-id: i-{name}
uuid: {UUIDS[name]}
local-hostname: {name}
fqdn: {name}.example.org
timezone: Europe/Vienna
resize_rootfs: true
groups: [deploy]
users:
  - name: ada
    gecos: Ada Lovelace
    groups: [deploy]
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys: ["{operator}"]
  - name: bob
    gecos: {bob}
    hashed_passwd: $6$saltsaltsalt$2TcbIrkqyvq0mrBNMr3yJ8h5Q2PTIoqFy0Ck5Bbyo4zxmvBhcEHSEtyUmAIMbNvlsVKvwbgC3BvqjmBpzLFMY/
    lock_passwd: false
  - name: eve
    ssh_authorized_keys: ['expiry-time="20200101" {operator}']
ssh_authorized_keys: ["{operator}"]
ssh_trusted_user_ca_keys: ["{authority}"]
ssh_pwauth: false
write_files: {entry if file else "[]"}
network:
  version: 2
  ethernets:
    front:
      match: {{macaddress: "{MACS[0]}"}}
      addresses: [10.77.0.{host}/24, "fd77::{host}/64"]
      gateway4: {gateway}
    back:
      match: {{macaddress: "{MACS[1]}"}}
      addresses: [10.88.0.{host}/24, "fd88::{host}/64"]
      routes: [{{to: 10.99.0.0/16, via: 10.88.0.1, metric: 50}}]
{more}"""


def stacked(name: str) -> str:
    """A bond of both cards with an address, a VLAN on it, and a bridge."""
    return f"""\
instance-id: i-{name}
uuid: {UUIDS[name]}
network:
  version: 2
  ethernets:
    front: {{match: {{macaddress: "{MACS[0]}"}}}}
    back: {{match: {{macaddress: "{MACS[1]}"}}}}
  bonds:
    bond0:
      interfaces: [front, back]
      parameters: {{mode: active-backup, mii-monitor-interval: 100}}
      addresses: [10.77.0.41/24]
      gateway4: 10.77.0.1
  vlans:
    tagged: {{id: 7, link: bond0, addresses: [10.66.0.41/24]}}
  bridges:
    br0: {{interfaces: [], addresses: [10.55.0.1/24], parameters: {{stp: false}}}}
confirm: {{within: 120}}
"""


@pytest.fixture
def prepared(lab: Lab) -> Lab:
    """A dom0 with an operator's key, an ssh authority, this host's key, and the second network."""
    prepare(lab)
    return lab


def prepare(lab: Lab) -> None:
    """Make what `document` speaks of, once."""
    for name in ("operator", "user_ca"):
        lab.dom0.run(f"[ -e /root/{name} ] || ssh-keygen -q -t ed25519 -N '' -C {name} -f /root/{name}")
    lab.dom0.run("pv-host-agent keys show >/dev/null 2>&1 || pv-host-agent keys init")
    lab.dom0.run("ip addr replace 10.88.0.1/24 dev xenbr0; ip addr replace fd88::1/64 dev xenbr0 nodad")


@pytest.fixture
def create(prepared: Lab) -> Iterator[Callable[..., Guest]]:
    """Makes guests with two network cards; they are forgotten afterwards, with what the ledger knows of them."""
    made: list[Guest] = []

    def make(name: str, **more: Any) -> Guest:
        made.append(start(prepared, name, **more))
        return made[-1]

    yield make
    for guest in made:
        guest.destroy()
        prepared.dom0.run(f"pv-host-agent forget-key {guest.uuid}", check=False)


def start(lab: Lab, name: str, **more: Any) -> Guest:
    """Create the guest *name*, with two network cards."""
    channels = [Channel(CHANNEL_NAME, path=socket_of(name))]
    return lab.create(name, uuid=UUIDS[name], mac=MACS[0], more_macs=MACS[1:], channels=channels, **more)


def push(lab: Lab, name: str, text: str, *, good: bool = True) -> dict[str, Any]:
    """Push *text* from dom0; the answer, which is a good one or is not, as said."""
    lab.dom0.put(f"/root/{name}.yaml", text)
    command = f"pv-host-agent push --json --timeout {PUSH_SECONDS} --socket {socket_of(name)} /root/{name}.yaml"
    done = lab.dom0.run(f"{command} >/root/push.json", check=False, timeout=PUSH_SECONDS + 60)
    answer: dict[str, Any] = json.loads(lab.dom0.get("/root/push.json"))
    assert (done.status == 0) is good, f"{done.output}\n{json.dumps(answer, indent=1)}"
    return answer


def ssh(lab: Lab, user: str, address: str, command: str, *, key: str = "/root/operator") -> tuple[int, str]:
    """Run *command* as *user* at *address*, believing only what the channel said of host keys: status and output."""
    lab.dom0.run("pv-host-agent known-hosts >/root/known_hosts 2>/dev/null; true")
    options = "-o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/root/known_hosts -o ConnectTimeout=10"
    done = lab.dom0.run(f"ssh -i {key} {options} {user}@{address} '{command}'", check=False)
    return done.status, done.output


def ssh_comes(lab: Lab, guest: Guest, address: str) -> None:
    """Wait until root logs in at *address* of *guest*; fail with all that tells why not."""
    deadline = time.monotonic() + EVENTUALLY_SECONDS
    while True:
        status, said = ssh(lab, "root", address, "true")
        if status == 0:
            return
        if time.monotonic() > deadline:
            there = guest.run(
                "ip address; ip route; ip neighbour; ls -l /etc/systemd/network /etc/ssh; networkctl --no-pager status --all;"
                " systemctl --no-pager status ssh; journalctl --no-pager --lines 80",
                check=False,
            ).output
            here = lab.dom0.run("ip neighbour; bridge fdb", check=False).output
            raise AssertionError(f"no ssh to {address}: {said}\n{here}\n{there}")
        time.sleep(2)


def reachable(lab: Lab, address: str) -> bool:
    """Whether root logs in at *address*."""
    return ssh(lab, "root", address, "true")[0] == 0


def test_a_guest_becomes_all_that_its_document_says_and_changes_and_a_network_that_is_wrong_heals_itself(
    prepared: Lab, create: Callable[..., Guest]
) -> None:
    lab, guest = prepared, create("app1")
    answer = push(lab, "app1", document(lab, "app1", host=11))
    assert {item["item"]: item["outcome"] for item in answer["items"]} == dict.fromkeys(
        ["identity", "hostname", "users", "ssh-keys", "sshd", "timezone", "write-files", "root-filesystem", "network"], "applied"
    )
    guest.wait_ready()
    for address in ("10.77.0.11", "10.88.0.11", "fd77::11", "fd88::11", "app1.example.org"):
        if address == "app1.example.org":
            lab.dom0.run("grep -q app1 /etc/hosts || echo 10.77.0.11 app1.example.org >>/etc/hosts")
        ssh_comes(lab, guest, address)
    assert ssh(lab, "ada", "10.77.0.11", "sudo -n id -u") == (0, "0\n")
    assert ssh(lab, "ada", "10.77.0.11", "id -nG")[1].split() == ["ada", "deploy"]
    assert ssh(lab, "eve", "10.77.0.11", "true")[0] == 255  # the key's time is over
    lab.dom0.run("rm -f /root/bob*; ssh-keygen -q -t ed25519 -N '' -f /root/bob")
    lab.dom0.run("ssh-keygen -q -s /root/user_ca -I bob -n bob /root/bob.pub")
    assert ssh(lab, "bob", "10.88.0.11", "whoami", key="/root/bob") == (0, "bob\n")
    assert guest.run("date +%Z").output.strip() in ("CET", "CEST")
    assert guest.run("ip -4 route show 10.99.0.0/16").output.split()[:3] == ["10.99.0.0/16", "via", "10.88.0.1"]
    assert int(guest.run("df --output=size / | tail -n 1").output) > 640 * 1024  # KiB; it filled 640 MiB of 704
    assert guest.run("stat -c '%a %U' /etc/app/settings.conf").output == "640 root\n"
    assert guest.run("pwck -rq; grpck -r; visudo -cq; sshd -t").status == 0
    machine_id = guest.run("cat /etc/machine-id").output
    assert machine_id != "0123456789abcdef0123456789abcdef\n"

    answer = push(lab, "app1", document(lab, "app1", host=21, bob="Robert", file=False))
    assert (answer["outcome"], answer["generation"]) == ("applied", 2)
    ssh_comes(lab, guest, "10.77.0.21")
    assert guest.run("[ -e /etc/app/settings.conf ]", check=False).status == 1
    assert guest.run("cat /etc/machine-id").output == machine_id
    assert guest.run("getent passwd bob").output.split(":")[4] == "Robert"
    networks_are_judged_and_changed(lab, guest)


def networks_are_judged_and_changed(lab: Lab, guest: Guest) -> None:
    """A wrong change heals itself, by the guest's own check and by dom0's; a right one bonds the cards, and goes back."""
    push(lab, "app1", document(lab, "app1", host=11))
    ssh_comes(lab, guest, "10.77.0.11")
    # The guest's own check: nobody answers as that gateway.
    answer = push(lab, "app1", document(lab, "app1", host=31, gateway="10.77.0.254", more="confirm: {within: 60}\n"), good=False)
    network = next(item for item in answer["items"] if item["item"] == "network")
    assert (answer["outcome"], network["outcome"], network["reason"]) == ("failed", "failed", "rejected")
    assert "10.77.0.254" in network["detail"]
    ssh_comes(lab, guest, "10.77.0.11")
    # dom0's check: ssh at an address that the change does not bring.
    wrong = document(lab, "app1", host=32, more="confirm: {check: tcp, tcp: '10.77.0.33:22', within: 30}\n")
    answer = push(lab, "app1", wrong, good=False)
    assert next(item for item in answer["items"] if item["item"] == "network")["reason"] in ("rejected", "unconfirmed")
    ssh_comes(lab, guest, "10.77.0.11")
    assert guest.run("cat /etc/app/settings.conf").output == "listen = 10.88.0.11\n"
    # And the right one is confirmed by the same check.
    right = document(lab, "app1", host=33, more="confirm: {check: tcp, tcp: '10.77.0.33:22', within: 120}\n")
    assert push(lab, "app1", right)["outcome"] == "applied"
    assert reachable(lab, "10.77.0.33")
    # Another kind of network altogether, and back.
    assert push(lab, "app1", stacked("app1"))["outcome"] == "applied"
    links = {link["ifname"]: link for link in json.loads(guest.run("ip -j -d link show").output)}
    assert links["bond0"]["linkinfo"]["info_data"]["mode"] == "active-backup"
    assert [name for name, link in links.items() if link.get("master") == "bond0"] == ["enX0", "enX1"]
    assert (links["tagged"]["link"], links["tagged"]["linkinfo"]["info_data"]["id"]) == ("bond0", 7)
    assert links["br0"]["linkinfo"]["info_kind"] == "bridge"
    ssh_comes(lab, guest, "10.77.0.41")
    assert push(lab, "app1", document(lab, "app1", host=11, more="confirm: {within: 120}\n"))["outcome"] == "applied"
    ssh_comes(lab, guest, "10.77.0.11")
    assert "bond0" not in guest.run("ip -brief link show").output


def test_a_clone_of_a_used_disk_is_seen_and_becomes_a_machine_of_its_own(prepared: Lab, create: Callable[..., Guest]) -> None:
    lab, first = prepared, create("app1", lasting=True)
    original = push(lab, "app1", document(lab, "app1", host=11))
    first.wait_ready()
    identity = first.run("cat /etc/machine-id; sha256sum /var/lib/systemd/random-seed").output
    first.shutdown()
    clone = create("app2", copy_of="app1")
    answer = push(lab, "app2", document(lab, "app2", host=12), good=False)
    assert answer["outcome"] == "key-shared"
    # As the message says: the clone forgets who it was.
    clone.wait_ready()
    unit = r"pv-guest-agent@sys-devices-console\x2d1.service"
    clone.run(f"systemctl stop '{unit}'; rm -rf /var/lib/pv-guest-agent; systemctl start '{unit}'")
    lab.dom0.run(f"pv-host-agent forget-key {UUIDS['app2']}")
    answer = push(lab, "app2", document(lab, "app2", host=12))
    assert answer["outcome"] == "applied"
    assert not set(answer["host-keys"]) & set(original["host-keys"])
    assert clone.run("cat /etc/machine-id; sha256sum /var/lib/systemd/random-seed").output != identity
    assert clone.run("hostname").output == "app2\n"
    ssh_comes(lab, clone, "10.77.0.12")


def test_a_used_machine_that_is_sealed_is_a_template_again(prepared: Lab, create: Callable[..., Guest]) -> None:
    lab, first = prepared, create("app1", lasting=True)
    used = push(lab, "app1", document(lab, "app1", host=11))
    first.wait_ready()
    pin = lab.dom0.run("pv-host-agent keys show | grep ^pv-host-").output.strip()
    shown = first.run(f"pv-guest-agent seal --trust '{pin}' --dry-run").output
    assert "/etc/ssh/ssh_host_ed25519_key" in shown
    assert first.run("cat /etc/hostname").output == "app1\n"
    first.run(f"pv-guest-agent seal --trust '{pin}' --yes")
    assert first.run("ls /etc/ssh/ssh_host_* 2>/dev/null | wc -l").output == "0\n"
    first.shutdown()
    clone = create("app2", copy_of="app1")
    answer = push(lab, "app2", document(lab, "app2", host=12))
    assert answer["outcome"] == "applied"
    assert not set(answer["host-keys"]) & set(used["host-keys"])
    clone.wait_ready()
    assert clone.run("hostname").output == "app2\n"
    assert "app1" not in clone.run("cat /etc/hosts /home/*/.ssh/authorized_keys /root/.ssh/authorized_keys").output
    ssh_comes(lab, clone, "10.77.0.12")


def test_a_guest_that_loses_its_power_at_the_last_item_of_its_first_boot_is_the_template_or_whole_at_the_next(
    prepared: Lab, create: Callable[..., Guest]
) -> None:
    lab, guest = prepared, create("app1")
    lab.dom0.put("/root/app1.yaml", document(lab, "app1", host=11))
    command = f"pv-host-agent push --timeout {PUSH_SECONDS} --socket {socket_of('app1')} /root/app1.yaml"
    # Cut in dom0, as soon as the word is there: from here it would take too long.
    lab.dom0.run(
        f"({command} 2>&1 & echo $! >/root/push.pid; wait) | while read -r line; do echo \"$line\"; "
        f"case $line in *'working on network'*) xl destroy app1; kill $(cat /root/push.pid); break;; esac; done; true",
        timeout=PUSH_SECONDS,
    )
    guest.start()
    guest.wait_ready()
    assert_whole_or_template(guest)
    assert push(lab, "app1", document(lab, "app1", host=11))["outcome"] in ("applied", "unchanged")
    ssh_comes(lab, guest, "10.77.0.11")


def assert_whole_or_template(guest: Guest) -> None:
    """Nothing half-done, and nothing of the engine's own left lying about."""
    left = "find / -xdev ( -name '*.pv-guest-agent-old' -o -name '*.pv-guest-agent-new' -o -name journal.json )"
    assert guest.run(left.replace("(", r"\(").replace(")", r"\)")).output == ""
    signs = (
        "[ \"$(cat /etc/hostname)\" = app1 ]", "getent passwd ada", "[ -e /home/ada/.ssh/authorized_keys ]",
        "[ -e /etc/ssh/sshd_config.d/30-pv-guest-agent.conf ]", "[ -e /etc/app/settings.conf ]",
        "ls /etc/systemd/network/10-pv-guest-agent-front.network", "[ -e /var/lib/pv-guest-agent/state.json ]",
    )  # fmt: skip
    there = [guest.run(sign, check=False).status == 0 for sign in signs]
    assert len(set(there)) == 1, dict(zip(signs, there, strict=True))


def test_a_power_cut_of_the_whole_host_in_the_middle_of_a_first_boot_leaves_a_guest_that_converges(machines: Machines) -> None:
    machines.stop()  # labs take turns
    with Lab.boot(machines.say, own_disks=True) as lab:
        prepare(lab)
        guest = start(lab, "app1", lasting=True)
        lab.dom0.put("/root/app1.yaml", document(lab, "app1", host=11))
        lab.dom0.run("sync")
        command = f"pv-host-agent push --timeout {PUSH_SECONDS} --socket {socket_of('app1')} /root/app1.yaml"
        lab.dom0.run(
            f"({command} 2>&1 & wait) | while read -r line; do echo \"$line\"; case $line in *'working on'*) break;; esac; done",
            timeout=PUSH_SECONDS,
        )
        lab.cut_power()
        prepare(lab)
        guest = lab.guest("app1")
        guest.attach_disk()
        guest.start()
        guest.wait_ready()
        assert_whole_or_template(guest)
        assert push(lab, "app1", document(lab, "app1", host=11))["outcome"] in ("applied", "unchanged")
        ssh_comes(lab, guest, "10.77.0.11")
