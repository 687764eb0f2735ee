# SPDX-License-Identifier: Apache-2.0
"""The kinds of change: each says what it is, whether it holds already, what undoing it needs, and carries itself out."""
