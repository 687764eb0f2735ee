# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent keys`: make, show and sign keys. What it prints is what a template's trusted_keys takes."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

from host_agent import keys
from host_agent.errors import BadFile, HostError, shown
from host_agent.files import private_directory
from host_agent.verbs import options
from pv_channel.text import printable
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, fingerprint, format_key

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    what = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    init = what.add_parser("init", help="make this host's key and print the line that a template pins")
    init.add_argument("--force", action="store_true", help="replace the key; guests that pinned the old one refuse this host")
    options.state(init)
    show = what.add_parser("show", help="print this host's public key and its certificate")
    options.state(show)
    authority = what.add_parser("authority", help="make an authority's key, which signs the host keys of a fleet")
    authority.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where (default: authority.key with the state)")
    options.state(authority)
    sign = what.add_parser("sign", help="sign a host key with an authority's; the certificate goes beside the host key")
    sign.add_argument("hostkey", nargs="?", type=Path, metavar="HOSTKEY.pub", help="the public key (default: this host's)")
    sign.add_argument("--authority", type=Path, required=True, metavar="FILE", help="the authority's private key")
    sign.add_argument("--label", required=True, metavar="NAME", help="what to call the host in its certificate")
    options.state(sign)



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
