# SPDX-License-Identifier: Apache-2.0
"""Plain values as YAML text that means the same to us (the core schema of YAML 1.2) and to readers of YAML 1.1."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from host_agent.documents.yaml_values import core_tag

if TYPE_CHECKING:
    import yaml


def dump(values: object) -> str:
    """*values* as YAML; a string of several lines stands as such."""
    import yaml

    return yaml.dump(values, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=120)


@cache
def _dumper() -> type[yaml.SafeDumper]:
    import yaml

    class CoreDumper(yaml.SafeDumper):
        """The safe dumper, quoting what either version of YAML would take for something else than a string."""

        def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
            tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # PyYAML's
            is_plain = kind is yaml.ScalarNode and implicit[0] and value is not None
            return core_tag(value) if is_plain and value is not None and tag.endswith(":str") else tag

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- the dumper's own name
            return True

    def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        is_printable = text.replace("\n", "").isprintable()
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style if is_printable else '"')

    CoreDumper.add_representer(str, _text)
    return CoreDumper
