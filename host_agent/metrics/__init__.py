# SPDX-License-Identifier: Apache-2.0
"""What the service measures of itself and of its VMs, in Prometheus' form. Nothing in here is loaded unless that is asked for."""
