# SPDX-License-Identifier: Apache-2.0
"""Two hundred guests, the service, and everything that can happen to them, by a seed that brings it about again."""
