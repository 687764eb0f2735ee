# SPDX-License-Identifier: Apache-2.0
"""Many dom0s that share their VMs' documents in etcd: each serves those that run on it, and no two of them one VM."""
