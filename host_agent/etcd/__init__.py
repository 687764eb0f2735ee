# SPDX-License-Identifier: Apache-2.0
"""A client of etcd's JSON gateway: asyncio, every wait and every answer bounded."""
