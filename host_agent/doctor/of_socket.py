# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a channel's end in dom0: its socket or terminal is missing, replaced, or somebody else's to decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.channels.connect import MAX_SOCKET_PATH_BYTES
from host_agent.channels.ends import NOTHING, OTHER, SOCKET, TERMINAL, Listener
from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen, beyond
from host_agent.errors import shown

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case


def _too_long(case: Case) -> Seen | None:
    length = len(case.place.encode("utf-8", "surrogateescape"))
    if length <= MAX_SOCKET_PATH_BYTES:
        return None
    evidence = (f"{case.place} has {length} bytes, and at most {MAX_SOCKET_PATH_BYTES} work",)
    return Seen("the socket's path is too long to be connected to", evidence)


def _directory(case: Case) -> Seen | None:
    directory = str(Path(case.place).parent)
    if not case.directory_trouble or (case.dom0.sockets_trouble or ("",))[0] == directory:  # the host's own finding
        return None
    return Seen(
        "others than root decide what stands where the channel's socket is, so nothing is sent there",
        (case.directory_trouble,),
        (("directory", directory),),
    )


def _squatted(case: Case) -> Seen | None:
    if not case.squatted:
        return None
    return Seen("somebody else has taken the place of the channel, and gets nothing", case.squatted, (("path", case.place),))


def _no_socket(case: Case) -> Seen | None:
    if case.dom0.knows_domains or case.ends is not None or not case.has_document:
        return None
    where = ", ".join(shown(directory) for directory in case.dom0.sockets)
    return Seen("no socket is known for the VM", (f"neither {where} nor the ledger has one of the name {case.vm}",))


def _missing(case: Case) -> Seen | None:
    ends = case.ends
    if ends is None or ends.kind != NOTHING or not ends.path:
        return None
    kept = _qemus(case)
    if kept is not None:
        return Seen(
            "the socket was removed while QEMU listens on it, as a dying QEMU with the same path does",
            (f"nothing is at {ends.path}", f"{kept.processes[0]} listens on a socket that had that path"),
        )
    return Seen("there is no socket or terminal where the channel should be", (f"nothing is at {ends.path}",))


def _replaced(case: Case) -> Seen | None:
    ends, kept = case.ends, _qemus(case)
    if ends is None or ends.kind != SOCKET or kept is None or kept.here:
        return None
    now = ends.listener
    who = now.processes[0] if now is not None and now.processes else "nobody"
    return Seen(
        "another socket has taken the place of the one that the VM's QEMU listens on",
        (
            f"the domain's QEMU, {kept.processes[0]}, listens on a socket that had the path {ends.path}",
            f"{who} listens on the one there now",
        ),
        (("path", ends.path),),
    )


def _qemus(case: Case) -> Listener | None:
    """The listener of that path that is the domain's own QEMU's, wherever its socket is now."""
    if case.qemu is None or case.ends is None:
        return None
    pid = case.qemu.pid
    found = [one for one in case.ends.listeners if any(process.pid == pid for process in one.processes)]
    return next((one for one in found if one.here), found[0] if found else None)


def _nobody_listens(case: Case) -> Seen | None:
    ends = case.ends
    if ends is None or ends.kind != SOCKET or ends.listener is not None or case.dom0.peers_trouble:
        return None
    return Seen(
        "the socket is there and nobody listens on it: its QEMU died and left the file",
        (f"{ends.path} is a socket, and the kernel has no listener for it (connecting gives ECONNREFUSED)",),
        (("path", ends.path),),
    )


def _of_no_kind(case: Case) -> Seen | None:
    ends = case.ends
    wanted = TERMINAL if case.console is not None and case.console.connection == "pty" else SOCKET
    if ends is None or ends.kind in (NOTHING, wanted):
        return None
    what = "neither a socket nor a terminal" if ends.kind == OTHER else f"a {ends.kind}"
    return Seen(
        f"what is at the channel's path is no {wanted}", (f"{ends.path} is {what}",), (("path", ends.path),)
    )


_BEYOND: Final = beyond(Layer.SOCKET)

DIAGNOSES: Final = (
    Diagnosis(
        "no-socket", Layer.SOCKET,
        "without Xen a VM's channel is found by its name alone, and no directory of sockets has it",
        "is the VM on, and its channel's path one of --sockets, with the document's name ({vm}.sock)?",
        _no_socket, _BEYOND,
    ),
    Diagnosis(
        "path-too-long", Layer.SOCKET,
        "a unix socket's path has at most 107 bytes",
        "give the channel a shorter path= and create the VM anew",
        _too_long, (Layer.SOCKET, *_BEYOND),
    ),
    Diagnosis(
        "directory-open-to-others", Layer.SOCKET,
        "another user could put a socket of its own where the VM's is, so nothing is sent there",
        "chown root {directory}; chmod 700 {directory}",
        _directory, (Layer.SOCKET, *_BEYOND),
    ),
    Diagnosis(
        "squatted", Layer.SOCKET,
        "another user's program, file or link is at the channel's path; it is not greeted",
        "look who it is (the pid above; ls -l {path}), end it, remove {path}, and create the VM anew",
        _squatted, (Layer.SOCKET, *_BEYOND),
    ),
    Diagnosis(
        "socket-replaced", Layer.SOCKET,
        "the socket of the VM's QEMU was replaced by another one: two VMs, or two lives of one, had the same path",
        "give each VM a path of its own; then reboot this one (xl reboot {domain})",
        _replaced, _BEYOND,
    ),
    Diagnosis(
        "socket-missing", Layer.SOCKET,
        "the domain runs and its socket is gone, or is not there yet",
        "a running service puts a removed one back by itself where it had seen it; else reboot the VM (xl reboot {domain}),"
        " with a path of its own",
        _missing, _BEYOND,
    ),
    Diagnosis(
        "nobody-listens", Layer.SOCKET,
        "a dead QEMU left its socket",
        "xl shutdown {domain} (or xl destroy {domain}), then create it anew; QEMU replaces {path} itself",
        _nobody_listens, _BEYOND,
    ),
    Diagnosis(
        "not-a-socket", Layer.SOCKET,
        "something else than a socket, or than a terminal for connection=pty, is at the channel's path",
        "look at it (ls -l {path}), remove it, and create the VM anew",
        _of_no_kind, _BEYOND,
    ),
)  # fmt: skip
