# SPDX-License-Identifier: Apache-2.0
"""systemd's names of credentials in an operator's file mean the document's own fields, and never twice the same one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from host_agent.errors import BadFile
from tests.host.etc import parse_text
from tests.protocol.blocks import read

FILE = Path("web1.yaml")
KEY, OTHER = (case["kept"] for case in read("ssh-keys-good")[:2])
HASH = "$6$rounds=5000$salt$abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("aliased", "own"),
    [
        ("system.hostname: web1", "local-hostname: web1"),
        ("firstboot.hostname: web1", "local-hostname: web1"),
        ("firstboot.timezone: Europe/Vienna", "timezone: Europe/Vienna"),
        ("firstboot.locale: de_AT.UTF-8", "locale: de_AT.UTF-8"),
        (f"ssh.authorized_keys.root: [{KEY}]", f"ssh_authorized_keys: [{KEY}]"),
        (f"ssh.authorized_keys.root: |\n  # ada\n  {KEY}\n\n  {OTHER}\n", f"ssh_authorized_keys: [{KEY}, {OTHER}]"),
        ("ssh.authorized_keys.root: ''", "ssh_authorized_keys: []"),
        (f"passwd.hashed-password.root: {HASH}", f"users: [{{name: root, hashed_passwd: {HASH}}}]"),
        ("passwd.shell.root: /bin/zsh", "users: [{name: root, shell: /bin/zsh}]"),
        (
            f"passwd.shell.root: /bin/zsh\nssh.authorized_keys.root: {KEY}",
            f"users: [{{name: root, shell: /bin/zsh, ssh_authorized_keys: [{KEY}]}}]",
        ),
        (
            f"passwd.shell.root: /bin/zsh\nssh_authorized_keys: [{KEY}]\nusers: [{{name: ada}}]",
            f"users: [{{name: ada}}, {{name: root, shell: /bin/zsh, ssh_authorized_keys: [{KEY}]}}]",
        ),
        (
            f"passwd.shell.root: /bin/zsh\nusers: [{{name: root, hashed_passwd: {HASH}}}, {{name: ada}}]",
            f"users: [{{name: root, hashed_passwd: {HASH}, shell: /bin/zsh}}, {{name: ada}}]",
        ),
    ],
)
def test_a_credential_means_the_documents_own_field(aliased: str, own: str) -> None:
    one, other = (parse_text(f"instance-id: i-1\n{text}\n", FILE) for text in (aliased, own))
    assert one == other
    assert one.digest() == other.digest()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("system.hostname: web1\nlocal-hostname: web1", ":2:18: system.hostname: means the same as 'local-hostname'"),
        ("system.hostname: web1\nfirstboot.hostname: web1", ":3:21: firstboot.hostname: means the same as 'system.hostname'"),
        ("firstboot.locale: C\nlocale: C", "firstboot.locale: means the same as 'locale'"),
        (f"ssh.authorized_keys.root: {KEY}\nssh_authorized_keys: []", "ssh.authorized_keys.root: means the same"),
        ("passwd.shell.root: /bin/zsh\nusers: [{name: root, shell: /bin/sh}]",
         "passwd.shell.root: means the same as 'users[0].shell'"),
        ("system.hostname: -web1", ":2:18: system.hostname: expected a hostname"),
        ("system.hostname: 5", "system.hostname: expected a string"),
        ("firstboot.timezone: ../etc", "firstboot.timezone: expected a time zone"),
        ("ssh.authorized_keys.root: |\n  ssh-dss AAAA\n", ":2:27: ssh.authorized_keys.root: expected one of the key types"),
        (f"ssh.authorized_keys.root:\n- {KEY}\n- ssh-dss AAAA\n", ":4:3: ssh.authorized_keys.root[1]: expected one of"),
        (f"passwd.shell.root: /bin/sh\nssh.authorized_keys.root:\n- {KEY}\n- ssh-dss AAAA\n",
         ":5:3: ssh.authorized_keys.root[1]: expected one of"),
        ("passwd.shell.root: zsh", ":2:20: passwd.shell.root: expected an absolute path"),
        ("passwd.shell.root: /bin/sh\nusers: root", ":3:8: users: expected a list"),
        ("passwd.shell.root: /bin/sh\nusers: [{name: Root}]", ":3:16: users[0].name: expected a login name"),
        ("passwd.shell.ada: /bin/sh", "passwd.shell.ada: unknown field"),
        ("network.dns: 192.0.2.1", ":2:14: network.dns: is not taken; write 'nameservers"),
        ("network.search_domains: a", "network.search_domains: is not taken"),
        ("firstboot.keymap: de", "firstboot.keymap: is not taken"),
    ],
)  # fmt: skip
def test_what_a_credential_cannot_mean_is_said_in_the_operators_words(text: str, said: str) -> None:
    with pytest.raises(BadFile, match=re.escape(said)):
        parse_text(f"instance-id: i-1\n{text}\n", FILE)


@pytest.mark.parametrize("name", ["passwd.plaintext-password.root", "passwd.hashed-password.root"])
def test_a_password_in_clear_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(BadFile, match=re.escape(f":2:{len(name) + 3}: {name}: ")) as caught:
        parse_text(f"instance-id: i-1\n{name}: hunter2\n", FILE)
    assert "mkpasswd" in str(caught.value)
    assert "hunter2" not in str(caught.value)
