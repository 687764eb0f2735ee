# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent keys`: this host's key and the one that follows it, an authority's, requests and certificates."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from host_agent import keys
from host_agent.errors import BadFile, HostError, shown
from host_agent.files import private_directory
from host_agent.verbs import keys_in_documents, options
from pv_channel.text import printable
from pv_channel.trust import AUTHORITY_TYPE, fingerprint, format_key

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.authorities.rotation import Installed

_RELOAD = "a running service takes it up by: systemctl reload pv-host-agent"


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    what = verb.add_subparsers(dest="what", required=True, metavar="WHAT")

    def add(name: str, purpose: str) -> ArgumentParser:
        made = what.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        options.state(made)
        return made

    init = add("init", "make this host's key and print the line that a template pins")
    init.add_argument("--force", action="store_true", help="replace the key; guests that pinned the old one refuse this host")
    options.as_json(add("show", "print this host's public key, its certificate, and the key that is to follow it"))
    authority = add("authority", "make an authority's key, which signs the host keys of a fleet")
    authority.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where (default: authority.key with the state)")
    request = add("request", "print a request for a certificate, for this host's key or the one that is to follow it")
    _authority_of_request(request)
    sign = add("sign", "sign a request with the authority's key, and print the certificate")
    sign.add_argument("request", type=Path, metavar="REQUEST", help="the file that 'keys request' or 'keys rotate' printed, or -")
    sign.add_argument("--authority", type=Path, required=True, metavar="FILE", help="the authority's private key")
    sign.add_argument("--label", metavar="NAME", help="what to call the host (default: as it asks to be called)")
    compared = "sign no other host key than the one with this fingerprint, which 'keys show' prints on the host itself"
    sign.add_argument("--fingerprint", default="", metavar="SHA256:...", help=compared)
    install = add("install", "take a certificate that an authority signed; a key that was to follow is this host's from then on")
    install.add_argument("certificate", type=Path, metavar="CERTIFICATE", help="the file that 'keys sign' printed, or -")
    rotate = add("rotate", "make the key that is to follow this host's, and print the request for its certificate, or the pin")
    _authority_of_request(rotate)
    finish = "have it be this host's without a certificate, once the documents of all VMs have told them to believe it"
    rotate.add_argument("--finish", action="store_true", help=finish)
    rotate.add_argument("--force", action="store_true", help="finish although some guests may not believe the key")
    keys_in_documents.directory(rotate)
    keys_in_documents.describe(add)


def _authority_of_request(verb: ArgumentParser) -> None:
    words = "the authority's public key, or - (default: the one that signed for this host before)"
    verb.add_argument("--authority", type=Path, metavar="FILE.pub", help=words)
    verb.add_argument("--label", default=printable(platform.node(), 64), metavar="NAME", help="how to be called (%(default)s)")


def run(arguments: Namespace) -> int:
    """Do what was asked for."""
    verbs = {
        "init": _init, "show": _show, "authority": _authority, "request": _request, "sign": _sign, "install": _install,
        "rotate": _rotate, "trust": keys_in_documents.trust, "revoke": keys_in_documents.revoke,
    }  # fmt: skip
    try:
        return verbs[arguments.what](arguments)
    except BrokenPipeError:  # whoever read our output has left
        raise
    except OSError as exc:
        raise BadFile(f"{shown(exc.filename or arguments.state)}: {exc.strerror}") from None


def _init(arguments: Namespace) -> int:
    try:
        keys.create_host_key(arguments.state, platform.node(), replace=arguments.force)
    except FileExistsError:
        raise HostError(
            f"{shown(arguments.state / keys.HOST_KEY_NAME)}: there is a key; 'keys show' prints it, 'keys rotate' has another"
            " follow it. --force replaces it at once, and then guests that pinned it refuse this host"
        ) from None
    return _show(arguments)


def _show(arguments: Namespace) -> int:
    from host_agent.authorities.rotation import next_of
    from host_agent.views.keys import lines, values

    identity, following = _ours(arguments), next_of(arguments.state)
    if getattr(arguments, "json", False):
        options.print_json(values(identity, following))
    else:
        print("\n".join(lines(identity, following)))
    return 0


def _ours(arguments: Namespace) -> keys.Identity:
    identity = keys.load(arguments.state)
    if identity is None:
        raise HostError(f"{shown(arguments.state)}: no host key; cure: pv-host-agent keys init")
    return identity


def _authority(arguments: Namespace) -> int:
    from host_agent.authorities import authority

    path = arguments.file or arguments.state / authority.FILE_NAME
    try:
        if arguments.file is None:
            private_directory(arguments.state)
        public = authority.create(path, platform.node())
    except FileExistsError:
        raise HostError(f"{shown(path)}: there is a file; an authority is never replaced: choose another name") from None
    print(format_key(AUTHORITY_TYPE, public))
    print(f"# fingerprint {fingerprint(public)}; a template pins the line above. Keep {shown(path)} safe: it makes hosts")
    return 0


def _request(arguments: Namespace) -> int:
    from host_agent.authorities.rotation import next_of

    now = keys.identify(arguments.state, _say)
    public = _authority_asked(arguments, now)
    if public is None:
        raise HostError("which authority shall sign? --authority names its public key, the .pub that 'keys authority' made")
    return _print_request(next_of(arguments.state) or now, public, arguments.label)


def _authority_asked(arguments: Namespace, now: keys.Identity) -> bytes | None:
    from host_agent.authorities.authority import public_of

    if arguments.authority is not None:
        return public_of(arguments.authority, keys_in_documents.read(arguments.authority))
    return None if now.certificate is None else now.certificate.authority


def _print_request(identity: keys.Identity, authority: bytes, label: str) -> int:
    from host_agent.authorities.request import ask

    request = ask(identity.key, authority, label)
    print(request.line().decode("ascii"), end="")
    what = f"asks the authority {fingerprint(authority)} to certify {identity.fingerprint} as '{label}'"
    _say(f"{what}; where its key is: pv-host-agent keys sign REQUEST --authority FILE --fingerprint {identity.fingerprint}")
    return 0


def _sign(arguments: Namespace) -> int:
    from host_agent.authorities.authority import certificate_line, certify
    from host_agent.authorities.request import parse

    request = parse(keys_in_documents.read(arguments.request), arguments.request)
    label, issued = arguments.label or request.label, int(time.time())
    certificate = certify(arguments.authority, request, label=label, issued=issued, expected=arguments.fingerprint)
    print(certificate_line(certificate).decode("ascii"), end="")
    _say(f"certified {fingerprint(certificate.host_key)} as '{certificate.label}'; on that host: pv-host-agent keys install FILE")
    return 0


def _install(arguments: Namespace) -> int:
    from host_agent.authorities.rotation import install

    _ours(arguments)
    return _tell_installed(install(arguments.state, keys_in_documents.read(arguments.certificate), arguments.certificate))


def _tell_installed(installed: Installed) -> int:
    from host_agent.views.keys import certified

    now = installed.identity
    print(f"this host's key is {now.fingerprint}, {certified(now)}; {_RELOAD}")
    if installed.before is not None:
        print(f"the key before it was {installed.before}; so that nobody uses it: pv-host-agent keys revoke {installed.before}")
    return 0


def _rotate(arguments: Namespace) -> int:
    from host_agent.authorities.rotation import begin
    from host_agent.views.keys import pin

    now = _ours(arguments)
    if arguments.finish:
        return _finish(arguments, now)
    public = _authority_asked(arguments, now)
    following, is_new = begin(arguments.state)
    what = f"{'made the key' if is_new else 'the key'} {following.fingerprint}, which is to follow {now.fingerprint}"
    _say(f"{what}; until it does, guests meet the old one")
    if public is not None:
        return _print_request(following, public, arguments.label)
    print(pin(following))
    what = "no authority signs for this host, so guests are to pin the key first: pv-host-agent keys trust KEY --name NAME"
    _say(f"{what}; then: pv-host-agent wait --all && pv-host-agent keys rotate --finish")
    return 0


def _finish(arguments: Namespace, now: keys.Identity) -> int:
    from host_agent.authorities.rotation import finish, next_of
    from host_agent.authorities.told import behind, some

    following = next_of(arguments.state)
    if following is not None and not arguments.force:
        if now.certificate is not None:
            raise HostError("an authority signs for this host: have it certify the next key, and 'keys install' that; or --force")
        missing = behind(arguments.state, arguments.documents, following.key.public)
        if missing:
            raise HostError(f"guests that may not believe {following.fingerprint} yet: {some(missing)}; --force does not mind")
    return _tell_installed(finish(arguments.state))


def _say(text: str) -> None:
    print(f"pv-host-agent keys: {text}", file=sys.stderr)
