# SPDX-License-Identifier: Apache-2.0
"""Good values, damaged: what an operator mistypes, an orchestrator forgets, or a stranger tries."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 70000), st.floats(allow_nan=False), st.text(max_size=8),
    st.sampled_from(["default", "root", "192.0.2.1", "192.0.2.1/24", "FD00::1/64", "00:16:3E:01:02:03", "0644", "644", "/etc/x",
                     "eth0", " ", "", "ALL=(ALL) ALL", "guest", "tcp", "UTC", "C", "a.b", "2027-01-31"]),
    st.sampled_from([[], {}, [""], ["a"], {"a": []}]),
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, good: list[Any]) -> Any:
    """One of *good* values in which a value was replaced, left out or added."""
    values = copy.deepcopy(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 3))):
        places = [place for place in _places(values) if place]
        if not places:
            break
        *outer, last = draw(st.sampled_from(places))
        inside = values
        for step in outer:
            inside = inside[step]
        deed = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if deed == "replace":
            inside[last] = copy.deepcopy(draw(SCALARS))
        elif deed == "remove":
            del inside[last]
        elif isinstance(inside, list):
            inside.append(copy.deepcopy(inside[last]))
        else:
            name = draw(st.sampled_from(["name", "absent", "mtu", "to", "via", "check", "path", "x", "gateway", "params"]))
            inside[name] = copy.deepcopy(draw(SCALARS))
    return values


def _places(values: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [here, *(place for step, value in steps for place in _places(value, (*here, step)))]
