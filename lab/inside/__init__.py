# SPDX-License-Identifier: Apache-2.0
"""What runs inside the lab, in its dom0: standard library alone, no import of the rest of the lab."""
