# SPDX-License-Identifier: Apache-2.0
"""Users and groups in the files that hold them: whole-file edits by useradd(8)'s rules, under shadow's lock."""
