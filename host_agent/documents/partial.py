# SPDX-License-Identifier: Apache-2.0
"""A document's types for a file that says only a part of one: the same fields and values, none of them required.

What lists hold stays whole, for lists are not merged. How a document's parts go with each other is not looked at.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from pv_channel.document import Document


def partial() -> type[msgspec.Struct]:
    """`Document`, of which a file may say any part, and where ``null`` may stand for any value."""
    return _opened(Document)


@cache
def _opened(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    fields = [
        (field.name, _type(field.type) | None | msgspec.UnsetType, _field(field)) for field in msgspec.structs.fields(kind)
    ]
    return msgspec.defstruct(
        kind.__name__, fields, namespace={"__doc__": kind.__doc__}, frozen=True, forbid_unknown_fields=True, kw_only=True
    )


def _field(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(name=field.encode_name, default_factory=field.default_factory)
    default = msgspec.UNSET if field.default is msgspec.NODEFAULT else field.default
    return msgspec.field(name=field.encode_name, default=default)


def _type(annotation: Any) -> Any:
    """*annotation* with the structs that stand in it, or in mappings in it, opened."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _opened(annotation)
    if origin is Annotated:
        return Annotated[(_type(arguments[0]), *arguments[1:])]
    if origin in (Union, UnionType):
        return reduce(or_, (_type(argument) for argument in arguments))
    if origin is dict:
        return GenericAlias(dict, (arguments[0], _type(arguments[1]) | None))
    return annotation
