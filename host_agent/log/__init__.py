# SPDX-License-Identifier: Apache-2.0
"""What is logged: each thing once, for people and for the journal."""
