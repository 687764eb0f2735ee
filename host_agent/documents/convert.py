# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent convert`: one format of a network's configuration into another, or a word on what cannot be said in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host_agent.documents.formats import FORMATS
from host_agent.documents.formats.formats import converted, recognised
from host_agent.documents.text_file import MAX_FILE_BYTES, located, text_of, text_of_bytes
from host_agent.documents.yaml_values import BadText, parse, place_of
from host_agent.errors import BadFile
from pv_channel.errors import BadDocument

if TYPE_CHECKING:
    from argparse import Namespace

_STDIN = Path("standard input")


def run(arguments: Namespace) -> int:
    """What was converted on standard output."""
    text, path = _read(arguments.file)
    values = convert(text, path, arguments.source, arguments.target)
    if arguments.json:
        print(json.dumps(values, indent=2))
    else:
        import yaml

        yaml.safe_dump(values, sys.stdout, sort_keys=False, default_flow_style=None, width=120)
    return 0


def convert(text: str, path: Path, source: str | None, target: str) -> dict[str, Any]:
    """*text* in the format *target*; raise `BadFile`, which names *path*, the line and the place inside."""
    try:
        parsed = parse(text)
    except BadText as exc:
        raise located(path, exc.place, "", str(exc)) from None
    values = parsed.values
    inner = values["network"] if isinstance(values, dict) and "network" in values else values
    source = source or recognised(inner)
    if source is None:
        raise located(path, None, "", f"is in no format that is known here; say which with --from: {', '.join(FORMATS)}")
    try:
        return converted(values, source, target)
    except BadDocument as exc:
        raise located(path, place_of(parsed, exc.path), exc.path, exc.problem) from None


def _read(file: Path | None) -> tuple[str, Path]:
    if file is not None and str(file) != "-":
        return text_of(file), file
    try:
        return text_of_bytes(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), _STDIN), _STDIN
    except OSError as exc:
        raise BadFile(f"{_STDIN}: {exc.strerror}") from None
