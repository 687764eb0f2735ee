# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: documents that parse, each field there or not, as plain values."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from pv_channel.document import ITEMS
from tests.protocol.blocks import read

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

KEYS = [case["line"] for case in read("ssh-keys-good")][:4]
HASH = "$6$saltsalt$" + "Ab1./" * 17
NAMES = ["ada", "bob", "eve", "_svc-1"]
INTERFACES = ["e0", "e1", "enX2", "eth0.5"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
paths = st.lists(st.sampled_from(["etc", "a", "b", "x.conf"]), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
metrics = st.integers(0, 2**32 - 1)


def some(**fields: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """A mapping with any of *fields*; an underscore stands for a hyphen."""
    return st.fixed_dictionaries({}, optional={name.replace("_", "-"): value for name, value in fields.items()})


def with_names(entries: SearchStrategy[dict[str, Any]]) -> SearchStrategy[list[dict[str, Any]]]:
    """A list of *entries*, each with a name of its own."""
    return st.dictionaries(st.sampled_from(NAMES), entries, max_size=3).map(
        lambda named: [{"name": name, **entry} for name, entry in named.items()]
    )


users = with_names(
    st.fixed_dictionaries(
        {},
        optional={
            "uid": st.integers(1, 60000),
            "gecos": st.sampled_from(["", "Ada L.", "é"]),
            "groups": st.one_of(st.sampled_from(["", "adm", "adm, sudo"]), st.lists(st.sampled_from(NAMES), max_size=3)),
            "homedir": paths,
            "shell": paths,
            "system": st.booleans(),
            "no_create_home": st.booleans(),
            "lock_passwd": st.booleans(),
            "hashed_passwd": st.just(HASH),
            "expiredate": st.dates(min_value=date(1970, 1, 1)).map(str).filter(lambda day: day < "3000"),
            "sudo": st.sampled_from([False, "ALL=(ALL) ALL", ["ALL=(ALL) ALL", "ALL=(root) /bin/id"], []]),
            "ssh_authorized_keys": st.lists(st.sampled_from(KEYS), max_size=2),
        },
    )
)
files = st.dictionaries(
    st.sampled_from(["/etc/a", "/etc/b", "/srv/c.conf"]),
    st.fixed_dictionaries(
        {},
        optional={
            "content": texts,
            "encoding": st.just("text/plain"),
            "owner": st.sampled_from(["root:root", "root", "ada:adm"]),
            "permissions": st.sampled_from(["0644", "644", "00644", "0600", "4755"]),
        },
    ),
    max_size=3,
).map(lambda named: [{"path": path, **entry} for path, entry in named.items()])
routes = st.fixed_dictionaries(
    {"to": st.sampled_from(["default", "10.1.0.0/16", "0.0.0.0/0"]), "via": st.just("10.0.0.1")},
    optional={"metric": metrics, "table": st.integers(1, 9), "on-link": st.booleans(), "from": st.just("10.0.0.5")},
)
ethernets = some(
    dhcp4=st.booleans(),
    dhcp6=st.booleans(),
    accept_ra=st.booleans(),
    addresses=st.lists(st.sampled_from(["10.0.0.5/24", "10.0.1.5/31", "FD00::5/64"]), unique=True),
    gateway4=st.just("10.0.0.1"),
    routes=st.lists(routes, max_size=2),
    mtu=st.integers(1280, 9000),
    optional=st.booleans(),
    nameservers=some(addresses=st.lists(st.sampled_from(["10.0.0.53", "fd00::53"]), max_size=2)),
    dhcp4_overrides=some(use_dns=st.booleans(), use_domains=st.sampled_from([True, False, "route"]), route_metric=metrics),
)
bonds = some(
    parameters=some(mode=st.sampled_from(["balance-rr", "802.3ad"]), mii_monitor_interval=st.integers(0, 200)),
    dhcp4=st.booleans(),
)
networks = st.fixed_dictionaries(
    {"version": st.just(2)},
    optional={
        "ethernets": st.dictionaries(st.sampled_from(INTERFACES), ethernets, max_size=3),
        "bonds": st.dictionaries(st.sampled_from(["bond0", "bond1"]), bonds, max_size=2),
    },
)
documents = st.fixed_dictionaries(
    {"instance-id": st.sampled_from(["i-1", "i-2"])},
    optional={
        "generation": st.integers(1, 2**53),
        "uuid": st.uuids().map(lambda value: str(value).upper()),
        "local-hostname": st.sampled_from(["web1", "Web-1"]),
        "fqdn": st.just("web1.example.org"),
        "timezone": st.sampled_from(["UTC", "Europe/Vienna"]),
        "ntp": st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "servers": st.just(["10.0.0.1"])}),
        "groups": st.sampled_from([[], ["cats"], ["cats", {"dogs": ["ada"], "birds": []}]]),
        "users": users,
        "ssh_pwauth": st.booleans(),
        "ssh_deletekeys": st.booleans(),
        "write_files": files,
        "network": networks,
        "user-data": texts,
        "overwrite": st.lists(st.sampled_from(ITEMS), max_size=2),
        "confirm": st.fixed_dictionaries(
            {}, optional={"check": st.sampled_from(["guest", "none"]), "within": st.sampled_from([5, 60, 600])}
        ),
    },
)
