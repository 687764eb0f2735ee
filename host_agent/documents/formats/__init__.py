# SPDX-License-Identifier: Apache-2.0
"""Other words for a network: cloud-init's version 1 and OpenStack's network_data.json, to and from version 2."""

from __future__ import annotations

from typing import Final

#: Their names on the command line.
FORMATS: Final = ("v1", "v2", "openstack")
