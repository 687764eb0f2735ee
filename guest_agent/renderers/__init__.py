# SPDX-License-Identifier: Apache-2.0
"""One file per network manager: what makes its interfaces be what the document's ``network`` says."""
