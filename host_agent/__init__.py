# SPDX-License-Identifier: Apache-2.0
"""The agent in dom0: gives each VM its configuration over the VM's PV channel, and keeps what became of it."""

#: The version that `pv-host-agent --version` prints; a test holds it equal to pyproject.toml's.
VERSION = "0.1.0"
