# SPDX-License-Identifier: Apache-2.0
"""The fleet's file: where etcd is, who this host is to it, and by what they know each other; secrets are in other files."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec

from host_agent.documents.text_file import located, text_of
from host_agent.documents.yaml_values import BadText, parse, place_of
from host_agent.errors import BadFile, shown
from host_agent.files import read_private
from pv_channel.text import printable

if TYPE_CHECKING:
    import ssl

    from host_agent.documents.yaml_values import Parsed
    from host_agent.etcd.client import Etcd

#: A lease outlives a restart of this service and of an etcd member; a host that died is missed for as long.
LEASE_SECONDS: Final = 15
_MAX_SECRET_BYTES: Final = 64 * 1024
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What the file says; paths that are relative there are so to the directory that it is in."""

    endpoints: Annotated[list[_Word], msgspec.Meta(min_length=1, max_length=16)]
    ca: _Word | None = None
    cert: _Word | None = None
    key: _Word | None = None
    user: _Word | None = None
    password_file: _Word | None = None
    prefix: Annotated[str, msgspec.Meta(pattern=r"\A/(?:[A-Za-z0-9_.-]+/)+\Z", max_length=256)] = "/pv-channel/"
    dom0: str = msgspec.field(default_factory=platform.node)
    lease: Annotated[int, msgspec.Meta(ge=2, le=600)] = LEASE_SECONDS

    @property
    def said(self) -> str:
        """Where the documents are, for people."""
        return f"documents in etcd at {', '.join(self.endpoints)} below {self.prefix}, as dom0 {self.dom0}"

    @property
    def memory(self) -> str:
        """By what this host's memory of its part in this fleet is told from one of another."""
        return f"{self.prefix} {self.dom0}"

    def connect(self) -> Etcd:
        """A client of that etcd, which has not been asked anything yet; raise `BadFile` for keys that cannot be used."""
        from host_agent.etcd.client import Etcd
        from host_agent.etcd.gateway import Credentials, Gateway

        credentials = None if self.user is None else Credentials(self.user, self._password)
        return Etcd(Gateway(self.endpoints, self._tls(), credentials))

    def _password(self) -> str:
        """As it stands in its file now."""
        path = Path(self.password_file or "")
        try:
            return _secret(path).decode("utf-8").strip("\r\n")
        except UnicodeDecodeError:
            raise BadFile(f"{shown(path)}: not UTF-8") from None

    def _tls(self) -> ssl.SSLContext | None:
        if not any(endpoint.startswith("https:") for endpoint in self.endpoints):
            return None
        import ssl

        path = Path(self.ca or "")
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(path))
            if self.cert is not None and self.key is not None:
                path = Path(self.key)
                _secret(path)
                context.load_cert_chain(self.cert, path, password=_no_password)
        except OSError as exc:  # ssl.SSLError is one
            raise BadFile(f"{shown(path)}: cannot be used with TLS: {printable(exc.strerror or exc, 200)}") from None
        return context


def read(path: Path) -> Fleet:
    """What the file at *path* says; raise `BadFile`."""
    try:
        parsed = parse(text_of(path))
    except BadText as exc:
        raise located(path, exc.place, "", str(exc)) from None
    try:
        fleet = msgspec.convert(parsed.values, Fleet)
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).partition(" - at `$.")
        inside = where.rstrip("`")
        raise located(path, place_of(parsed, inside), inside, printable(problem, 200)) from None
    _check(fleet, parsed, path)
    files = {name: getattr(fleet, name) for name in ("ca", "cert", "key", "password_file")}
    here = path.absolute().parent
    return msgspec.structs.replace(fleet, **{name: str(here / file) for name, file in files.items() if file is not None})


def _check(fleet: Fleet, parsed: Parsed, path: Path) -> None:
    """Raise `BadFile` for what cannot go together, or would show documents to whoever listens."""

    def refusal(inside: str, problem: str) -> BadFile:
        return located(path, place_of(parsed, inside), inside, problem)

    for number, endpoint in enumerate(fleet.endpoints):
        _check_endpoint(endpoint, f"endpoints[{number}]", refusal)
    if (fleet.cert is None) != (fleet.key is None):
        raise refusal("cert", "'cert' and 'key' go together")
    if (fleet.user is None) != (fleet.password_file is None):
        raise refusal("user", "'user' and 'password-file' go together")
    if not _NAME.fullmatch(fleet.dom0):
        raise refusal("dom0", f"'{printable(fleet.dom0, 80)}' is no host's name: letters, digits, '.', '_', '-', at most 64")


def _check_endpoint(endpoint: str, inside: str, refusal: Any) -> None:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port and not parts.username
    except ValueError:
        good = False
    if not good or parts.path or parts.query or parts.fragment:
        raise refusal(inside, "expected https://HOST:PORT")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise refusal(inside, "documents hold secrets, and http shows them to whoever is on the way; use https://")


def _secret(path: Path) -> bytes:
    try:
        return read_private(path, _MAX_SECRET_BYTES)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None


def _no_password() -> bytes:
    """Of a key that is encrypted: nobody is there to be asked."""
    return b""
