# SPDX-License-Identifier: Apache-2.0
"""What makes a prepared machine a template: what has to be right before, and what has to go."""
