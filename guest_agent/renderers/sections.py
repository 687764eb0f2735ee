# SPDX-License-Identifier: Apache-2.0
"""Files of sections, ``[Name]`` and ``Key=value`` lines, as systemd's programs and NetworkManager read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD: Final = "# Written by pv-guest-agent; the next document from the host replaces this file.\n"


def text(sections: Iterable[list[str]]) -> str:
    """The whole file. A section's first line is its name in brackets; one that has no other is left out."""
    return HEAD + "\n".join("\n".join(lines) + "\n" for lines in sections if len(lines) > 1)


def given(key: str, value: object) -> list[str]:
    """``key=value``, or nothing where the document says nothing."""
    if value is msgspec.UNSET:
        return []
    return [f"{key}={yes_no(value) if isinstance(value, bool) else value}"]


def yes_no(value: object) -> str:
    """systemd's words (systemd.syntax(7))."""
    return "yes" if value else "no"


def read(content: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each section's name and its keys and values, in order; lines that are neither are left out."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in content.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            found.append((stripped[1:-1], []))
        elif found and "=" in stripped and not stripped.startswith(("#", ";")):
            key, _, value = stripped.partition("=")
            found[-1][1].append((key.strip(), value.strip()))
    return found
