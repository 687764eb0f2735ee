# SPDX-License-Identifier: Apache-2.0
"""One description file of a backend program: JSON as QEMU's schema has it (docs/interop/vhost-user.json, `VhostUserBackend`).

In our own directories a program serves channels. There a file has one member more, ``channels``: the names of those that it
serves; without it ``type`` is that name.
"""

from __future__ import annotations

import os
import stat
from enum import Enum
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec

from host_agent.backends.capabilities import QEMU_TYPES
from host_agent.backends.deciders import others_may_change
from host_agent.documents.text_file import located as bad_file
from pv_channel.errors import LocalError
from pv_channel.greeting import channel_name
from pv_channel.located import located
from pv_channel.text import printable

#: A description is a few hundred bytes.
MAX_FILE_BYTES: Final = 64 * 1024
#: PATH_MAX, without its NUL (limits.h).
_MAX_PATH_BYTES: Final = 4095
_MAX_CHANNELS: Final = 64

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Convention(Enum):
    """Whose rules a directory's files follow: ours, where a program serves channels, or QEMU's, where it is a device."""

    CHANNELS = "channels"
    VHOST_USER = "vhost-user"


class Description(NamedTuple):
    """What the file at *path* says of the program *binary*. *channels* are those that it serves, if that is what it does."""

    path: Path
    about: str
    type: str
    binary: Path
    channels: tuple[str, ...] = ()


class _OfDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    description: str
    type: _Text
    binary: _Text
    #: For its makers; the schema has whoever reads it ignore it.
    tags: list[str] | None = None


class _OfChannels(_OfDevice, frozen=True, forbid_unknown_fields=True):
    channels: Annotated[list[str], msgspec.Meta(min_length=1, max_length=_MAX_CHANNELS)] | msgspec.UnsetType = msgspec.UNSET


_Kind = TypeVar("_Kind", bound=_OfDevice)


def read(path: Path, convention: Convention) -> Description | None:
    """What the file at *path* says, or None where it is empty; raise `BadFile`, which says where in it what is wrong."""
    data = _bytes_of(path)
    return parse(data, path, convention) if data else None


def parse(data: bytes, path: Path, convention: Convention) -> Description:
    """What the content *data* of the file at *path* says; raise `BadFile`."""
    try:
        values = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise bad_file(path, None, "", f"no JSON: {printable(exc, 200)}") from None
    if convention is Convention.VHOST_USER:
        device = _converted(values, _OfDevice, path)
        return Description(path, device.description, _device_type(device.type, path), _binary(device.binary, path))
    file = _converted(values, _OfChannels, path)
    return Description(path, file.description, file.type, _binary(file.binary, path), _channels(file, path))


def _bytes_of(path: Path) -> bytes:
    """The content of a regular file that nobody else may change."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW)
        try:
            _check_file(path, os.fstat(descriptor))
            data = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as exc:
        if path.is_symlink():
            raise bad_file(path, None, "", "a symbolic link; cure: put the file itself there") from None
        raise bad_file(path, None, "", exc.strerror or str(exc)) from None
    if len(data) > MAX_FILE_BYTES:
        raise bad_file(path, None, "", f"longer than the {MAX_FILE_BYTES} bytes that a description can have")
    return data


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise bad_file(path, None, "", "not a regular file; cure: remove it")
    complaint = others_may_change(status)
    if complaint:
        raise bad_file(path, None, "", f"{complaint}, and so decide what is started; cure: chown root, chmod go-w")


def _converted(values: object, kind: type[_Kind], path: Path) -> _Kind:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as exc:
        message = str(exc)
        inside, problem = located(values, message, lambda _: message)
        raise bad_file(path, None, inside, problem) from None


def _device_type(word: str, path: Path) -> str:
    if word not in QEMU_TYPES:
        raise bad_file(path, None, "type", f"{printable(word)} is none of QEMU's: {', '.join(sorted(QEMU_TYPES))}")
    return word


def _binary(text: str, path: Path) -> Path:
    if not text.startswith("/") or not text.isprintable() or len(text.encode()) > _MAX_PATH_BYTES:
        raise bad_file(path, None, "binary", f"{printable(text, 200)} is no absolute path of a program")
    return Path(text)


def _channels(file: _OfChannels, path: Path) -> tuple[str, ...]:
    names, inside = ([file.type], "type") if file.channels is msgspec.UNSET else (file.channels, "channels")
    for name in names:
        try:
            channel_name(name)
        except LocalError as exc:
            raise bad_file(path, None, inside, f"{printable(name)}: {exc}") from None
    return tuple(names)
