# SPDX-License-Identifier: Apache-2.0
"""Migration addresses by hypothesis: whatever one can be, what no uri can say included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from host_agent.qemu.migration_address import (
    FdSocketAddress,
    FileMigrationArgs,
    InetSocketAddress,
    MigrationExecCommand,
    RdmaAddress,
    UnixSocketAddress,
    VsockSocketAddress,
)

if TYPE_CHECKING:
    from host_agent.qemu.migration_address import MigrationAddress

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
FLAGS = st.none() | st.booleans()


def inet_members() -> st.SearchStrategy[dict[str, Any]]:
    """What an internet address is made of."""
    hosts = TEXTS | st.ip_addresses().map(str) | st.sampled_from(["tcp", "unix", "vsock", "fd", "localhost", "[::1]", "a,b"])
    flags = dict.fromkeys(("numeric", "ipv4", "ipv6", "keep_alive", "mptcp"), FLAGS)
    members: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {"host": hosts, "port": TEXTS | st.integers(0, 65535).map(str)}, optional={"to": st.integers(0, 65535), **flags}
    )
    return members.filter(lambda each: not (each.get("ipv4") is False and each.get("ipv6") is False))


NUMBERS = st.integers(0, 2**32 - 1).map(str)
ANY_ADDRESS: st.SearchStrategy[MigrationAddress] = st.one_of(
    inet_members().map(lambda each: InetSocketAddress(**each)),
    inet_members().map(lambda each: RdmaAddress(**each)),
    st.builds(UnixSocketAddress, TEXTS, FLAGS, FLAGS),
    st.builds(VsockSocketAddress, NUMBERS, NUMBERS),
    st.builds(FdSocketAddress, TEXTS),
    st.builds(MigrationExecCommand, st.lists(TEXTS | st.just("/bin/cat"), min_size=1, max_size=4).map(tuple)),
    st.builds(MigrationExecCommand, TEXTS.map(lambda command: ("/bin/sh", "-c", command))),
    st.builds(FileMigrationArgs, TEXTS | TEXTS.map(lambda name: f"{name},offset=1"), st.integers(0, 2**63 - 1)),
)
