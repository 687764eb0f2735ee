# SPDX-License-Identifier: Apache-2.0
"""Why a VM's channel does not work: evidence is gathered once (`gather`), and each diagnosis is a pure function of it.

`catalogue` has the diagnoses in order, from the host to what became of a document; `examine` puts what was found in that order
and says what of it explains the rest.
"""
