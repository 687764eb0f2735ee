# SPDX-License-Identifier: Apache-2.0
"""Routes and routing rules of network-config version 2, with ip-route(8)'s and ip-rule(8)'s meaning."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pv_channel.addresses import Address, Destination, Selector

#: The kernel's routing tables are numbered with 32 bits; 0 means none (ip-route(8)).
Table = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
Metric = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_DEFAULT: Final = ("default", "0.0.0.0/0", "::/0")


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"):
    """A route to *to* by way of *via*; without *via*, straight out of the interface. *source* is the preferred own address."""

    to: Destination
    via: Address | msgspec.UnsetType = msgspec.UNSET
    source: Address | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="from")
    metric: Metric | msgspec.UnsetType = msgspec.UNSET
    table: Table | msgspec.UnsetType = msgspec.UNSET
    on_link: bool = False

    def __post_init__(self) -> None:
        if self.via is msgspec.UNSET:
            if self.is_default:
                raise ValueError("a default route needs 'via'")
        elif self.to.version not in (None, self.via.version):
            raise ValueError(f"'to' is IPv{self.to.version} and 'via' is IPv{self.via.version}")
        if self.source is not msgspec.UNSET and self.source.version != self.version:
            raise ValueError(f"'from' is IPv{self.source.version} and the route is IPv{self.version}")

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.via.version if self.via is not msgspec.UNSET else self.to.version or 4

    @property
    def is_default(self) -> bool:
        """Whether it is for every destination of its family."""
        return self.to in _DEFAULT


class RoutingPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"):
    """Packets *source* and *to* and *mark* match are routed by *table*; rules of a lower *priority* number are asked first."""

    table: Table
    source: Selector | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="from")
    to: Selector | msgspec.UnsetType = msgspec.UNSET
    mark: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | msgspec.UnsetType = msgspec.UNSET
    priority: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | msgspec.UnsetType = msgspec.UNSET
    type_of_service: Annotated[int, msgspec.Meta(ge=0, le=255)] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        ends = [end for end in (self.source, self.to) if end is not msgspec.UNSET]
        if not ends:
            raise ValueError("a rule needs 'from' or 'to'")
        if len({end.version for end in ends}) > 1:
            raise ValueError("'from' and 'to' are of two families")

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.source.version if self.source is not msgspec.UNSET else 6 if ":" in str(self.to) else 4
