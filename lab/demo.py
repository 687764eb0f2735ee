# SPDX-License-Identifier: Apache-2.0
"""`./run demo`: both agents, a relay in QEMU's place, a scratch folder as guest root; a story with times, then the items."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab.relay import Relay

#: What a busy machine may take to start an interpreter and shake hands; the demo itself takes about a second.
DEADLINE_SECONDS: Final = 60

_START: Final = time.monotonic()


def tell(text: str) -> None:
    """One line of the story, with its time."""
    print(f"[{time.monotonic() - _START:6.2f} s] {text}", flush=True)


@cache
def public_key(comment: str) -> str:
    """An ssh public key, the same for the same *comment*; nobody keeps its private half."""
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{public.decode('ascii')} {comment}"


def make_root(root: Path) -> None:
    """A template's root, as far as the guest agent looks at it: names, users, systemd-networkd enabled, an ssh host key."""
    who = f"{os.getuid()}:{os.getgid()}"
    files = {
        "etc/hostname": "template\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/passwd": f"root:x:{who}:root:/root:/bin/bash\nalice:x:{who}:Alice:/home/alice:/bin/bash\n",
        "etc/group": "root:x:0:\n",
        "etc/ssh/ssh_host_ed25519_key.pub": public_key("root@template") + "\n",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    for home in ("root", "home/alice"):
        (root / home).mkdir(parents=True, exist_ok=True)
        (root / home).chmod(0o700)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    link = wants / "systemd-networkd.service"
    link.unlink(missing_ok=True)
    link.symlink_to("/lib/systemd/system/systemd-networkd.service")


def document(hostname: str) -> str:
    """What this guest shall become, as an operator would write it."""
    return f"""\
instance-id: i-demo
local-hostname: {hostname}
fqdn: {hostname}.example.org
ssh_authorized_keys:
  - {public_key("operator@example.org")}
users:
  - name: alice
    ssh_authorized_keys:
      - {public_key("alice@example.org")}
network:
  version: 2
  ethernets:
    eth0:
      match: {{macaddress: "00:16:3e:00:00:01"}}
      addresses: [10.77.0.10/24, "fd77::10/64"]
      gateway4: 10.77.0.1
      nameservers: {{addresses: [10.77.0.1], search: [example.org]}}
      mtu: 1500
"""


class Demo:
    """The pieces that run: a relay, the guest agent, and the host agent's `push`, all in *work*."""

    def __init__(self, work: Path, root: Path) -> None:
        self.work, self.root = work, root
        self.relay = Relay(work / "vm1.sock")

    def start_guest(self) -> subprocess.Popen[bytes]:
        """The guest agent, as udev and systemd would start it, on the relay's tty."""
        command = [sys.executable, "-m", "guest_agent", "run", "--tty", self.relay.tty, "--root", str(self.root)]
        with (self.work / "guest.log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def hostname(self) -> str:
        """What the guest's /etc/hostname says now."""
        return (self.root / "etc/hostname").read_text(encoding="utf-8").strip()

    def push(self, text: str) -> int:
        """Give the guest this document, from dom0's side; what the host agent prints is shown."""
        path = self.work / "vm1.yaml"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "host_agent", "push", "--socket", str(self.relay.path)]
        command += ["--state", str(self.work / "host"), "--timeout", str(DEADLINE_SECONDS), str(path)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=2 * DEADLINE_SECONDS, check=False).returncode


def run(work: Path, root: Path) -> int:
    """The whole story; 0 when the guest became what it was asked to."""
    make_root(root)
    demo = Demo(work, root)
    tell("This is a stand-in: a relay with a pty plays Xen's console and QEMU's socket; `./run demo-xen` shows the real ones.")
    with demo.relay:
        tell(f"dom0 has the channel's socket {demo.relay.path}; the guest has {demo.relay.tty}, cooked and echoing as hvc is")
        guest = demo.start_guest()
        tell(f"guest: the agent starts as pid {guest.pid}; its root is {root}, which stays: see etc/ and root/.ssh")
        tell(f"guest: etc/hostname says '{demo.hostname()}'")
        try:
            first = document("web1")
            steps = (
                ("host: pushes a document: hostname, network, ssh keys of root and alice", first),
                ("host: pushes the same document again; nothing may change", first),
                ("host: pushes a changed one: the guest shall be web2", document("web2")),
            )
            for said, text in steps:
                tell(said)
                if (status := demo.push(text)) != 0:
                    tell(f"the push ended with {status}; the guest's log:")
                    sys.stdout.write((work / "guest.log").read_text(errors="replace"))
                    return 1
                if text is first:
                    tell(f"guest: etc/hostname says '{demo.hostname()}'")
        finally:
            guest.send_signal(signal.SIGTERM)
            guest.wait(DEADLINE_SECONDS)
    return 0


def main() -> int:
    """Run the demo in DEMO_ROOT, or in a folder that it names at the end."""
    chosen = os.environ.get("DEMO_ROOT")
    root = Path(chosen).absolute() if chosen else Path(tempfile.mkdtemp(prefix="pv-demo-root-"))
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pv-demo-") as work:
        return run(Path(work), root)


if __name__ == "__main__":
    sys.exit(main())
