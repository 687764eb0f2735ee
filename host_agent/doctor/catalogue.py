# SPDX-License-Identifier: Apache-2.0
"""All diagnoses, the most fundamental first: of the host itself, and of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor import (
    of_channel,
    of_client,
    of_document,
    of_domain,
    of_fleet,
    of_guest,
    of_host,
    of_qemu,
    of_record,
    of_socket,
)

if TYPE_CHECKING:
    from host_agent.doctor.diagnosis import Diagnosis
    from host_agent.doctor.evidence import Case, Dom0

OF_HOST: Final[tuple[Diagnosis[Dom0], ...]] = (*of_host.DIAGNOSES, *of_fleet.OF_HOST)
OF_VM: Final[tuple[Diagnosis[Case], ...]] = (
    *of_document.DIAGNOSES, *of_fleet.OF_VM, *of_domain.DIAGNOSES, *of_channel.DIAGNOSES, *of_qemu.DIAGNOSES,
    *of_socket.DIAGNOSES, *of_client.DIAGNOSES, *of_guest.DIAGNOSES, *of_record.DIAGNOSES,
)  # fmt: skip
