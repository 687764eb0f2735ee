# SPDX-License-Identifier: Apache-2.0
"""`./run demo-xen`: real Xen, real QEMU, udev, systemd and ssh; a guest is provisioned from dom0, which then logs in to it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from lab.domain_config import Channel
from lab.errors import EmulatorFault, LabError
from lab.running import Lab
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from lab.dom0 import Dom0

UUID: Final = "3d6bf1a4-7c0e-4b8c-9f0e-6f0c2a7d1e01"
MAC: Final = "00:16:3e:5e:00:01"
ADDRESS: Final = "10.77.0.10"
HOSTNAME: Final = "web1"
SOCKET: Final = f"/run/pv-channel/{HOSTNAME}.sock"

#: The guest has to boot to its sshd first; three times what a slow emulator was seen to need.
SSH_SECONDS: Final = 300
PUSH_SECONDS: Final = 600

_START: Final = time.monotonic()


def tell(text: str) -> None:
    """One line of the story, with its time."""
    print(f"[{time.monotonic() - _START:6.1f} s] {text}", flush=True)


def document(operator_key: str) -> str:
    """What the guest shall become."""
    return f"""\
instance-id: i-{HOSTNAME}
uuid: {UUID}
local-hostname: {HOSTNAME}
fqdn: {HOSTNAME}.example.org
ssh_authorized_keys:
  - {operator_key}
network:
  version: 2
  ethernets:
    eth0:
      match: {{macaddress: "{MAC}"}}
      addresses: [{ADDRESS}/24, "fd77::10/64"]
      gateway4: 10.77.0.1
"""


def push(dom0: Dom0, text: str) -> dict[str, Any]:
    """Push *text* from dom0, showing what the host agent says; its answer. Raise `LabError` where the guest did not become it."""
    dom0.put(f"/root/{HOSTNAME}.yaml", text)
    command = f"pv-host-agent push --json --timeout {PUSH_SECONDS} --socket {SOCKET} /root/{HOSTNAME}.yaml"
    dom0.run(f"{command} >/root/push.json", live=lambda said: print(said, end="", flush=True), timeout=PUSH_SECONDS + 60)
    answer: dict[str, Any] = json.loads(dom0.get("/root/push.json"))
    return answer


def log_in(dom0: Dom0, host_keys: list[str]) -> str:
    """Log in from dom0 with the provisioned key, believing only the host keys that came over the channel; the guest's hostname.

    Retried while the guest has no sshd yet; a host key that differs is an error at once.
    """
    known = "".join(f"{ADDRESS} {key}\n" for key in host_keys)
    dom0.put("/root/known_hosts", known)
    options = "-o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/root/known_hosts -o ConnectTimeout=10"
    deadline = time.monotonic() + SSH_SECONDS
    while True:
        done = dom0.run(f"ssh -i /root/operator {options} root@{ADDRESS} hostname", check=False)
        if done.status == 0:
            return done.output.strip().splitlines()[-1]
        if "verification failed" in done.output or "Permission denied" in done.output or time.monotonic() > deadline:
            raise LabError(f"ssh from dom0 failed:\n{done.output}")
        time.sleep(2)


def demo(lab: Lab) -> None:
    """The whole story; raise `LabError` at the first thing that is not so."""
    dom0 = lab.dom0
    dom0.run("rm -f /root/operator*; ssh-keygen -q -t ed25519 -N '' -C operator@dom0 -f /root/operator; pv-host-agent keys init")
    operator_key = dom0.get("/root/operator.pub").decode("ascii").strip()
    tell("dom0: made an operator's ssh key, and this host's key")
    guest = lab.create(HOSTNAME, uuid=UUID, mac=MAC, channels=[Channel(CHANNEL_NAME, path=SOCKET)])
    tell(f"dom0: xl created {HOSTNAME}, a clone of the template: no address, no hostname, nobody's key")
    tell("dom0: pushes its document; the guest is booting, and udev there starts the agent when the channel appears")
    answer = push(dom0, document(operator_key))
    tell(f"the guest answered: {answer['outcome']}; it says its ssh host keys are:")
    for key in answer["host-keys"]:
        print(f"           {key}")
    tell(f"dom0: ssh to root@{ADDRESS} with the provisioned key, believing those host keys alone")
    hostname = log_in(dom0, answer["host-keys"])
    tell(f"the guest's hostname is: {hostname}")
    if hostname != HOSTNAME:
        raise LabError(f"the guest's hostname is {hostname!r}, not {HOSTNAME!r}")
    width = max(len(item["item"]) for item in answer["items"])
    for item in answer["items"]:
        print(f"           {item['item']:{width}}  {item['outcome']:10}  {item.get('detail', '')}".rstrip())
    guest.destroy()


def main() -> int:
    """Boot, tell the story, stop; 0 only if every part of it is so, 3 where the emulator broke twice."""
    for attempt in (1, 2):
        try:
            tell("building what has changed and booting Xen in QEMU; the first time takes some minutes")
            with Lab.boot(tell) as lab:
                tell("Xen and dom0 are up")
                demo(lab)
        except LabError as error:
            tell(f"failed: {error}")
            return 1
        except EmulatorFault as fault:
            tell(f"the emulator broke, which says nothing of the product ({attempt} of at most 2): {fault}")
        else:
            tell("done: configured over the PV channel alone, and logged in")
            return 0
    return 3


if __name__ == "__main__":
    sys.exit(main())
