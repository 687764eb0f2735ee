# SPDX-License-Identifier: Apache-2.0
"""A device model in a Linux stubdomain: the toolstack's end of their protocol, and the launcher inside."""
