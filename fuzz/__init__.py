# SPDX-License-Identifier: Apache-2.0
"""Throw bytes at everything that reads bytes from somebody else. Garbage raises one of our errors, or nothing."""
