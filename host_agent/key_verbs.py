# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent keys`: make, show and sign keys. What it prints is what a template's trusted_keys takes."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

from host_agent import keys
from host_agent.errors import BadFile, HostError, shown
from host_agent.files import private_directory
from pv_channel.text import printable
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, fingerprint, format_key

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Make, show and sign keys."""
    return {"init": _init, "show": _show, "authority": _authority, "sign": _sign}[arguments.what](arguments)


def _init(arguments: Namespace) -> int:
    try:
        keys.create_host_key(arguments.state, platform.node(), replace=arguments.force)
    except FileExistsError:
        raise HostError(
            f"{shown(arguments.state / keys.HOST_KEY_NAME)}: there is a key; 'keys show' prints it."
            " --force replaces it, and then guests that pinned it refuse this host"
        ) from None
    return _show(arguments)


def _show(arguments: Namespace) -> int:
    identity = keys.load(arguments.state)
    if identity is None:
        raise HostError(f"{shown(arguments.state)}: no host key; cure: pv-host-agent keys init")
    print(format_key(HOST_KEY_TYPE, identity.key.public, printable(platform.node())))
    print(f"# fingerprint {identity.fingerprint}; a template pins the line above in /etc/pv-guest-agent/trusted_keys")
    certificate = identity.certificate
    if certificate is not None:
        print(f"# certified as '{certificate.label}' by the authority {fingerprint(certificate.authority)}; or pin that:")
        print(format_key(AUTHORITY_TYPE, certificate.authority))
    return 0


def _authority(arguments: Namespace) -> int:
    path = arguments.file or arguments.state / keys.AUTHORITY_NAME
    try:
        if arguments.file is None:
            private_directory(arguments.state)
        public = keys.create_authority(path, platform.node())
    except FileExistsError:
        raise HostError(f"{shown(path)}: there is a file; an authority is never replaced: choose another name") from None
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None
    print(format_key(AUTHORITY_TYPE, public))
    print(f"# fingerprint {fingerprint(public)}; a template pins the line above. Keep {shown(path)} safe: it makes hosts")
    return 0


def _sign(arguments: Namespace) -> int:
    public = arguments.hostkey or keys.beside(arguments.state / keys.HOST_KEY_NAME, ".pub")
    path, certificate = keys.sign_host_key(arguments.authority, public, label=arguments.label, issued=int(time.time()))
    print(f"certified {fingerprint(certificate.host_key)} as '{certificate.label}': {shown(path)}")
    return 0
