# SPDX-License-Identifier: Apache-2.0
"""The commands of pv-host-agent and their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from host_agent import VERSION
from host_agent.formats import FORMATS
from host_agent.install import DOCUMENTS, SOCKETS, STATE
from pv_channel import CHANNEL_NAME

#: For a guest to boot, open its channel and apply a document.
PUSH_SECONDS: Final = 180.0

_ROOT: Final = Path("/")


def parser() -> argparse.ArgumentParser:
    """The parser; *verb* in what it returns names the command."""
    top = argparse.ArgumentParser(
        prog="pv-host-agent",
        description="Configure Xen guests over their PV channels, and keep what became of them.",
        epilog="Exit status: 0 done, 1 an error or a guest that is not as it should be, 2 wrong usage.",
    )
    top.add_argument("--version", action="version", version=f"pv-host-agent {VERSION}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    _check(verbs.add_parser("check", help="say what is wrong with documents, before anything is sent"))
    _push(verbs.add_parser("push", help="give one VM one document and wait for its answer"))
    _serve(verbs.add_parser("serve", help="serve a directory of documents over a directory of sockets"))
    _status(verbs.add_parser("status", help="show what became of the VMs"))
    _keys(verbs.add_parser("keys", help="this host's key, authorities and certificates"))
    _forget(verbs.add_parser("forget-key", help="believe whatever key a VM's guest shows next"))
    _convert(verbs.add_parser("convert", help="turn one format of a network's configuration into another"))
    _schema(verbs.add_parser("schema", help="print the JSON Schema of a document, for editors"))
    _known_hosts(verbs.add_parser("known-hosts", help="print known_hosts lines of the host keys that the guests reported"))
    _install(verbs.add_parser("install", help="put the systemd unit and the directories in place"))
    return top


def _state(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--state", type=Path, default=_ROOT / STATE, metavar="DIR", help="keys and ledger (default: %(default)s)")


def _channel(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--channel", default=CHANNEL_NAME, metavar="NAME", help="the channel's name (default: %(default)s)")


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print JSON on standard output instead of a table")


def _check(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a document, YAML or JSON")


def _push(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", type=Path, metavar="FILE", help="the document, YAML or JSON")
    where = verb.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, metavar="PATH", help="the channel's unix socket")
    where.add_argument("--pty", type=Path, metavar="PATH", help="the channel's terminal, for connection=pty")
    verb.add_argument("--uuid", metavar="UUID", help="the VM's uuid (default: the document's, else the file's name if it is one)")
    dry_run = "ask the guest what it would change, and print that; nothing is sent, touched or counted"
    verb.add_argument("--dry-run", action="store_true", help=dry_run)
    no_wait = "end with the guest's answer, even where items are under way that take longer (user-data)"
    verb.add_argument("--no-wait", action="store_true", help=no_wait)
    how_long = "give up after S seconds (default: %(default)g)"
    verb.add_argument("--timeout", type=_seconds, default=PUSH_SECONDS, metavar="S", help=how_long)
    _channel(verb)
    _state(verb)
    _json(verb)


def _serve(verb: argparse.ArgumentParser) -> None:
    documents = "NAME.yaml, NAME.yml or NAME.json per VM (default: %(default)s)"
    sockets = "NAME.sock or NAME per VM (default: %(default)s)"
    verb.add_argument("--documents", type=Path, default=_ROOT / DOCUMENTS, metavar="DIR", help=documents)
    verb.add_argument("--sockets", type=Path, default=_ROOT / SOCKETS, metavar="DIR", help=sockets)
    verb.add_argument("--verbose", action="store_true", help="log more")
    _channel(verb)
    _state(verb)


def _status(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("vm", nargs="?", metavar="VM", help="a VM's name or uuid: show its items and events")
    _state(verb)
    _json(verb)


def _keys(verb: argparse.ArgumentParser) -> None:
    what = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    init = what.add_parser("init", help="make this host's key and print the line that a template pins")
    init.add_argument("--force", action="store_true", help="replace the key; guests that pinned the old one refuse this host")
    _state(init)
    show = what.add_parser("show", help="print this host's public key and its certificate")
    _state(show)
    authority = what.add_parser("authority", help="make an authority's key, which signs the host keys of a fleet")
    authority.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where (default: authority.key with the state)")
    _state(authority)
    sign = what.add_parser("sign", help="sign a host key with an authority's; the certificate goes beside the host key")
    sign.add_argument("hostkey", nargs="?", type=Path, metavar="HOSTKEY.pub", help="the public key (default: this host's)")
    sign.add_argument("--authority", type=Path, required=True, metavar="FILE", help="the authority's private key")
    sign.add_argument("--label", required=True, metavar="NAME", help="what to call the host in its certificate")
    _state(sign)


def _forget(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("vm", metavar="VM", help="a VM's name or uuid")
    _state(verb)


def _convert(verb: argparse.ArgumentParser) -> None:
    verb.description = (
        "Print a network's configuration in another format: cloud-init's network-config version 1 (v1) or 2 (v2), or OpenStack's"
        " network_data.json (openstack). What the other format cannot say is an error that names its place; nothing is dropped."
    )
    verb.add_argument("file", nargs="?", type=Path, metavar="FILE", help="YAML or JSON (default: standard input)")
    verb.add_argument("--from", dest="source", choices=FORMATS, metavar="FORMAT", help="v1, v2, openstack (default: as it looks)")
    verb.add_argument("--to", dest="target", choices=FORMATS, required=True, metavar="FORMAT", help="v1, v2 or openstack")
    verb.add_argument("--json", action="store_true", help="print JSON instead of YAML")


def _schema(verb: argparse.ArgumentParser) -> None:
    verb.description = (
        "Print the JSON Schema (2020-12) of a document as an operator writes it. An editor that knows YAML schemas completes and"
        " checks documents that begin with the line '# yaml-language-server: $schema=FILE'."
    )


def _known_hosts(verb: argparse.ArgumentParser) -> None:
    verb.description = (
        "Print lines for OpenSSH's known_hosts: the names are those of the VM's document (fqdn, hostname, static addresses), the"
        " keys those that its guest reported. A VM without either is told on standard error, and then the exit status is 1."
    )
    verb.add_argument("vms", nargs="*", metavar="VM", help="a VM's name or uuid (default: all)")
    verb.add_argument("--hash", action="store_true", help="hash the names, as ssh-keygen -H does")
    authority = "for VMs whose document has host certificates, also a @cert-authority line with this public key"
    verb.add_argument("--certificate-authority", type=Path, metavar="FILE", help=authority)
    _state(verb)


def _install(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--root", type=Path, default=_ROOT, metavar="DIR", help="install below DIR (default: %(default)s)")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds above 0")
    return value
