# SPDX-License-Identifier: Apache-2.0
"""What a document is made of: one file per item, each of which turns a document and a machine into a plan."""
