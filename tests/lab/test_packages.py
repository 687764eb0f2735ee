# SPDX-License-Identifier: Apache-2.0
"""Which packages, and from where: the machine's own sources and nothing else."""

from __future__ import annotations

import pytest

from lab import packages
from lab.errors import LabError
from lab.progress import silent

DEB822 = """\
# A comment
Types: deb
URIs: http://packages.invalid/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://packages.invalid/debian http://second.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.mark.parametrize(
    ("source", "mirror"),
    [
        (DEB822, "http://packages.invalid/debian"),
        ("deb http://packages.invalid/debian bookworm main\n", "http://packages.invalid/debian"),
        ("deb [arch=amd64 signed-by=/x.gpg] http://packages.invalid/debian bookworm main\n", "http://packages.invalid/debian"),
        ("deb http://packages.invalid/s bookworm-security main\n", None),
        ("# deb http://packages.invalid/debian bookworm main\n", None),
        ("Types: deb\nURIs: http://packages.invalid/other\nSuites: nodistro\nComponents: main\n", None),
        (DEB822.replace("Components: main\nSigned", "Enabled: no\nSigned"), None),
        ("", None),
    ],
)
def test_the_mirror_is_the_one_that_this_machines_apt_uses(source: str, mirror: str | None) -> None:
    assert packages.mirror_in(source) == mirror


def test_without_root_the_one_line_that_would_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "NEEDED", {"a-package": "no-such-program", "another": "nor-such", "dash": "sh"})
    with pytest.raises(LabError, match=r"as root: apt-get install -y --no-install-recommends a-package another$"):
        packages.ensure(silent)


def test_nothing_is_installed_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "NEEDED", {"dash": "sh"})
    monkeypatch.setattr(packages, "run", None)
    packages.ensure(silent)
