# SPDX-License-Identifier: Apache-2.0
"""A xenstored to test against: a thread with a tree of owned nodes that speaks the wire protocol, or is slow, cut or garbling.

`FakeXenstored(path)` is a context manager that listens at *path*. The test is dom0 and the guests at once: `write(path, value,
owner)`, `rm(path)`, `introduce(domid)`, `release(domid)`; `create(domid, name, uuid, channels, device_model)` writes what libxl
writes for a domain with channels, in libxl's order, and `destroy(domid)` takes it all away again.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

HEADER: Final = struct.Struct("=IIII")
PAYLOAD: Final = 4096
#: public/io/xs_wire.h
DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, START, END = 1, 2, 3, 4, 5, 6, 7
WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR, IS_INTRODUCED, SET_TARGET, DIRECTORY_PART = 11, 12, 13, 14, 15, 16, 17, 19, 22


class Channel(NamedTuple):
    """A line of ``channel=``: at the socket *path*, or where there is none on a pty, at *tty* once QEMU has opened it."""

    name: str
    path: str = ""
    tty: str = ""


class Oops(Exception):  # noqa: N818 -- the daemon's own name for it does not matter
    """An error that goes to the client by its name."""


class Node:
    """A value, the permissions with the owner first, the children in the order of their making."""

    def __init__(self, perms: Sequence[str]) -> None:
        self.value = b""
        self.perms = tuple(perms)
        self.children: dict[str, Node] = {}


class Client:
    """One connection, with what it has not read yet."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.incoming, self.outgoing = bytearray(), bytearray()
        self.watches: list[tuple[str, str]] = []
        self.transactions: dict[int, tuple[int, Node, list[str]]] = {}


class FakeXenstored:
    """The daemon; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: How often each operation was asked for.
        self.requests: Counter[int] = Counter()
        #: The most requests that were seen unanswered at once, on one connection.
        self.most_at_once = 0
        self.connected = 0
        #: Seconds that every answer takes.
        self.delay = 0.0
        #: Read everything, answer nothing.
        self.silent = False
        #: Paths and the error that is all they give.
        self.refusing: dict[str, str] = {}
        #: Told the operation and path of each request before it is answered; called in the daemon's thread.
        self.before: Callable[[int, str], None] = lambda operation, path: None
        self._root = Node(["n0"])
        self._introduced: set[int] = set()
        #: Which domain may do what another may, as its device model.
        self.targets: dict[int, int] = {}
        self._generation, self._transaction = 1, 0
        self._clients: dict[socket.socket, Client] = {}
        #: Held while the tree is looked at or changed.
        self.lock = threading.RLock()
        self._stop = threading.Event()
        for made in ("/local/domain/0", "/libxl", "/vm", "/tool/xenstored"):
            self.write(made)

    # -- the daemon's life

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        self.path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(self.path))
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._ring()
        self._thread.join()
        with self.lock:
            for client in list(self._clients.values()):
                self._drop(client)
        for each in (self._listener, self._bell, self._ear):
            each.close()
        self._selector.close()
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        """Close every client's connection, as a daemon that dies does; it listens on."""
        with self.lock:
            for client in list(self._clients.values()):
                self._drop(client)

    def say(self, data: bytes) -> None:
        """Send these bytes to every client, whatever they are."""
        with self.lock:
            for client in self._clients.values():
                self._send(client, data)

    # -- what dom0 and the guests do

    def write(self, path: str, value: str | bytes | int = "", owner: int | None = None) -> None:
        """As domain *owner* wrote it; without one a new node is its parent's owner's."""
        with self.lock:
            self._set(self._root, path, str(value).encode() if isinstance(value, (str, int)) else value, owner)
            self._fire(path)

    def rm(self, path: str) -> None:
        """Remove a node and what is below it, if it is there."""
        with self.lock:
            if self._remove(self._root, path):
                self._fire(path, removed=True)

    def perms(self, path: str, *perms: str) -> None:
        """Set permissions, ``n0 r7`` for example; the first names the owner."""
        with self.lock:
            self._find(self._root, path).perms = perms
            self._fire(path)

    def introduce(self, domid: int) -> None:
        """The domain runs now."""
        with self.lock:
            self._introduced.add(domid)
            self._fire("@introduceDomain")

    def release(self, domid: int) -> None:
        """The domain is no more."""
        with self.lock:
            self._introduced.discard(domid)
            self._fire("@releaseDomain")

    def create(
        self, domid: int, name: str = "", uuid: str = "", channels: Sequence[Channel] = (), device_model: int | None = None
    ) -> None:
        """What libxl writes for a domain, in its order; without *device_model* its QEMU is not up yet."""
        uuid = uuid or f"00000000-0000-4000-8000-{domid:012x}"
        home, vm = f"/local/domain/{domid}", f"/vm/{uuid}"
        self.write(home, owner=0)
        self.perms(home, "n0", f"r{domid}")
        self.write(f"{home}/vm", vm)
        self.write(f"{home}/name", name or f"vm{domid}")
        self.write(f"{home}/device", owner=domid)
        self.write(f"/libxl/{domid}/type", "pvh")
        self.write(f"{vm}/uuid", uuid)
        self.write(f"{vm}/name", name or f"vm{domid}")
        self.introduce(domid)
        self._console(domid, 0, {"type": "xenconsoled", "output": "pty"}, None)
        for index, channel in enumerate(channels, 1):
            self.channel(domid, index, channel)
        if device_model is not None:
            self.start_device_model(domid, device_model, channels)

    def channel(self, domid: int, index: int, channel: Channel) -> None:
        """One console with a name, as at creation or by hot-plug."""
        output = f"chardev:libxl-channel{index - 1}" if channel.path else "pty"
        self._console(domid, index, {"name": channel.name, "type": "ioemu", "output": output}, channel)

    def start_device_model(self, domid: int, pid: int, channels: Sequence[Channel] = ()) -> None:
        """QEMU is up: it says which terminals it opened; libxl notes its pid."""
        for index, channel in enumerate(channels, 1):
            if channel.tty:
                self.write(f"/local/domain/{domid}/device/console/{index}/tty", channel.tty, owner=0)
        self.write(f"/local/domain/{domid}/image/device-model-pid", pid, owner=0)
        self.write(f"/local/domain/0/device-model/{domid}/state", "running")

    def destroy(self, domid: int) -> None:
        """The domain and all that was written for it are gone."""
        self.release(domid)
        vm = self.value(f"/local/domain/{domid}/vm")
        for path in (
            f"/local/domain/{domid}", vm, f"/libxl/{domid}", f"/local/domain/0/backend/console/{domid}",
            f"/local/domain/0/device-model/{domid}",
        ):  # fmt: skip
            if path:
                self.rm(path)

    def value(self, path: str) -> str:
        """What is written there, "" where there is no such node."""
        with self.lock:
            try:
                return self._find(self._root, path).value.decode("utf-8", "surrogateescape")
            except Oops:
                return ""

    def snapshot(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Every node's value and permissions, by its path."""
        with self.lock:
            return {path: (node.value.decode("utf-8", "surrogateescape"), node.perms) for path, node in _below("", self._root)}

    def _console(self, domid: int, index: int, front: dict[str, str], channel: Channel | None) -> None:
        frontend = f"/local/domain/{domid}/device/console/{index}"
        backend = f"/local/domain/0/backend/console/{domid}/{index}"
        libxl = f"/libxl/{domid}/device/console/{index}"
        self.write(frontend, owner=domid)
        for key, value in {"backend": backend, "backend-id": "0", "state": "1", "protocol": "vt100"}.items():
            self.write(f"{frontend}/{key}", value, owner=domid)
        for key, value in {"limit": "1048576", **front}.items():
            self.write(f"{frontend}/{key}", value, owner=0)
        said = {"frontend": frontend, "backend": backend}
        if channel is not None:
            said |= {"name": channel.name, "connection": "socket" if channel.path else "pty"}
            said |= {"path": channel.path} if channel.path else {}
        for key, value in {**said, "state": "1", "frontend-id": str(domid), "online": "1"}.items():
            self.write(f"{backend}/{key}", value)
        for key, value in said.items():
            self.write(f"{libxl}/{key}", value)

    # -- the tree

    def _find(self, root: Node, path: str) -> Node:
        node = root
        for name in _names(path):
            if name not in node.children:
                raise Oops("ENOENT")
            node = node.children[name]
        return node

    def _make(self, root: Node, path: str, owner: int | None) -> Node:
        node = root
        for name in _names(path):
            if name not in node.children:
                perms = node.perms if owner is None else (f"n{owner}", *node.perms[1:])
                node.children[name] = Node(perms)
            node = node.children[name]
        return node

    def _set(self, root: Node, path: str, value: bytes, owner: int | None) -> None:
        node = self._make(root, path, owner)
        node.value = value
        self._generation += 1

    def _remove(self, root: Node, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        try:
            removed = self._find(root, parent or "/").children.pop(name, None) is not None
        except Oops:
            return False
        self._generation += removed
        return removed

    def _fire(self, path: str, *, removed: bool = False) -> None:
        for client in self._clients.values():
            for watched, token in client.watches:
                if _is_below(path, watched):
                    self._event(client, path, token)
                elif removed and _is_below(watched, path):
                    self._event(client, watched, token)

    def _event(self, client: Client, path: str, token: str) -> None:
        payload = f"{path}\0{token}\0".encode()
        self._send(client, HEADER.pack(WATCH_EVENT, 0, 0, len(payload)) + payload)

    # -- the wire

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select():
                if key.fileobj is self._ear:
                    self._ear.recv(4096)
                elif key.fileobj is self._listener:
                    self._accept()
                elif any(key.fileobj is end for end in tuple(self._clients)):
                    self._serve(key.data)
            with self.lock:
                for client in list(self._clients.values()):
                    self._flush(client)

    def _accept(self) -> None:
        end, _ = self._listener.accept()
        end.setblocking(False)
        with self.lock:
            self._clients[end] = client = Client(end)
            self.connected += 1
            self._selector.register(end, selectors.EVENT_READ, client)

    def _drop(self, client: Client) -> None:
        if self._clients.pop(client.end, None) is not None:
            self._selector.unregister(client.end)
            client.end.close()

    def _send(self, client: Client, data: bytes) -> None:
        client.outgoing += data
        if threading.current_thread() is not self._thread:
            self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it has been rung often enough
            self._bell.send(b"!")

    def _flush(self, client: Client) -> None:
        try:
            while client.outgoing:
                del client.outgoing[: client.end.send(client.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.outgoing else 0)
        self._selector.modify(client.end, events, client)

    def _serve(self, client: Client) -> None:
        try:
            data = client.end.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            with self.lock:
                self._drop(client)
            return
        client.incoming += data
        waiting = self._take(client)
        self.most_at_once = max(self.most_at_once, len(waiting))
        for operation, number, transaction, payload in waiting:
            self._answer(client, operation, number, transaction, payload)

    def _take(self, client: Client) -> list[tuple[int, int, int, bytes]]:
        taken = []
        while len(client.incoming) >= HEADER.size:
            operation, number, transaction, length = HEADER.unpack_from(client.incoming)
            if length > PAYLOAD:
                with self.lock:
                    self._drop(client)
                return []
            if len(client.incoming) < HEADER.size + length:
                break
            taken.append((operation, number, transaction, bytes(client.incoming[HEADER.size : HEADER.size + length])))
            del client.incoming[: HEADER.size + length]
        return taken

    def _answer(self, client: Client, operation: int, number: int, transaction: int, payload: bytes) -> None:
        self.requests[operation] += 1
        path, _, rest = payload.partition(b"\0")
        self.before(operation, path.decode("latin-1"))
        if self.delay:
            time.sleep(self.delay)
        if self.silent:
            return
        with self.lock:
            if client.end not in self._clients:
                return
            try:
                answer = self._do(client, operation, transaction, path.decode("latin-1"), rest)
            except Oops as exc:
                operation, answer = ERROR, str(exc).encode() + b"\0"
            client.outgoing += HEADER.pack(operation, number, transaction, len(answer)) + answer
            if operation == WATCH:
                self._event(client, *client.watches[-1])
            self._flush(client)

    def _do(self, client: Client, operation: int, transaction: int, path: str, rest: bytes) -> bytes:
        if path in self.refusing:
            raise Oops(self.refusing[path])
        if operation in (WATCH, UNWATCH):
            return _watch(client, operation, (path, rest.partition(b"\0")[0].decode()))
        if operation == START:
            self._transaction += 1
            client.transactions[self._transaction] = (self._generation, deepcopy(self._root), [])
            return f"{self._transaction}\0".encode()
        if operation == IS_INTRODUCED:
            return b"T\0" if int(path) in self._introduced else b"F\0"
        if operation == SET_TARGET:
            return self._set_target(int(path), int(rest.rstrip(b"\0")))
        if transaction and transaction not in client.transactions:
            raise Oops("ENOENT")
        if operation == END:
            return self._end(client, transaction, path == "T")
        return self._do_node(client, operation, transaction, path, rest)

    def _set_target(self, domid: int, target: int) -> bytes:
        if not {domid, target} <= self._introduced:
            raise Oops("ENOENT")
        self.targets[domid] = target
        return b"OK\0"

    def _end(self, client: Client, transaction: int, commit: bool) -> bytes:
        generation, root, changed = client.transactions.pop(transaction)
        if not commit:
            return b"OK\0"
        if generation != self._generation:
            raise Oops("EAGAIN")
        self._root = root
        self._generation += 1
        for path in changed:
            self._fire(path, removed=True)
        return b"OK\0"

    def _do_node(self, client: Client, operation: int, transaction: int, path: str, rest: bytes) -> bytes:
        root = client.transactions[transaction][1] if transaction else self._root
        if path and not path.startswith("/"):  # whoever comes by the socket is dom0
            path = f"/local/domain/0/{path}"
        if not path.startswith("/") or path != "/" + "/".join(_names(path)):
            raise Oops("EINVAL")
        if operation in (DIRECTORY, READ, GET_PERMS, DIRECTORY_PART):
            return self._look(operation, self._find(root, path), rest)
        if operation not in (WRITE, MKDIR, RM, SET_PERMS):
            raise Oops("ENOSYS")
        generation = self._generation
        if operation == WRITE:
            self._set(root, path, rest, None)
        elif operation == MKDIR:
            self._make(root, path, None)
            self._generation += 1
        elif operation == RM:
            self._find(root, path.rpartition("/")[0] or "/")
            self._remove(root, path)
        else:
            self._find(root, path).perms = tuple(rest.decode().rstrip("\0").split("\0"))
        if transaction:
            self._generation = generation
            client.transactions[transaction][2].append(path)
        else:
            self._fire(path, removed=operation == RM)
        return b"OK\0"

    def _look(self, operation: int, node: Node, rest: bytes) -> bytes:
        if operation == READ:
            return node.value
        if operation == GET_PERMS:
            return "".join(f"{perm}\0" for perm in node.perms).encode()
        names = "".join(f"{name}\0" for name in node.children).encode()
        if operation == DIRECTORY:
            if len(names) > PAYLOAD:
                raise Oops("E2BIG")
            return names
        return _part(f"{self._generation}\0".encode(), names, int(rest.rstrip(b"\0")))


def _below(path: str, node: Node) -> Iterator[tuple[str, Node]]:
    for name, child in node.children.items():
        yield f"{path}/{name}", child
        yield from _below(f"{path}/{name}", child)


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _is_below(path: str, above: str) -> bool:
    return path == above or above == "/" or path.startswith(f"{above}/")


def _watch(client: Client, operation: int, watch: tuple[str, str]) -> bytes:
    if operation == WATCH:
        if watch in client.watches:
            raise Oops("EEXIST")
        client.watches.append(watch)
    elif watch in client.watches:
        client.watches.remove(watch)
    else:
        raise Oops("ENOENT")
    return b"OK\0"


def _part(head: bytes, names: bytes, offset: int) -> bytes:
    """As many whole names as fit, and one more NUL after the last of all."""
    rest = names[offset:]
    if len(head) + len(rest) + 1 <= PAYLOAD:
        return head + rest + b"\0"
    return head + rest[: rest.rindex(b"\0", 0, PAYLOAD - len(head)) + 1]
