# SPDX-License-Identifier: Apache-2.0
"""The rest of what a machine is made of: ssh's server, time, language, authorities, files; with cloud-init's names."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Annotated, Final, Literal

import msgspec

from pv_channel.accounts import AbsolutePath
from pv_channel.addresses import Address
from pv_channel.names import DomainName, GroupName, UserName
from pv_channel.private_key import public_half
from pv_channel.text import printable
from pv_channel.values import Value, matching, share_defaults

#: An RSA key of 8,192 bits has 6.5 KiB in OpenSSH's format.
MAX_PRIVATE_KEY: Final = 16 * 1024
MAX_CERTIFICATE: Final = 16 * 1024


class Timezone(Value):
    """A zone of the tz database, ``Europe/Vienna``."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z][A-Za-z0-9_+-]{0,31}){0,2}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """At most three parts of letters, digits, ``_ + -``."""
        return matching(text, cls._PATTERN, "a time zone like Europe/Vienna or UTC")


class Locale(Value):
    """A locale's name, ``de_AT.UTF-8`` (locale(7))."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"(?:C|POSIX|[a-z]{2,3}(?:_[A-Z]{2})?)(?:\.[A-Za-z0-9-]{1,16})?(?:@[a-z]{1,16})?", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """Language, territory, character set, modifier."""
        return matching(text, cls._PATTERN, "a locale like de_AT.UTF-8 or C.UTF-8")


class NtpServer(Value):
    """A time server: a name or an address."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A domain name, or an address in canonical form."""
        if ":" in text or text.rpartition(".")[2].isdigit():
            return Address.check(text)
        return DomainName.check(text)


class Ntp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the time comes from. *enabled* false: the machine asks nobody. Empty lists leave the distribution's servers."""

    enabled: bool = True
    servers: Annotated[list[NtpServer], msgspec.Meta(max_length=16)] = []
    pools: Annotated[list[NtpServer], msgspec.Meta(max_length=16)] = []


class PemCertificate(Value):
    """One X.509 certificate in PEM (RFC 7468). What is refused is not repeated in the error: it may be a private key."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]+\n)+-----END CERTIFICATE-----\n", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """Exactly one certificate and nothing else, ended by one newline."""
        text = text.strip().replace("\r\n", "\n") + "\n"
        if len(text) > MAX_CERTIFICATE or not cls._PATTERN.fullmatch(text) or not _is_x509(text):
            raise ValueError("expected one certificate in PEM, from BEGIN to END CERTIFICATE and nothing else")
        return text


def _is_x509(pem: str) -> bool:
    import warnings

    from cryptography import x509

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a serial number of zero, for one, is what many an own authority has
        try:
            x509.load_pem_x509_certificate(pem.encode("ascii"))
        except Exception:  # noqa: BLE001  a version that is none, for one, is no ValueError
            return False
    return True


class CaCerts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The authorities whose certificates the machine believes besides the distribution's; an empty list: none of ours."""

    trusted: Annotated[list[PemCertificate], msgspec.Meta(max_length=64)] = []


class Owner(Value):
    """Whose a file is: ``user`` or ``user:group``."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """One or two names."""
        user, colon, group = text.partition(":")
        UserName(user)
        if colon:
            GroupName(group)
        return text

    @property
    def user(self) -> str:
        """The user."""
        return self.partition(":")[0]

    @property
    def group(self) -> str:
        """The group; empty where the user's own is meant."""
        return self.partition(":")[2]


class Permissions(Value):
    """A file's mode in octal, ``0644``."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"0?[0-7]{3,4}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """Three or four octal digits, kept as four."""
        return matching(text, cls._PATTERN, "a mode in octal like '0644', in quotes")[-4:].rjust(4, "0")

    @property
    def mode(self) -> int:
        """The bits."""
        return int(self, 8)


class FileToWrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file of cloud-init's ``write_files``. *absent*: there shall be none, whoever wrote it."""

    path: AbsolutePath
    content: str = ""
    encoding: Literal["text/plain", "b64", "base64"] = "text/plain"
    owner: Owner = Owner("root:root")
    permissions: Permissions = Permissions("0644")
    absent: bool = False

    def __post_init__(self) -> None:
        share_defaults(self)
        if self.path.startswith(("/proc/", "/sys/", "/dev/", "/run/", "/var/lib/pv-guest-agent/")):
            raise ValueError(f"'{self.path}' is no file that a document writes")
        if self.absent and self.content:
            raise ValueError(f"'{self.path}' is 'absent', and 'content' says what is in it")
        self.data()

    def data(self) -> bytes:
        """The content's bytes; raise `ValueError` where it is no base64."""
        if self.encoding == "text/plain":
            return self.content.encode("utf-8")
        try:
            return a2b_base64("".join(self.content.split()).encode("ascii"), strict_mode=True)
        except (Base64Error, ValueError):
            raise ValueError("'content' is not base64, as 'encoding' says") from None

    @property
    def is_secret(self) -> bool:
        """Whether others than its owner and group may not read it; it is not shown then."""
        return not self.permissions.mode & 0o004


class SshPrivateKey(Value):
    """A host's private key, unencrypted, as ssh-keygen(1) writes it. What is refused is not repeated in the error."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """One key and nothing else, ended by one newline."""
        text = text.strip().replace("\r\n", "\n") + "\n"
        cls.public_half(text)
        return text

    @staticmethod
    def public_half(text: str) -> str:
        """The public key that belongs to it, ``type blob``; raise `ValueError`."""
        if len(text) > MAX_PRIVATE_KEY:
            raise ValueError(f"expected a private key of at most {MAX_PRIVATE_KEY} characters, got {len(text)}")
        return public_half(text)


class SshCertificate(Value):
    """A host certificate, one line as ``ssh-keygen -h -s`` writes it (PROTOCOL.certkeys of OpenSSH)."""

    __slots__ = ()
    _PATTERN: Final = re.compile(
        r"(?:ssh-(?:rsa|ed25519)|ecdsa-sha2-nistp(?:256|384|521))-cert-v01@openssh\.com [A-Za-z0-9+/=]+(?: .*)?", re.ASCII
    )

    @classmethod
    def check(cls, text: str) -> str:
        """One line, type and blob and perhaps a comment of printable ASCII; signed by the authority that it names."""
        from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateType, load_ssh_public_identity

        text = text.strip()
        certificate = None
        if len(text) <= MAX_CERTIFICATE and cls._PATTERN.fullmatch(text) and text.isascii() and text.isprintable():
            try:
                certificate = load_ssh_public_identity(text.encode("ascii"))
                if isinstance(certificate, SSHCertificate):
                    certificate.verify_cert_signature()
            except Exception:  # noqa: BLE001  whatever the parser finds wrong with somebody's bytes
                certificate = None
        if not isinstance(certificate, SSHCertificate) or certificate.type is not SSHCertificateType.HOST:
            raise ValueError(f"expected a host certificate, one line of a *-cert.pub file, got '{printable(text, 40)}'")
        return text

    @property
    def public_key(self) -> str:
        """The host key that is certified, ``type blob``."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, SSHCertificate, load_ssh_public_identity

        certificate = load_ssh_public_identity(self.encode("ascii"))
        if not isinstance(certificate, SSHCertificate):
            raise ValueError("no certificate")
        return certificate.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


class SshKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """cloud-init's ``ssh_keys``: host keys that come with the document, and certificates for them or for the guest's own."""

    ed25519_private: SshPrivateKey | msgspec.UnsetType = msgspec.UNSET
    ed25519_certificate: SshCertificate | msgspec.UnsetType = msgspec.UNSET
    ecdsa_private: SshPrivateKey | msgspec.UnsetType = msgspec.UNSET
    ecdsa_certificate: SshCertificate | msgspec.UnsetType = msgspec.UNSET
    rsa_private: SshPrivateKey | msgspec.UnsetType = msgspec.UNSET
    rsa_certificate: SshCertificate | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        kinds = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp", "rsa": "ssh-rsa"}
        for kind, word in kinds.items():
            private, certificate = getattr(self, f"{kind}_private"), getattr(self, f"{kind}_certificate")
            public = "" if private is msgspec.UNSET else SshPrivateKey.public_half(private)
            if public and not public.startswith(word):
                raise ValueError(f"'{kind}_private' is a key of the type {public.partition(' ')[0]}")
            if certificate is not msgspec.UNSET and not certificate.startswith(word):
                raise ValueError(f"'{kind}_certificate' is of the type {certificate.partition(' ')[0]}")
            if public and certificate is not msgspec.UNSET and certificate.public_key != public:
                raise ValueError(f"'{kind}_certificate' is not for '{kind}_private'")
