# SPDX-License-Identifier: Apache-2.0
"""What happened to a VM from the moment its channel was seen, as a table and as a picture."""
