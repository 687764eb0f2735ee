# SPDX-License-Identifier: Apache-2.0
"""What things cost, each as a ratio against a floor or a peer that is measured in the same run."""
