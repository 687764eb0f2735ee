# SPDX-License-Identifier: Apache-2.0
"""Time zone, time servers, locale and authorities: what is written, what is run, what is refused, and that it goes again."""

from __future__ import annotations

import datetime as dt
import struct
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from guest_agent.command import Completed
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import Machine, document, provision

if TYPE_CHECKING:
    from pathlib import Path

TIMESYNCD = "etc/systemd/timesyncd.conf.d/60-pv-guest-agent.conf"
SOURCES = "etc/chrony/sources.d/pv-guest-agent.sources"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian with zones, timesyncd, and the program that collects certificates."""
    made = Machine(tmp_path)
    made.write("etc/debian_version", b"12.5\n")
    for zone in ("Europe/Vienna", "Etc/UTC"):
        made.write(f"usr/share/zoneinfo/{zone}", b"TZif2...")
    made.write("usr/sbin/update-ca-certificates")
    made.directory("usr/local/share")
    made.directory("run/systemd/system")
    made.enable("systemd-timesyncd.service")
    return made


def give(machine: Machine, generation: int = 1, instance: str = "i-1", **fields: Any) -> ItemResult:
    """The one item's result."""
    (item,) = provision(machine, document(generation, instance, **fields)).items
    return item


def is_there(machine: Machine, name: str) -> bool:
    """Whether a file or link is."""
    path = machine.root / name
    return path.exists() or path.is_symlink()


def test_a_zone_is_a_relative_link_and_debians_file(machine: Machine) -> None:
    item = give(machine, timezone="Europe/Vienna")
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "Europe/Vienna")
    assert str((machine.root / "etc/localtime").readlink()) == "../usr/share/zoneinfo/Europe/Vienna"
    assert machine.read("etc/localtime") == "TZif2..."
    assert machine.read("etc/timezone") == "Europe/Vienna\n"
    assert give(machine, 2, timezone="Europe/Vienna").outcome is Outcome.UNCHANGED


def test_without_debian_there_is_no_second_file(machine: Machine) -> None:
    machine.remove("etc/debian_version")
    give(machine, timezone="Europe/Vienna")
    assert not is_there(machine, "etc/timezone")


@pytest.mark.parametrize("zone", ["Europe/Wien", "Europe"])
def test_a_zone_that_the_machine_lacks_is_refused_with_the_package(machine: Machine, zone: str) -> None:
    item = give(machine, timezone=zone)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "not-supported")
    assert "tzdata" in item.detail
    assert not is_there(machine, "etc/localtime")


def test_an_administrators_zone_is_not_fought_over(machine: Machine) -> None:
    give(machine, timezone="Europe/Vienna")
    machine.remove("etc/localtime")
    (machine.root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    item = give(machine, 2, timezone="Europe/Vienna")
    assert (item.reason, "/etc/localtime" in item.detail) == ("conflict", True)
    assert give(machine, 2, timezone="Europe/Vienna", overwrite=["timezone"]).outcome is Outcome.APPLIED


def archive(*names: str) -> bytes:
    """glibc's archive, with these names in it."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    return struct.pack("=8I", 0xDE020109, 1, 56, 0, 0, 64, len(strings), len(strings)).ljust(64, b"\0") + strings


def test_a_locale_that_is_there_is_one_line_and_the_others_stay(machine: Machine) -> None:
    machine.write("usr/lib/locale/locale-archive", archive("en_US.utf8", "de_AT.utf8"))
    machine.write("etc/default/locale", b"# mine\nLANG=en_US.UTF-8\nLC_TIME=C\nLANG=C")
    assert give(machine, locale="de_AT.UTF-8").outcome is Outcome.APPLIED
    assert machine.read("etc/default/locale") == "# mine\nLANG=de_AT.UTF-8\nLC_TIME=C\n"
    assert machine.programs.calls == []


@pytest.mark.parametrize("name", ["C.UTF-8", "C", "POSIX", "fr_FR.UTF-8"])
def test_what_glibc_always_has_and_a_directory_of_its_own_need_no_archive(machine: Machine, name: str) -> None:
    machine.directory("usr/lib/locale/fr_FR.utf8")
    assert give(machine, locale=name).outcome is Outcome.APPLIED
    assert machine.read("etc/default/locale") == f"LANG={name}\n"


def test_systemds_file_is_the_one_elsewhere_and_where_debians_is_a_link_to_it(machine: Machine) -> None:
    machine.write("etc/locale.conf", b"LANG=C\n")
    machine.directory("etc/default")
    (machine.root / "etc/default/locale").symlink_to("../locale.conf")
    give(machine, locale="C.UTF-8")
    assert machine.read("etc/locale.conf") == "LANG=C.UTF-8\n"
    assert (machine.root / "etc/default/locale").is_symlink()


class MakesLocale:
    """locale-gen, which makes what /etc/locale.gen names."""

    def __init__(self, machine: Machine, *, works: bool = True) -> None:
        self.machine, self.works = machine, works

    def __call__(self, argv: Any, *, given: bytes = b"") -> Completed:
        self.machine.programs(argv)
        if self.works and argv[0] == "locale-gen":
            self.machine.write("usr/lib/locale/locale-archive", archive("de_AT.utf8"))
        return Completed(0, b"Generating... done\n")


def with_locale_gen(machine: Machine, *, works: bool = True) -> None:
    """A Debian that can make locales."""
    machine.write("usr/sbin/locale-gen")
    machine.write("usr/share/i18n/SUPPORTED", b"de_AT.UTF-8 UTF-8\nde_AT ISO-8859-1\n")
    machine.write("etc/locale.gen", b"# list\n# de_AT.UTF-8 UTF-8\n# en_US.UTF-8 UTF-8\n")
    machine.system.run = MakesLocale(machine, works=works)


def test_a_locale_that_is_missing_is_made(machine: Machine) -> None:
    with_locale_gen(machine)
    item = give(machine, locale="de_AT.UTF-8")
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "de_AT.UTF-8, made anew")
    assert machine.read("etc/locale.gen") == "# list\nde_AT.UTF-8 UTF-8\n# en_US.UTF-8 UTF-8\n"
    assert machine.programs.calls == ["locale-gen --keep-existing"]


def test_a_program_that_says_all_is_well_and_makes_nothing_is_found_out(machine: Machine) -> None:
    with_locale_gen(machine, works=False)
    before = machine.snapshot()
    assert give(machine, locale="de_AT.UTF-8").reason == "not-in-force"
    assert machine.snapshot() == before


@pytest.mark.parametrize(("generator", "word"), [(True, "SUPPORTED"), (False, "locales")])
def test_a_locale_that_nothing_makes_is_refused_with_the_cure(machine: Machine, word: str, *, generator: bool) -> None:
    if generator:
        with_locale_gen(machine)
    item = give(machine, locale="xx_XX.UTF-8")
    assert (item.reason, word in item.detail) == ("not-supported", True)


def test_another_language_of_the_administrators_is_a_conflict_and_another_line_is_none(machine: Machine) -> None:
    give(machine, locale="C.UTF-8")
    machine.write("etc/default/locale", b"LANG=C.UTF-8\nLC_TIME=POSIX\n")
    assert give(machine, 2, locale="C.UTF-8").outcome is Outcome.UNCHANGED
    machine.write("etc/default/locale", b"LANG=POSIX\n")
    assert give(machine, 3, locale="C.UTF-8").reason == "conflict"


def test_timesyncd_gets_a_file_that_forgets_the_servers_before_it(machine: Machine) -> None:
    item = give(machine, ntp={"servers": ["10.0.0.1", "ntp.example.org"], "pools": ["pool.example.org"]})
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "by systemd-timesyncd")
    assert machine.read(TIMESYNCD) == "[Time]\nNTP=\nNTP=10.0.0.1 ntp.example.org pool.example.org\n"
    assert machine.programs.calls == ["systemctl try-restart systemd-timesyncd.service"]


def test_without_servers_ours_go_and_the_distributions_are_left(machine: Machine) -> None:
    give(machine, ntp={"servers": ["10.0.0.1"]})
    assert give(machine, 2, ntp={}).outcome is Outcome.APPLIED
    assert not is_there(machine, TIMESYNCD)
    assert give(machine, 3, ntp={}).outcome is Outcome.UNCHANGED


def test_a_file_that_adds_servers_after_ours_is_a_conflict(machine: Machine) -> None:
    machine.write("etc/systemd/timesyncd.conf.d/cloud-init.conf", b"[Time]\nNTP=other.example.org\n")
    item = give(machine, ntp={"servers": ["10.0.0.1"]})
    assert (item.reason, "cloud-init.conf" in item.detail) == ("conflict", True)


def test_a_disabled_client_is_masked_and_comes_back(machine: Machine) -> None:
    before = machine.snapshot()
    assert give(machine, ntp={"enabled": False}).detail == "systemd-timesyncd is masked"
    assert str((machine.root / "etc/systemd/system/systemd-timesyncd.service").readlink()) == "/dev/null"
    assert machine.programs.calls == ["systemctl daemon-reload", "systemctl stop systemd-timesyncd.service"]
    assert give(machine, 2, ntp={"enabled": False}).outcome is Outcome.UNCHANGED
    machine.programs.calls.clear()
    assert give(machine, 3, ntp={"enabled": True}).outcome is Outcome.APPLIED
    assert machine.snapshot() == before
    assert machine.programs.calls[:2] == ["systemctl daemon-reload", "systemctl start systemd-timesyncd.service"]


def test_a_client_that_cannot_be_stopped_is_unmasked_again(machine: Machine) -> None:
    machine.programs.endings["systemctl stop"] = Completed(1, b"no\n")
    before = machine.snapshot()
    assert give(machine, ntp={"enabled": False}).reason == "command-failed"
    assert machine.snapshot() == before
    assert machine.programs.calls[-2:] == ["systemctl daemon-reload", "systemctl start systemd-timesyncd.service"]


def with_chrony(machine: Machine, configuration: bytes) -> None:
    """chrony in timesyncd's place."""
    machine.remove("etc/systemd/system/multi-user.target.wants/systemd-timesyncd.service")
    machine.enable("chrony.service")
    machine.write("etc/chrony/chrony.conf", configuration)


def test_chrony_reads_ours_where_it_reads_others_and_its_own_pool_is_told(machine: Machine) -> None:
    with_chrony(machine, b"# x\npool 2.debian.pool.ntp.org iburst\nsourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\n")
    item = give(machine, ntp={"servers": ["10.0.0.1"], "pools": ["pool.example.org"]})
    assert machine.read(SOURCES) == "server 10.0.0.1 iburst\npool pool.example.org iburst\n"
    assert item.detail == "by chrony, besides 2.debian.pool.ntp.org of /etc/chrony/chrony.conf"


def test_chrony_that_reads_nothing_that_outlives_a_boot_is_refused_with_the_cure(machine: Machine) -> None:
    with_chrony(machine, b"sourcedir /run/chrony-dhcp\n")
    item = give(machine, ntp={"servers": ["10.0.0.1"]})
    assert (item.reason, "confdir" in item.detail) == ("not-supported", True)


def test_a_client_that_we_do_not_know_to_write_for_is_named_and_none_is_too(machine: Machine) -> None:
    machine.remove("etc/systemd/system/multi-user.target.wants/systemd-timesyncd.service")
    assert "no time client" in give(machine, ntp={"servers": ["10.0.0.1"]}).detail
    assert give(machine, ntp={"enabled": False}).outcome is Outcome.UNCHANGED
    machine.enable("ntpsec.service")
    assert "ntpsec" in give(machine, 2, ntp={"servers": ["10.0.0.1"]}).detail


def certificate(name: str) -> str:
    """An authority's own."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + dt.timedelta(9999))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return made.sign(key, None).public_bytes(Encoding.PEM).decode()


def certificates(machine: Machine) -> list[str]:
    """Ours, as they lie there."""
    return sorted(path.read_text() for path in (machine.root / "usr/local/share/ca-certificates").glob("*.crt"))


def test_authorities_are_a_file_each_that_the_distributions_program_collects(machine: Machine) -> None:
    first, second = certificate("one"), certificate("two")
    item = give(machine, ca_certs={"trusted": [first, second]})
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "2 of ours, by update-ca-certificates")
    assert certificates(machine) == sorted([first, second])
    assert machine.programs.calls == ["update-ca-certificates"]


def test_an_authority_that_is_no_more_named_goes_and_so_do_the_links_to_it(machine: Machine) -> None:
    first, second = certificate("one"), certificate("two")
    give(machine, ca_certs={"trusted": [first, second]})
    give(machine, 2, ca_certs={"trusted": [second]})
    assert certificates(machine) == [second]
    assert machine.programs.calls[-1] == "update-ca-certificates --fresh"
    assert give(machine, 3, ca_certs={"trusted": []}).outcome is Outcome.APPLIED
    assert certificates(machine) == []
    assert give(machine, 4, ca_certs={"trusted": []}).outcome is Outcome.UNCHANGED


def test_a_failing_collector_rolls_back_and_collects_once_more_when_the_files_are_back(machine: Machine) -> None:
    machine.programs.endings["update-ca-certificates"] = Completed(1, b"openssl is gone\n")
    item = give(machine, ca_certs={"trusted": [certificate("one")]})
    assert (item.reason, item.log) == ("command-failed", ["openssl is gone"])
    assert certificates(machine) == []
    assert machine.programs.calls == ["update-ca-certificates", "update-ca-certificates --fresh"]


@pytest.mark.parametrize(
    ("program", "directory"),
    [
        ("usr/bin/update-ca-trust", "etc/pki/ca-trust/source/anchors"),
        ("usr/sbin/update-ca-certificates", "etc/pki/trust/anchors"),
    ],
)
def test_the_others_have_directories_of_their_own(tmp_path: Path, program: str, directory: str) -> None:
    machine = Machine(tmp_path)
    machine.write(program)
    machine.directory(directory)
    give(machine, ca_certs={"trusted": [certificate("one")]})
    assert len(list((machine.root / directory).iterdir())) == 1
    assert machine.programs.calls == [program.rpartition("/")[2]]


def test_without_a_collector_authorities_are_refused_with_the_package(tmp_path: Path) -> None:
    item = give(Machine(tmp_path), ca_certs={"trusted": [certificate("one")]})
    assert (item.reason, "ca-certificates" in item.detail) == ("not-supported", True)
