# SPDX-License-Identifier: Apache-2.0
"""What etcd can answer instead of what was asked for: one kind per error that a caller treats differently."""

from __future__ import annotations

from host_agent.errors import HostError


class EtcdError(HostError):
    """Any of these."""


class Away(EtcdError):  # noqa: N818 -- it says where etcd is
    """No endpoint answered in time; what was asked may have been done all the same."""


class Silent(Away):
    """Nothing came for a while, as where nothing happens; or the connection is a dead one."""


class Refused(EtcdError):  # noqa: N818 -- it says what etcd did
    """etcd answered that it does not do that, and asking again will not help."""


class NotAuthenticated(Refused):
    """It does not know who asks, or not any more."""


class NoSuchLease(Refused):
    """The lease is over, or never was."""


class Compacted(EtcdError):  # noqa: N818 -- it says what became of the revision
    """What was asked of a revision that etcd does not have any more: everything has to be read again."""


class Garbled(EtcdError):  # noqa: N818 -- it says what the answer is
    """An answer that is none of the gateway's, or longer than any of its answers can be."""
