# SPDX-License-Identifier: Apache-2.0
"""What `seal` removes, keeps, refuses and says, on a machine under a folder."""

from __future__ import annotations

import os
import signal
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent import files, trees
from guest_agent.__main__ import main
from guest_agent.changes.files import MakeDirectory, RemoveFile, WriteFile
from guest_agent.changes.keys import WriteKeys
from guest_agent.command import Completed
from guest_agent.install import install
from guest_agent.seal import seal
from guest_agent.sealing import network as others
from guest_agent.sealing.step import Clear, Forget, Step
from guest_agent.state import Store
from guest_agent.transaction import Transaction
from pv_channel.messages import Outcome
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, REVOKED_TYPE, fingerprint, format_key, parse_trusted
from tests.guest.machine import STATE, FakePrograms, Machine, document, provision, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from guest_agent.system import System

KEY = bytes(range(32))
LINE = format_key(HOST_KEY_TYPE, KEY, "dom0 of rack 7")
AUTHORITY = format_key(AUTHORITY_TYPE, bytes(reversed(range(32))))
TRUSTED = "etc/pv-guest-agent/trusted_keys"

#: What a machine that has lived has, and its clones must not.
IDENTITY = (
    "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub", "etc/ssh/ssh_host_rsa_key-cert.pub",
    "var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
    "var/lib/dhcp/dhclient.eth0.leases", "var/lib/NetworkManager/secret_key", "var/lib/NetworkManager/internal-1-eth0.lease",
    "etc/udev/rules.d/70-persistent-net.rules", "var/lib/cloud/instances/i-1/user-data.txt", "var/lib/cloud/data/instance-id",
)  # fmt: skip
#: What it has besides, and they shall.
KEPT = (
    "etc/ssh/sshd_config", "etc/ssh/moduli", "etc/ssh/ssh_host_keys.md", "var/lib/dhcp/README", "etc/udev/rules.d/70-mine.rules",
    "var/lib/NetworkManager/NetworkManager.state", "var/log/apt/history.log", "root/.bash_history",
)  # fmt: skip


def installed(machine: Machine) -> Machine:
    """*machine* with an agent and what starts it."""
    for name in ("usr/bin/python3.11", "usr/local/bin/pv-guest-agent"):
        machine.write(name, b"", 0o755)
    (machine.root / "usr/bin/python3").symlink_to("python3.11")
    install(machine.system, "/usr/local/bin/pv-guest-agent")
    return machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that was installed, provisioned, and has lived."""
    made = installed(Machine(tmp_path))
    made.write("usr/sbin/sshd", b"", 0o755)
    for name in (*IDENTITY, *KEPT):
        made.write(name, f"{name} of this machine\n".encode(), 0o600)
    made.write("etc/machine-id", b"0123456789abcdef0123456789abcdef\n", 0o444)
    made.directory("run/systemd/system")
    assert provision(made, whole()).outcome is Outcome.APPLIED
    made.programs.calls.clear()
    made.write(f"{STATE}/identity.key", b"secret\n", 0o600)
    return made


def options(**changed: Any) -> Namespace:
    """The command line `seal --yes --trust LINE`, but for what is *changed*."""
    chosen = {"root": "/", "trust": [LINE], "first_use": False, "network": False, "logs": False, "dry_run": False, "yes": True}
    return Namespace(**(chosen | changed))


def sealed(machine: Machine, **changed: Any) -> int:
    """The exit status of sealing *machine*."""
    return seal(options(**changed), machine.system)


def content(machine: Machine) -> dict[str, tuple[int, bytes]]:
    """Everything, the agent's state too."""
    found = {}
    for path in sorted(machine.root.rglob("*")):
        data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(machine.root))] = (path.lstat().st_mode, data)
    return found


def test_what_clones_must_not_share_is_gone_and_the_rest_stays(machine: Machine) -> None:
    assert sealed(machine) == 0
    assert [name for name in IDENTITY if (machine.root / name).exists()] == []
    assert [name for name in KEPT if not (machine.root / name).exists()] == []
    assert machine.read("etc/machine-id") == "uninitialized\n"
    assert (machine.root / "etc/machine-id").stat().st_mode & 0o7777 == 0o444
    assert machine.state_files() == []
    assert (machine.root / "var/lib/cloud").is_dir()


def test_what_documents_made_goes_and_what_every_machine_has_stays(machine: Machine) -> None:
    ours = machine.root / "etc/systemd/network/10-pv-guest-agent-eth0.network"
    foreign = machine.write("etc/systemd/network/20-mine.network", b"[Match]\n")
    assert ours.exists()
    assert sealed(machine) == 0
    assert not ours.exists()
    assert foreign.exists()
    assert machine.read("etc/hostname") == "web1\n"
    assert "pv-guest-agent" not in machine.read("etc/hosts")
    assert "127.0.0.1\tlocalhost" in machine.read("etc/hosts")


def test_files_that_documents_wrote_go_and_what_stood_there_before_comes_back(machine: Machine) -> None:
    machine.write("etc/motd", b"The template's.\n", 0o640)
    machine.write("etc/issue", b"The template's.\n")
    files = [{"path": "/etc/motd", "content": "web1"}, {"path": "/etc/new", "content": "x"}]
    raw = document(2, write_files=[*files, {"path": "/etc/issue", "absent": True}])
    assert provision(machine, raw).outcome is Outcome.APPLIED
    assert (machine.read("etc/motd"), (machine.root / "etc/issue").exists()) == ("web1", False)
    assert sealed(machine) == 0
    assert (machine.read("etc/motd"), machine.read("etc/issue")) == ("The template's.\n", "The template's.\n")
    assert (machine.root / "etc/motd").stat().st_mode & 0o7777 == 0o640
    assert not (machine.root / "etc/new").exists()
    assert machine.state_files() == []


def test_the_keys_that_documents_gave_are_taken_from_every_user_and_no_others(machine: Machine) -> None:
    assert "pv-guest-agent" in machine.read("home/ada/.ssh/authorized_keys")
    assert sealed(machine) == 0
    assert machine.read("root/.ssh/authorized_keys") == ""
    assert machine.read("home/ada/.ssh/authorized_keys").strip().endswith("ada's own")
    assert len(machine.read("home/ada/.ssh/authorized_keys").splitlines()) == 1


def test_what_somebody_changed_since_stays_and_is_named(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(machine)
    state = machine.root / STATE / "state.json"
    path = machine.write("etc/ssh/sshd_config.d/30-ours.conf", b"changed by hand\n")
    text = state.read_text().replace('"owned":{', '"owned":{"sshd":{"/etc/ssh/sshd_config.d/30-ours.conf":"00"},')
    assert text != state.read_text()
    state.write_text(text)
    assert sealed(machine) == 0
    assert path.read_bytes() == b"changed by hand\n"
    assert capsys.readouterr().out.count(" stays: somebody has changed it") == 1
    assert set(content(machine)) <= set(before) | {"etc/ssh/sshd_config.d", "etc/ssh/sshd_config.d/30-ours.conf", TRUSTED,
                                                   "etc/pv-guest-agent"}  # fmt: skip


def test_what_is_done_was_shown_path_by_path(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(machine)
    assert sealed(machine, dry_run=True) == 0
    shown = capsys.readouterr().out
    assert content(machine) == before
    assert machine.programs.calls == ["/usr/local/bin/pv-guest-agent --version", "/usr/bin/python3 -c "]
    assert sealed(machine) == 0
    after = content(machine)
    below = ("/var/lib/cloud", f"/{STATE}")
    for name in before:
        if after.get(name) != before[name] and not f"/{name}".startswith(below):
            assert f"/{name}" in shown, name
    assert all(f"everything in {path} (" in shown for path in below)
    assert "secret" not in shown.replace("credential.secret", "").replace("secret_key", "")


def test_doing_it_twice_is_doing_it_once(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert sealed(machine, network=True, logs=True) == 0
    before = content(machine)
    capsys.readouterr()
    assert sealed(machine, network=True, logs=True) == 0
    assert content(machine) == before
    assert "Nothing is left to do" in capsys.readouterr().out


class Cut(BaseException):
    """The power is gone."""


@pytest.mark.parametrize("last", range(1, 32))
def test_stopped_anywhere_and_repeated_it_comes_to_the_same(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    left = last

    def counted(original: Callable[[Any, System], None]) -> Callable[[Any, System], None]:
        def apply(step: Any, system: System) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Cut
            original(step, system)

        return apply

    kinds: list[type[Step]] = [Clear, Forget, MakeDirectory, RemoveFile, WriteFile, WriteKeys]
    with monkeypatch.context() as patch:
        for kind in kinds:
            patch.setattr(kind, "apply", counted(kind.apply))
        try:
            sealed(machine, logs=True)
        except Cut:
            # A machine that is started now is whole, or is provisioned anew: nothing in between is said to be in force.
            hello = machine.provisioner().hello()
            network = machine.root / "etc/systemd/network/10-pv-guest-agent-eth0.network"
            assert hello.generation == 0 or network.exists()
    assert sealed(machine, logs=True) == 0
    assert machine.state_files() == []
    assert [name for name in IDENTITY if (machine.root / name).exists()] == []
    assert not (machine.root / "etc/systemd/network/10-pv-guest-agent-eth0.network").exists()


def test_logs_and_histories_go_when_asked(machine: Machine) -> None:
    machine.write("var/log/journal/0123456789abcdef0123456789abcdef/system.journal")
    assert sealed(machine, logs=True) == 0
    assert sorted(path.name for path in (machine.root / "var/log").rglob("*")) == ["apt", "journal"]
    assert not (machine.root / "root/.bash_history").exists()


def test_the_pin_is_there_before_anything_else_and_others_stay(machine: Machine) -> None:
    machine.write(TRUSTED, f"# Ours.\n{AUTHORITY}".encode())
    assert sealed(machine) == 0
    assert machine.read(TRUSTED) == f"# Ours.\n{AUTHORITY}\n{LINE}\n"
    assert sealed(machine, trust=[f"{HOST_KEY_TYPE} {LINE.split()[1]} another comment"]) == 0
    assert machine.read(TRUSTED) == f"# Ours.\n{AUTHORITY}\n{LINE}\n"


def test_a_file_of_keys_is_taken_whole(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# two\n\n{LINE}\n{AUTHORITY}\n")
    assert sealed(machine, trust=[str(tmp_path / "keys")]) == 0
    trust = parse_trusted(machine.read(TRUSTED))
    assert (len(trust.host_keys), len(trust.authorities)) == (1, 1)


@pytest.mark.parametrize("bad", ["pv-host-x25519 AAAA", "/missing/file", "", f"{LINE}\npv-host-x25519 x"])
def test_a_key_that_is_none_changes_nothing(machine: Machine, capsys: pytest.CaptureFixture[str], bad: str) -> None:
    before = content(machine)
    assert sealed(machine, trust=[bad]) == 1
    assert content(machine) == before
    assert "--trust" in capsys.readouterr().err


def test_nothing_pinned_is_refused_unless_the_first_use_is_wanted(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(machine)
    assert sealed(machine, trust=[]) == 1
    assert content(machine) == before
    assert "--first-use" in capsys.readouterr().err
    assert sealed(machine, trust=[], first_use=True) == 0


def test_whom_documents_said_to_believe_and_whom_no_more_goes_into_the_template(machine: Machine) -> None:
    revoked = f"{REVOKED_TYPE} {fingerprint(bytes(32))} stolen"
    machine.write(f"{STATE}/host_trust", f"# Ours.\n{AUTHORITY} next\n{revoked}\n".encode(), 0o600)
    for _ in range(2):
        assert sealed(machine) == 0
        assert machine.read(TRUSTED) == f"{LINE}\n{AUTHORITY} next\n{revoked}\n"
    assert not (machine.root / STATE / "host_trust").exists()


def test_a_template_all_of_whose_pins_are_revoked_is_not_sealed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.write(f"{STATE}/host_trust", f"{REVOKED_TYPE} {fingerprint(KEY)}\n".encode(), 0o600)
    before = content(machine)
    assert sealed(machine) == sealed(machine, first_use=True) == 1
    assert "would believe nobody" in capsys.readouterr().err
    assert content(machine) == before
    assert sealed(machine, trust=[AUTHORITY, f"{REVOKED_TYPE} {fingerprint(bytes(32))}"]) == 0
    trust = parse_trusted(machine.read(TRUSTED))
    assert trust.revoked == {fingerprint(KEY), fingerprint(bytes(32))}
    assert trust.believed == trust.authorities


def test_a_host_that_was_pinned_on_first_use_is_no_pin_of_the_template(machine: Machine) -> None:
    machine.write(f"{STATE}/trusted_keys", LINE.encode(), 0o600)
    assert sealed(machine, trust=[]) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda m: m.remove("etc/systemd/system/pv-guest-agent@.service"), "pv-guest-agent@.service is missing"),
        (lambda m: m.write("etc/udev/rules.d/60-pv-channel.rules", b"#"), "60-pv-channel.rules is not what this version"),
        (lambda m: (m.root / "usr/local/lib/pv-channel-agents/pv-channel-name").chmod(0o644), "pv-channel-name is not what"),
        (lambda m: m.remove("etc/systemd/system/sysinit.target.wants/pv-channel-coldplug.service"), "does not enable"),
        (lambda m: m.remove("usr/bin/python3.11"), "usr/bin/python3, which is run at boot, is missing"),
        (lambda m: m.remove("usr/local/bin/pv-guest-agent"), "usr/local/bin/pv-guest-agent, which is run at boot, is missing"),
        (lambda m: m.write("usr/local/bin/pv-guest-agent", b"#!/opt/gone/bin/python\n"), "run by /opt/gone/bin/python"),
    ],
)
def test_a_machine_whose_clones_would_never_be_provisioned_is_refused_with_the_cure(
    machine: Machine, capsys: pytest.CaptureFixture[str], damage: Callable[[Machine], object], said: str
) -> None:
    damage(machine)
    before = content(machine)
    assert sealed(machine) == 1
    assert content(machine) == before
    shown = capsys.readouterr().err
    assert said in shown
    assert "nothing was changed" in shown


def test_an_agent_that_does_not_run_is_no_agent(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    said = b"Traceback\nModuleNotFoundError: No module named 'x'\n"
    machine.programs.endings["/usr/local/bin/pv-guest-agent"] = Completed(1, said)
    assert sealed(machine) == 1
    assert "No module named 'x'" in capsys.readouterr().err


def test_links_that_lead_about_inside_the_root_are_followed_there(machine: Machine) -> None:
    machine.write("opt/pv/bin/pv-guest-agent", b"#!/opt/pv/bin/python\n", 0o755)
    (machine.root / "opt/pv/bin/python").symlink_to("/usr/bin/python3")
    machine.remove("usr/local/bin/pv-guest-agent")
    (machine.root / "usr/local/bin/pv-guest-agent").symlink_to("/opt/pv/bin/pv-guest-agent")
    assert sealed(machine) == 0


def test_without_a_terminal_and_without_yes_nothing_happens(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(machine)
    assert sealed(machine, yes=False) == 2
    assert content(machine) == before
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "status"), [("yes\n", 0), ("y\n", 1), ("no\n", 1), ("", 1)])
def test_at_a_terminal_only_yes_is_yes(machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str, status: int) -> None:
    master, slave = os.openpty()
    os.write(master, answer.encode() or b"\x04")
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        before = content(machine)
        assert sealed(machine, yes=False) == status
    os.close(master)
    assert (content(machine) == before) is (status != 0)


def test_what_would_write_again_is_stopped_first(machine: Machine) -> None:
    """The seed's service writes one when it is stopped; at the shutdown it would do so after we had removed it."""
    seed = machine.root / "var/lib/systemd/random-seed"
    seen = []

    class Programs(FakePrograms):
        def __call__(self, argv: Sequence[str], *, given: bytes = b"") -> Completed:
            seen.append((" ".join(argv), seed.exists()))
            return super().__call__(argv, given=given)

    machine.system.run = Programs()
    assert sealed(machine) == 0
    assert seen[-2:] == [
        ("systemctl stop pv-guest-agent@*.service", True),
        ("systemctl stop systemd-random-seed.service", True),
    ]
    assert not seed.exists()


def test_nothing_of_this_machine_is_run_for_another_root(machine: Machine) -> None:
    machine.system.live = False
    assert sealed(machine) == 0
    assert machine.programs.calls == []


def test_an_agent_at_work_is_not_disturbed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(machine.system).lock():
        assert sealed(machine) == 1
    assert "another pv-guest-agent" in capsys.readouterr().err
    assert (machine.root / IDENTITY[0]).exists()


def test_an_unfinished_document_is_undone_before(machine: Machine) -> None:
    child = os.fork()
    if not child:
        Transaction._verify = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        provision(machine, whole(2, "web2"))
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert machine.read("etc/hostname") == "web2\n"
    assert sealed(machine) == 0
    assert machine.read("etc/hostname") == "web1\n"
    assert machine.state_files() == []
    assert [name for name in content(machine) if ".pv-guest-agent-" in name] == []


INTERFACES = """\
# The installer's.
source /etc/network/interfaces.d/*

auto lo eth1
iface lo inet loopback
\tup true

allow-hotplug eth0
iface eth0 inet static
\taddress 192.0.2.7/24
# a comment inside
\tgateway 192.0.2.1
\tup ip route add \\
\t\t198.51.100.0/24 via 192.0.2.2

iface eth1 inet dhcp
source-directory interfaces.d
"""


def test_the_installers_stanzas_become_comments_and_the_loopback_stays() -> None:
    text = others.without_interfaces(INTERFACES)
    live = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    source, directory = "source /etc/network/interfaces.d/*", "source-directory interfaces.d"
    assert live == [source, "auto lo", "iface lo inet loopback", "up true", directory]
    assert others.without_interfaces(text) == text
    kept = [line.removeprefix("# pv-guest-agent seal: ") for line in text.splitlines() if line != "auto lo"]
    assert kept == INTERFACES.splitlines(), "an administrator can read what there was"


def test_others_who_configure_the_network_are_named_and_with_the_option_step_aside(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.use_ifupdown()
    machine.write("etc/network/interfaces", b"auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n")
    machine.write("etc/network/interfaces.d/50-cloud-init", b"auto eth0\niface eth0 inet dhcp\n")
    machine.write("etc/netplan/00-installer-config.yaml", b"network: {version: 2}\n")
    machine.write("etc/netplan/90-mine.yaml", b"network: {version: 2}\n")
    machine.write("usr/bin/cloud-init")
    machine.write("etc/cloud/cloud.cfg", b"users: [default]\n")
    assert sealed(machine, dry_run=True) == 0
    shown = capsys.readouterr().out
    for named in ("interfaces configures eth0", "d/50-cloud-init", "00-installer-config.yaml", "cloud-init configures"):
        assert named in shown
    assert sealed(machine, network=True) == 0
    capsys.readouterr()
    assert sealed(machine, dry_run=True) == 0
    assert "--network" not in capsys.readouterr().out
    assert machine.read("etc/cloud/cloud.cfg.d/99-pv-guest-agent-network.cfg").endswith("network: {config: disabled}\n")
    assert "source /etc/network/interfaces.d/*" in machine.read("etc/network/interfaces")
    assert (machine.root / "etc/netplan/90-mine.yaml").exists()


@pytest.mark.parametrize(
    "text", ["network: {config: disabled}\n", "users: []\nnetwork:\n  config: disabled\n", 'network: {"config": "disabled"}\n']
)
def test_a_cloud_init_that_leaves_the_network_alone_is_seen(machine: Machine, text: str) -> None:
    machine.write("usr/bin/cloud-init")
    assert others.cloud_init_has_it(machine.system)
    machine.write("etc/cloud/cloud.cfg.d/50-x.cfg", text.encode())
    assert not others.cloud_init_has_it(machine.system)


def test_a_link_out_of_the_root_leads_nowhere(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "dhclient.leases").write_text("this machine's\n")
    for name in ("var/lib/dhclient", "var/lib/wicked"):
        (machine.root / name).symlink_to(outside)
    (machine.root / "var/lib/cloud/link").symlink_to(outside)
    assert sealed(machine) == 0
    assert (outside / "dhclient.leases").exists()
    assert not (machine.root / "var/lib/cloud/link").is_symlink()


def test_a_dbus_id_that_is_a_link_stays_one(machine: Machine) -> None:
    machine.remove("var/lib/dbus/machine-id")
    (machine.root / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
    assert sealed(machine) == 0
    assert (machine.root / "var/lib/dbus/machine-id").is_symlink()


def test_a_machine_that_never_ran_the_agent_is_sealed_too(tmp_path: Path) -> None:
    machine = installed(Machine(tmp_path))
    assert main(["seal", "--root", str(machine.root), "--trust", LINE, "--yes"]) == 0
    assert machine.read(TRUSTED) == f"{LINE}\n"


def test_a_tree_is_emptied_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (tmp_path / "top/a/b").mkdir(parents=True)
    (tmp_path / "top/a/b/file").touch()
    (tmp_path / "top/a/link").symlink_to(tmp_path / "outside")
    (tmp_path / "top/dangling").symlink_to("nowhere")
    with files.directory(str(tmp_path / "top")) as opened:
        assert trees.clear(opened, dry=True) == 5
        assert trees.clear(opened, keep_directories=True) == 3
        assert trees.clear(opened) == 2
        assert trees.clear(opened) == 0
    assert list((tmp_path / "top").iterdir()) == []
    assert (tmp_path / "outside/file").exists()


def test_a_tree_that_is_too_deep_is_an_error_and_no_crash(tmp_path: Path) -> None:
    where = tmp_path
    for _ in range(trees.MAX_DEPTH + 2):
        where /= "d"
    where.mkdir(parents=True)
    with files.directory(str(tmp_path)) as opened, pytest.raises(OSError, match="nested"):
        trees.clear(opened)
