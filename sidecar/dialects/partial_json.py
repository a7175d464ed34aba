"""Reading a few members of a JSON object: the others are checked to be JSON, and skipped unbuilt.

Decided here: how, and what that can tell. Not decided here: which members are wanted (whoever defines the struct), or
what they mean.

A struct has one member for each wanted name, of type Any, so that nothing but the names is decided while decoding;
what a text says is the same as if it had been parsed whole (of two members of one name the last counts). Skipping
costs a third of building, and for a body of many small things a tenth. Compared with `orjson.loads`, one kind of text
more can be read: with a number beyond a double in a member that isn't wanted. The SDKs take such a text as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
import orjson

T = TypeVar("T", bound=msgspec.Struct)

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What `decoder` raises for anything but a JSON object (and for one that is nested as deep as the stack allows)."""


def decoder(shape: type[T]) -> Callable[[bytes], T]:
    """A function from a JSON text to the wanted members of its object. Raises `UNREADABLE`."""
    decode = msgspec.json.Decoder(shape).decode

    def decoded(raw: bytes) -> T:
        if not raw.isascii():
            raw.decode()  # msgspec doesn't look at the bytes of the strings that it skips
        return decode(raw)

    return decoded


def reader(shape: type[T]) -> Callable[[bytes], T | None]:
    """The same for what a provider sends: None for anything that is no JSON object."""
    decode = msgspec.json.Decoder(shape).decode

    def read(raw: bytes) -> T | None:
        try:
            if not raw.isascii():
                raw.decode()  # as above
            return decode(raw)
        except UNREADABLE:
            return _parsed(shape, raw)

    return read


def _parsed(shape: type[T], raw: bytes) -> T | None:
    """What parsing the whole text says."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return wanted(shape, value) if isinstance(value, dict) else None


def wanted(shape: type[T], value: dict[str, object]) -> T:
    """The wanted members of an object that was parsed whole."""
    return shape(**{name: value[name] for name in shape.__struct_fields__ if name in value})
