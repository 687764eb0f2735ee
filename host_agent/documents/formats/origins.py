# SPDX-License-Identifier: Apache-2.0
"""Where in an operator's file a value came from, once it stands elsewhere in the document that the file means."""

from __future__ import annotations


class Origins:
    """For a path in the document, the path in the file: that of the nearest value around it that was moved."""

    def __init__(self) -> None:
        self._origin: dict[str, str] = {}

    def record(self, path: str, origin: str) -> None:
        """What stands at *path* came from *origin*."""
        self._origin[path] = origin

    def extend(self, other: Origins, prefix: str) -> None:
        """Take over what *other* knows of what is below *prefix* here; its origins are paths of the whole file."""
        for path, origin in other._origin.items():
            self._origin[f"{prefix}.{path}" if path else prefix] = origin

    def of(self, path: str) -> str:
        """Where what stands at *path* came from; *path* itself where nothing around it was moved."""
        best = ""
        for known in self._origin:
            if len(known) > len(best) and path.startswith(known) and path[len(known) : len(known) + 1] in ("", ".", "["):
                best = known
        return self._origin[best] if best else self._origin.get("", path)

    def below(self, path: str) -> list[str]:
        """Where all came from that was moved to *path* or below it."""
        at = len(path)
        return [origin for known, origin in self._origin.items() if known[:at] == path and known[at : at + 1] in ("", ".", "[")]
