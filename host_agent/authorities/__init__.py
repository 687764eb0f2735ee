# SPDX-License-Identifier: Apache-2.0
"""What makes many hosts one fleet to its guests: an authority, requests, certificates, keys that are followed by others."""
