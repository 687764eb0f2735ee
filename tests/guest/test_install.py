# SPDX-License-Identifier: Apache-2.0
"""What `install` writes, that doing it twice is doing it once, and the command line around it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from guest_agent import VERSION
from guest_agent.__main__ import main
from guest_agent.install import LINK, LINK_TARGET, PIECES

TOP = Path(__file__).parent.parent.parent
UNIT = "etc/systemd/system/pv-guest-agent@.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with a Python and an agent."""
    for name in ("usr/bin/python3", "usr/local/bin/pv-guest-agent"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch(0o755)
    return tmp_path


def files(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, mode and content of each file."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() or path.is_symlink():
            status = path.lstat()
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(root))] = (status.st_ino, status.st_mode & 0o7777, content)
    return found


def install(root: Path, *more: str) -> int:
    """The exit status."""
    return main(["install", "--root", str(root), *more])


def test_everything_is_in_its_place_with_its_mode(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(root) == 0
    shown = capsys.readouterr().out
    for piece in PIECES:
        path = root / piece.target.lstrip("/")
        assert path.stat().st_mode & 0o7777 == piece.mode
        assert str(path) in shown
    assert str((root / LINK.lstrip("/")).readlink()) == LINK_TARGET


def test_the_unit_starts_the_agent_by_its_absolute_path(root: Path) -> None:
    install(root)
    assert "ExecStart=/usr/local/bin/pv-guest-agent run\n" in (root / UNIT).read_text()


def test_an_agent_elsewhere_is_named_and_must_be_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(root, "--agent", "/opt/pv/bin/pv-guest-agent") == 1
    assert "--agent PATH" in capsys.readouterr().err
    (root / "opt/pv/bin").mkdir(parents=True)
    (root / "opt/pv/bin/pv-guest-agent").touch()
    assert install(root, "--agent", "/opt/pv/bin/pv-guest-agent") == 0
    assert "ExecStart=/opt/pv/bin/pv-guest-agent run\n" in (root / UNIT).read_text()


@pytest.mark.parametrize("path", ["bin/agent", "/opt/my agent", "/opt/%i", "/opt/a\nb", ""])
def test_a_path_that_a_unit_would_misread_is_refused_and_nothing_written(root: Path, path: str) -> None:
    before = files(root)
    assert install(root, "--agent", path) == 1
    assert files(root) == before


def test_doing_it_twice_is_doing_it_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(root)
    before = files(root)
    capsys.readouterr()
    assert install(root) == 0
    assert files(root) == before
    assert "wrote" not in capsys.readouterr().out


def test_what_was_changed_is_put_right(root: Path) -> None:
    install(root)
    before = {name: rest[1:] for name, rest in files(root).items()}
    (root / UNIT).write_text("[Service]\n")
    (root / "usr/local/lib/pv-channel-agents/pv-channel-name").chmod(0o600)
    install(root)
    assert {name: rest[1:] for name, rest in files(root).items()} == before


def test_uninstall_leaves_what_was_there_before(root: Path) -> None:
    before = files(root)
    install(root)
    assert install(root, "--uninstall") == 0
    assert files(root) == before
    assert not (root / "usr/local/lib/pv-channel-agents").exists()
    assert install(root, "--uninstall") == 0


def test_handing_to_cloud_init_is_a_drop_in_and_its_one_data_source_and_goes_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(root, "--hand-to", "cloud-init") == 1
    assert "cloud-init" in capsys.readouterr().err
    assert files(root).keys() == {"usr/bin/python3", "usr/local/bin/pv-guest-agent"}
    (root / "usr/bin/cloud-init").touch(0o755)
    (root / "opt").mkdir()
    (root / "opt/pv-guest-agent").touch(0o755)
    assert install(root, "--agent", "/opt/pv-guest-agent", "--hand-to", "cloud-init") == 0
    drop_in = root / f"{UNIT}.d/hand-to-cloud-init.conf"
    assert "ExecStart=\nExecStart=/opt/pv-guest-agent run --hand-to cloud-init\n" in drop_in.read_text()
    assert "datasource_list: [NoCloud, None]\n" in (root / "etc/cloud/cloud.cfg.d/95-pv-guest-agent.cfg").read_text()
    assert install(root) == 0
    assert not drop_in.parent.exists()
    assert list((root / "etc/cloud/cloud.cfg.d").iterdir()) == []


def test_a_system_without_python_is_told_before_anything_is_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "usr/bin/python3").unlink()
    before = files(root)
    assert install(root) == 1
    assert files(root) == before
    assert "python3-minimal" in capsys.readouterr().err


def test_a_symbolic_link_out_of_the_root_is_not_followed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (root / "etc").mkdir()
    (root / "etc/udev").symlink_to(outside)
    assert install(root) == 1
    assert list(outside.iterdir()) == []


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == VERSION


def test_the_helpers_in_the_checkout_can_be_run() -> None:
    for name in ("pv-channel-name", "pv-channel-coldplug"):
        assert os.access(TOP / "udev" / name, os.X_OK)


def test_rule_helper_and_coldplug_name_the_same_channel_and_the_same_paths() -> None:
    from pv_channel import CHANNEL_NAME

    rule = (TOP / "udev/60-pv-channel.rules").read_text()
    assert set(re.findall(r'RESULT=="([^"]*)"', rule)) == {CHANNEL_NAME}
    assert CHANNEL_NAME in (TOP / "udev/pv-channel-coldplug").read_text()
    targets = {piece.target for piece in PIECES}
    assert set(re.findall(r'PROGRAM="(\S+) ', rule)) <= targets
    assert set(re.findall(r"ExecStart=(\S+)", (TOP / "systemd/pv-channel-coldplug.service").read_text())) <= targets


@pytest.mark.parametrize("unit", ["pv-guest-agent@.service", "pv-channel-coldplug.service"])
def test_a_seed_comes_before_cloud_inits_first_stage(unit: str) -> None:
    """Both the agent and what asks for it: a unit that nobody has asked for yet delays nothing."""
    (before,) = re.findall(r"^Before=(.*)$", (TOP / "systemd" / unit).read_text(), re.MULTILINE)
    assert {"network-pre.target", "cloud-init-local.service"} <= set(before.split())


def test_the_rule_gives_the_unit_no_instance() -> None:
    """systemd fills in the device's own, to which the unit binds; with one of ours there would be nothing to bind to."""
    rule = (TOP / "udev/60-pv-channel.rules").read_text()
    assert re.findall(r'SYSTEMD_WANTS\}\+="([^"]*)"', rule) == ["pv-guest-agent@.service"]


@pytest.mark.parametrize("verb", ["run", "channels", "plan", "install", "seal", "user-data"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert f"usage: pv-guest-agent {verb}" in capsys.readouterr().out


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pv-guest-agent {VERSION}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--wait", "soon"], ["run", "--wait", "-1"], ["run", "--wait", "nan"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`pv-guest-agent run` as a process."""
    command = [sys.executable, "-m", "guest_agent", "run", "--root", str(root), "--once", "--wait", "0.2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=TOP, timeout=60)


def test_run_refuses_another_applications_channel(tmp_path: Path) -> None:
    done = run(tmp_path, "--channel", "org.xenproject.guest.clipboard.0.1", "--tty", "/dev/null")
    assert done.returncode == 1
    assert "belongs to another application" in done.stderr


def test_run_refuses_what_cannot_be_a_channels_name(tmp_path: Path) -> None:
    assert run(tmp_path, "--channel", "../etc").returncode == 1


def test_run_refuses_the_primary_console_and_says_why(tmp_path: Path) -> None:
    done = run(tmp_path, "--tty", "/dev/hvc0")
    assert done.returncode == 1
    assert "primary console" in done.stderr


def test_run_with_a_damaged_file_of_trusted_keys_refuses_before_it_opens_anything(tmp_path: Path) -> None:
    path = tmp_path / "etc/pv-guest-agent/trusted_keys"
    path.parent.mkdir(parents=True)
    path.write_text("pv-host-x25519 not-base64!\n")
    done = run(tmp_path, "--tty", "/dev/null")
    assert done.returncode == 1
    assert f"{path}: line 1:" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_on_a_machine_without_xen_says_what_is_missing(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert "xen bus" in done.stderr
    assert "Traceback" not in done.stderr
