# SPDX-License-Identifier: Apache-2.0
"""What operators see of the ledger: tables, pages, lives and waits. Nothing here writes."""
