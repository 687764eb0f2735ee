# SPDX-License-Identifier: Apache-2.0
"""A QEMU whose VM moves, or comes, as a test tells it: a monitor with the commands of a migration, and a schema that has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.host.fake_qmp import FakeMonitor, Oops

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SWITCHES = ("events", "return-path", "multifd")
MODES = ("normal", "cpr-reboot", "cpr-transfer")


def schema(*, channels: bool = True) -> list[dict[str, Any]]:
    """What `query-qmp-schema` says of migration, with made-up names of types as QEMU's are; *channels*: as QEMU 10."""

    def members(**types: str) -> list[dict[str, Any]]:
        return [{"name": name.replace("_", "-"), "type": type_} for name, type_ in types.items()]

    def enumeration(name: str, *values: str) -> dict[str, Any]:
        return {"name": name, "meta-type": "enum", "members": [{"name": each} for each in values], "values": list(values)}

    new: dict[str, str] = {"channels": "[7]"} if channels else {}
    late: dict[str, str] = {"exit_on_error": "bool"} if channels else {}
    modes: dict[str, str] = {"mode": "12"} if channels else {}
    return [
        {"name": "migrate", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
        {"name": "migrate-incoming", "meta-type": "command", "arg-type": "2", "ret-type": "0"},
        {"name": "migrate-set-capabilities", "meta-type": "command", "arg-type": "3", "ret-type": "0"},
        {"name": "migrate-set-parameters", "meta-type": "command", "arg-type": "4", "ret-type": "0"},
        {"name": "1", "meta-type": "object", "members": members(uri="str", **new)},
        {"name": "2", "meta-type": "object", "members": members(uri="str", **new, **late)},
        {"name": "3", "meta-type": "object", "members": members(capabilities="[5]")},
        {"name": "4", "meta-type": "object", "members": members(max_bandwidth="int", downtime_limit="int", **modes)},
        {"name": "[5]", "meta-type": "array", "element-type": "5"},
        {"name": "5", "meta-type": "object", "members": members(capability="6", state="bool")},
        enumeration("6", *SWITCHES),
        {"name": "[7]", "meta-type": "array", "element-type": "7"},
        {"name": "7", "meta-type": "object", "members": members(channel_type="8", addr="9")},
        enumeration("8", "main", "cpr"),
        {"name": "9", "meta-type": "object", "members": members(transport="10"), "tag": "transport", "variants": []},
        enumeration("10", "socket", "exec", "file"),
        {"name": "11", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "null"}]},
        enumeration("12", *MODES),
        {"name": "str", "meta-type": "builtin", "json-type": "string"},
    ]  # fmt: skip


class FakeMoving(FakeMonitor):
    """The monitor. `state` is the VM's, and `status` the answer to `query-migrate`; what changes them is up to the test.

    The next of `then` is called with each `query-migrate`, before it is answered; `on_migrate` and so on when that is said.
    """

    def __init__(self, path: Path, *, state: str = "running", channels: bool = True) -> None:
        super().__init__(path)
        self.state = state
        self.status: dict[str, Any] = {}
        self.switched = dict.fromkeys(SWITCHES, False)
        self.parameters: dict[str, Any] = {"max-bandwidth": 1, "downtime-limit": 300, "mode": "normal"}
        self.then: list[Callable[[], None]] = []
        self.on_migrate: Callable[[], None] = lambda: None
        self.on_listen: Callable[[], None] = lambda: None
        self.on_cancel: Callable[[], None] = lambda: self.is_now("cancelled")
        self.on_cont: Callable[[], None] = lambda: self.runs("running")
        self.answers |= {
            "query-qmp-schema": schema(channels=channels),
            "query-name": {"name": "web1"},
            "query-status": lambda _: {"status": self.state, "running": self.state == "running"},
            "query-migrate": lambda _: self._status(),
            "query-migrate-capabilities": lambda _: [{"capability": k, "state": v} for k, v in self.switched.items()],
            "query-migrate-parameters": lambda _: dict(self.parameters),
            "migrate-set-capabilities": lambda said: self._switch(said["capabilities"]),
            "migrate-set-parameters": self._set,
            "migrate-incoming": self._listens,
            "migrate": lambda _: self._does(self.on_migrate),
            "migrate_cancel": lambda _: self._does(self.on_cancel),
            "cont": lambda _: self._does(self.on_cont),
            "stop": lambda _: self._does(lambda: self.runs("paused")),
            "qom-list": [],
        }

    def is_now(self, status: str, *, tell: bool = True, **more: Any) -> None:
        """What its migration is, with the event if *tell*."""
        self.status = {"status": status, **{name.replace("_", "-"): value for name, value in more.items()}}
        if tell:
            self.tell("MIGRATION", status=status)

    def runs(self, state: str) -> None:
        """What its VM is, with the event."""
        self.state = state
        self.tell("RESUME" if state == "running" else "STOP")

    def tell(self, name: str, **data: Any) -> None:
        """An event, for the client that has just asked for something."""
        message = {"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}}
        if self._writer is not None:
            self._writer.write(json.dumps(message).encode() + b"\r\n")

    def refuses(self, command: str, words: str) -> None:
        """Have *command* be refused."""

        def refuse(_: Any) -> None:
            raise Oops(words)

        self.answers[command] = refuse

    def said(self, command: str) -> list[Any]:
        """With what *command* was said, each time."""
        return [arguments for name, arguments in self.asked if name == command]

    def _status(self) -> dict[str, Any]:
        if self.then:
            self.then.pop(0)()
        return self.status

    def _switch(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        self.switched |= {each["capability"]: each["state"] for each in states}
        return {}

    def _set(self, said: dict[str, Any]) -> dict[str, Any]:
        self.parameters |= said
        return {}

    def _listens(self, _: object) -> dict[str, Any]:
        self.on_listen()
        self.status = {"status": "setup", "socket-address": [{"type": "inet", "host": "127.0.0.1", "port": "4711"}]}
        return {}

    @staticmethod
    def _does(what: Callable[[], None]) -> dict[str, Any]:
        what()
        return {}
