# SPDX-License-Identifier: Apache-2.0
"""What is said on one stream, and when: told bytes and time, and driven from one file."""
