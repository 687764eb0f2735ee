# SPDX-License-Identifier: Apache-2.0
"""The lint of a stubdomain's QEMU: what libxl itself says passes, each thing that cannot work is named, and no bytes raise."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.stubdom.lint import lint
from host_agent.stubdom.lint_options import options, properties

INCOMING = "$STUBDOM_RESTORE_INCOMING_ARG"
#: As libxl_dm.c makes it for a stubdomain: a serial, two disks, a CD, one nic, a state that comes in.
LIBXL = [
    "-xen-domid", "7", "-no-shutdown", "-nodefaults", "-no-user-config", "-name", "web1", "-display", "none", "-serial",
    "/dev/hvc3", "-device", "VGA,vgamem_mb=16", "-boot", "order=cd", "-smp", "2,maxcpus=2", "-device",
    "rtl8139,id=nic0,netdev=net0,mac=00:16:3e:00:00:01", "-netdev",
    "type=tap,id=net0,ifname=vif7.0-emu,br=xenbr0,script=no,downscript=no", "-incoming", INCOMING, "-machine",
    "xenfv,suppress-vmdesc=on", "-m", "1024", "-drive",
    "file=/dev/xvda,if=ide,index=0,media=disk,format=host_device,cache=writeback", "-drive",
    "if=none,readonly=on,id=ide-5632,file=/dev/xvdc,format=host_device", "-device",
    "ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0",
]  # fmt: skip


def words(*arguments: str | bytes, target: int | None = 7, has: tuple[str, ...] = ()) -> list[tuple[str, int]]:
    """Each finding's word and argument."""
    raw = [each if isinstance(each, bytes) else each.encode() for each in arguments]
    return [(each.word, each.number) for each in lint(raw, target, has)]


def test_what_libxl_says_to_a_stubdomains_qemu_passes() -> None:
    assert words(*LIBXL) == []


def test_the_socket_that_libxl_names_for_a_channel_is_found() -> None:
    channel = ("-chardev", "socket,id=libxl-channel0,path=/run/pv-channel/web1.sock,server=on,wait=off")
    (finding,) = lint([each.encode() for each in (*channel, *LIBXL)], 7)
    assert (finding.word, finding.number) == ("socket", 2)
    assert "/run/pv-channel/web1.sock would be made in the stubdomain" in finding.sentence
    assert "/dev/hvc3 to /dev/hvc7" in finding.cure


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-daemonize"], [("daemonize", 1)]),
        (["--daemonize"], [("daemonize", 1)]),
        (["-runas", "qemu"], [("privileges", 2)]),
        (["-chroot", "/var/lib/xen/root"], [("privileges", 2)]),
        (["-qmp", "unix:/x,server=on"], [("monitor", 2)]),
        (["-mon", "chardev=c"], [("monitor", 2)]),
        (["-monitor", "stdio"], [("monitor", 2)]),
        (["-monitor", "none"], []),
        (["-incoming"], [("incoming", 1)]),
        (["-incoming", "-m", "16"], [("incoming", 2), ("disk", 3)]),
        (["-incoming", "fd:5"], [("incoming", 2)]),
        (["-incoming", "defer"], [("incoming", 2)]),
        (["-incoming", f"{INCOMING} "], [("incoming", 2)]),
        (["-incoming", INCOMING, "-incoming", INCOMING], [("incoming", 4)]),
        (["-name", INCOMING], [("incoming", 2)]),
        ([INCOMING], [("incoming", 1), ("disk", 1)]),
        (["-xen-domid", "8"], [("domid", 2)]),
        (["-xen-domid", "7"], []),
        (["-xen-domid", "007"], []),
        (["-xen-domid"], [("domid", 1)]),
        (["-xen-domid", "seven"], [("domid", 2)]),
        (["-hda", "/var/lib/xen/images/disk.img"], [("disk", 2)]),
        (["/dev/vg0/web1"], [("disk", 1)]),
        (["-cdrom", "/dev/xvdc"], []),
        (["-drive", "if=ide,file=/dev/xvdaa"], [("disk", 2)]),
        (["-drive", "if=none,id=cd"], []),
        (["-drive", "file=/dev/fdset/2,if=none"], []),
        (["-drive", "file=host_device:/dev/xvdb"], []),
        (["-drive", "file=/a,,b.img,if=ide"], [("disk", 2)]),
        (["-drive", "file=nbd:10.0.0.1:1"], [("disk", 2)]),
        (["-blockdev", "driver=host_device,node-name=d,filename=/dev/sda"], [("disk", 2)]),
        (["-blockdev", '{"driver":"raw","file":{"driver":"file","filename":"/srv/x"}}'], [("disk", 2)]),
        (["-blockdev", "driver=raw,node-name=e,file=d"], []),
        (["-device", "e1000,netdev=a", "-device", "e1000,netdev=b"], [("nics", 4)]),
        (["-nic", "none"], []),
        (["-netdev", "tap,id=a,script=no"], [("ifname", 2)]),
        (["-netdev", '{"type":"tap","id":"a"}'], [("ifname", 2)]),
        (["-netdev", "bridge,id=a,br=xenbr0,helper=/usr/lib/qemu/qemu-bridge-helper"], [("ifname", 2), ("script", 2)]),
        (["-netdev", "tap,id=a,ifname=t0,script=/etc/qemu-ifup"], [("script", 2)]),
        (["-netdev", "tap,id=a,fd=5"], [("descriptor", 2)]),
        (["-vnc", ":0"], [("graphics", 2)]),
        (["-vnc", "none"], []),
        (["-vnc"], [("graphics", 1)]),
        (["-spice", "port=5900"], [("graphics", 2)]),
        (["-sdl"], [("graphics", 1)]),
        (["-display", "gtk"], [("graphics", 2)]),
        (["-display", "none"], []),
        (["-nographic"], []),
        (["-chardev", "spicevmc,id=vdagent,name=vdagent"], [("graphics", 2)]),
        (["-kernel", "/boot/vmlinuz"], [("file", 2)]),
        (["-kernel", "/usr/share/../../boot/vmlinuz"], [("file", 2)]),
        (["-bios", "seabios.bin"], []),
        (["-object", "memory-backend-file,id=m,mem-path=/var/x,size=1M"], [("file", 2)]),
        (["-object", "memory-backend-file,id=m,mem-path=/dev/shm,size=1M"], []),
        (["-serial", "pty"], [("terminal", 2)]),
        (["-serial", "/dev/ttyS0"], [("terminal", 2)]),
        (["-serial", "/dev/hvc1"], [("terminal", 2)]),
        (["-serial", "/dev/hvc8"], [("terminal", 2)]),
        (["-serial", "/dev/hvc7"], []),
        (["-serial", "stdio"], []),
        (["-serial", "tcp:0.0.0.0:4444,server"], [("network", 2)]),
        (["-serial", "unix:/run/x.sock,server"], [("socket", 2)]),
        (["-serial", "file:/var/log/x"], [("file", 2)]),
        (["-chardev", "pty,id=c"], [("terminal", 2)]),
        (["-chardev", "serial,id=c,path=/dev/hvc4"], []),
        (["-chardev", "tty,id=c,path=/dev/hvc2"], [("terminal", 2)]),
        (["-chardev", "socket,id=c,host=10.0.0.1,port=1"], [("network", 2)]),
        (["-chardev", "socket,id=c,fd=5"], [("descriptor", 2)]),
        (["-chardev", '{"id":"c","backend":{"type":"socket","data":{"addr":{"type":"unix","data":{"path":"/run/x"}}}}}'],
         [("socket", 2)]),
        (["-gdb", "tcp::1234"], [("network", 2)]),
        (["-s"], [("network", 1)]),
        (["-add-fd", "fd=5,set=1"], [("descriptor", 2)]),
        (["-m", "16", "-S"], []),
    ],
)  # fmt: skip
def test_what_cannot_work_in_a_stubdomain_is_found_and_what_can_is_not(
    arguments: list[str], expected: list[tuple[str, int]]
) -> None:
    assert words(*arguments) == expected


def test_what_the_stubdomains_image_is_known_to_have_is_no_finding() -> None:
    assert words("-kernel", "/boot/vmlinuz", has=("/boot",)) == []
    assert words("-kernel", "/bootleg", has=("/boot",)) == [("file", 2)]


def test_a_domain_that_is_not_known_yet_is_not_missed() -> None:
    assert words("-xen-domid", "12", target=None) == []


def test_twenty_six_disks_pass_and_the_next_does_not() -> None:
    disks = [word for letter in "abcdefghijklmnopqrstuvwxyz" for word in ("-drive", f"file=/dev/xvd{letter}")]
    assert words(*disks) == []
    assert words(*disks, "-drive", "file=/dev/xvda") == [("disks", 54)]


def test_what_cannot_be_published_is_a_finding_too() -> None:
    assert words("x=" + "y" * 5000)[0] == ("limit", 1)
    assert words("-name", b"a\0b") == [("limit", 2)]
    assert ("limit", 1000) in words(*["-S"] * 1000)


def test_every_finding_is_one_printable_line_with_a_cure() -> None:
    hostile = [b"-kernel", b"/\x1b[2J\xff\n/x", b"-serial", b"/dev/\xe2\x80\xae", b"-hda", b"\xff\xfe", b"-incoming", b"\t"]
    for finding in lint(hostile):
        assert str(finding).isprintable()
        assert finding.cure


def test_a_json_that_nests_without_end_is_no_error() -> None:
    assert words("-blockdev", "[" * 3000, "-blockdev", '{"a":' * 800) == []


def test_options_are_read_as_qemu_reads_them() -> None:
    assert properties("tap,id=a,,b,x=") == [("", "tap"), ("id", "a,b"), ("x", "")]
    assert properties(json.dumps({"a": {"b": "c", "d": [1, {"e": True}]}})) == [("b", "c"), ("d", "1"), ("e", "true")]
    assert [tuple(each) for each in options([b"-S", b"--m", b"16", b"disk", b"-x"])] == [
        (1, "S", None), (3, "m", "16"), (4, "", "disk"), (5, "x", None),
    ]  # fmt: skip


_NAMES = st.sampled_from([b"-drive", b"-netdev", b"-chardev", b"-incoming", b"-serial", b"-device", b"-blockdev", b"file=", b"{"])
_PIECES = st.one_of(st.binary(max_size=40), _NAMES, st.tuples(_NAMES, st.binary(max_size=20)).map(b"".join))


@given(st.lists(_PIECES, max_size=12))
def test_whatever_the_arguments_are_there_are_findings_or_none(arguments: list[bytes]) -> None:
    assert all(1 <= finding.number <= max(len(arguments), 1) and str(finding).isprintable() for finding in lint(arguments, 7))
