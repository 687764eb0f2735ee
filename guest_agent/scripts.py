# SPDX-License-Identifier: Apache-2.0
"""The scripts in user-data: one that begins with ``#!``, or the parts of a MIME message that say they are scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pv_channel.text import printable

if TYPE_CHECKING:
    from email.message import Message

#: More than anybody's build of a multi-part message has.
MAX_SCRIPTS: Final = 64
_SCRIPT_TYPES: Final = ("text/x-shellscript", "text/x-shellscript-per-instance")
#: MIME types that say nothing: the part's first line does (cloud-init's documentation, "User-data formats").
_UNTYPED: Final = ("text/plain", "text/x-not-multipart")


class Found(NamedTuple):
    """What user-data is: the scripts in their order, and what else is in it, in cloud-init's words (empty: nothing else)."""

    scripts: list[bytes]
    other: str


def find(user_data: str) -> Found:
    """The scripts in *user_data*; raise `ValueError` for a MIME message that cannot be read."""
    if user_data.startswith("#!"):
        return Found([user_data.encode("utf-8")], "")
    beginning = user_data[:64].lower()
    if beginning.startswith(("content-type:", "mime-version:")):
        return _of_message(user_data)
    return Found([], printable(user_data.lstrip().partition("\n")[0], 40)) if user_data.strip() else Found([], "")


def _of_message(text: str) -> Found:
    from email import message_from_string  # loaded here: few documents have user-data

    scripts: list[bytes] = []
    other = ""
    try:
        for part in message_from_string(text).walk():
            if part.is_multipart():
                continue
            content = _content(part)
            if part.get_content_type() in _SCRIPT_TYPES or (part.get_content_type() in _UNTYPED and content.startswith(b"#!")):
                scripts.append(content)
            elif content.strip():
                other = other or printable(part.get_content_type(), 40)
    except RecursionError:
        raise ValueError("its parts are nested too deeply") from None
    if len(scripts) > MAX_SCRIPTS:
        raise ValueError(f"it has {len(scripts)} scripts, and {MAX_SCRIPTS} is the most")
    if any(not script.startswith(b"#!") for script in scripts):
        raise ValueError("a part is of the type of scripts and does not begin with '#!'")
    return Found(scripts, other)


def _content(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return b""
    if (part.get("Content-Transfer-Encoding") or "8bit").lower() not in ("base64", "quoted-printable"):
        text = part.get_payload()  # decoded as raw-unicode-escape by the library: what stands there is what is meant
        payload = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else payload
    return payload
