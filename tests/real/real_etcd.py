# SPDX-License-Identifier: Apache-2.0
"""A real etcd of a test's own: on free ports, in a directory of the test's, with TLS, users and roles where that is wanted."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DEADLINE_SECONDS: Final = 60.0
#: A port that is free may be somebody else's a moment later.
_ATTEMPTS: Final = 5
#: What a dom0 of a fleet may do, as README has it.
RIGHTS: Final = (
    ("read", "documents/"), ("read", "defaults"), ("read", "groups/"),
    ("readwrite", "vms/"), ("readwrite", "last/"), ("readwrite", "entries/"), ("readwrite", "owners/"), ("readwrite", "dom0s/"),
)  # fmt: skip


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


class Authority:
    """An authority for one test: its certificate, and certificates of it, as files in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {directory.name}")])
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self._certificate(self._name, self._key.public_key(), None).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, address: str = "127.0.0.1") -> tuple[Path, Path]:
        """The files of a certificate and its key, good for a server at *address* and for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        certificate, private = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(self._certificate(subject, key.public_key(), address).public_bytes(serialization.Encoding.PEM))
        private.touch(0o600)
        private.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))  # fmt: skip
        return certificate, private

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, address: str | None) -> x509.Certificate:
        now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), now - day, now + day)
        builder = builder.add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(names, critical=False).add_extension(uses, critical=False)
        return builder.sign(self._key, hashes.SHA256())


class RealEtcd:
    """Listens at *address*; with TLS, and then only for clients with certificates, where there is an *authority*.

    *inside* are words to start it with, as in a network namespace.
    """

    def __init__(
        self, directory: Path, authority: Authority | None = None, address: str = "127.0.0.1", inside: Sequence[str] = ()
    ) -> None:
        self._directory, self._authority, self._inside = directory, authority, inside
        self._address = address
        self._files = None if authority is None else authority.issue("etcd", address)
        self._process: subprocess.Popen[bytes] | None = None
        self._root: list[str] = []

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):
            self.endpoint = f"http{'' if self._authority is None else 's'}://{self._address}:{free_port()}"
            self._peers = f"http://127.0.0.1:{free_port()}"
            self.start()
            if self._process is not None:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it over the data that are there, and wait until it answers; where it ends at once, somebody else has its port."""
        peers = self._peers
        words = [
            *self._inside, "etcd", "--name=e", f"--data-dir={self._directory / 'etcd'}", f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}", f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=e={peers}", "--heartbeat-interval=50", "--election-timeout=500", "--unsafe-no-fsync",
        ]  # fmt: skip
        if self._authority is not None and self._files is not None:
            certificate, key = self._files
            words += [f"--cert-file={certificate}", f"--key-file={key}", f"--trusted-ca-file={self._authority.ca}",
                      "--client-cert-auth"]  # fmt: skip
        with (self._directory / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self._control("endpoint", "health", check=False).returncode != 0:
            if self._process.poll() is not None:
                self._process = None
                return
            assert time.monotonic() < deadline, (self._directory / "etcd.log").read_text()[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def control(self, *words: str) -> str:
        """What etcdctl prints."""
        return self._control(*words).stdout.decode()

    def put(self, key: str, value: str) -> None:
        """Write, as an operator."""
        self._control("put", key, given=value.encode())

    def value(self, key: str) -> str:
        """What stands at *key*, "" where nothing does."""
        return self.control("get", "--print-value-only", key).strip()

    def demand_passwords(self, user: str, password: str) -> None:
        """From now on nobody may do anything but root, and *user* what a dom0 of a fleet may."""
        self.control("user", "add", "root:rootpw")
        self.control("role", "add", "root")
        self.control("user", "grant-role", "root", "root")
        self.control("role", "add", "dom0")
        for right, part in RIGHTS:
            one = part == "defaults"
            self.control("role", "grant-permission", "dom0", right, f"/pv-channel/{part}", *(() if one else ("--prefix=true",)))
        self.control("user", "add", f"{user}:{password}")
        self.control("user", "grant-role", user, "dom0")
        self.control("auth", "enable")
        self._root = ["--user=root:rootpw"]

    def _control(self, *words: str, given: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        tls = []
        if self._authority is not None and self._files is not None:
            tls = [f"--cacert={self._authority.ca}", f"--cert={self._files[0]}", f"--key={self._files[1]}"]
        command = [*self._inside, "etcdctl", f"--endpoints={self.endpoint}", "--dial-timeout=5s", *tls, *self._root, *words]
        v3 = os.environ | {"ETCDCTL_API": "3"}
        return subprocess.run(command, input=given, capture_output=True, check=check, timeout=DEADLINE_SECONDS, env=v3)
