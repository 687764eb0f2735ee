# SPDX-License-Identifier: Apache-2.0
"""What each VM should become: operators' files, layer over layer, into typed documents."""
