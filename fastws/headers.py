"""
Header fields: a multi-mapping, and the grammar of the fields of the opening handshake.

In: names and values as text. Out: the same, looked up without regard to case, and lists of
tokens. RFC 9110 5, RFC 6455 4.2.2.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import ClassVar, Protocol, runtime_checkable

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 5.5: no control character but the tab; what is past ASCII is opaque, one byte each.
FIELD_VALUE = re.compile(r"[\t -~\x80-\xff]*")

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@runtime_checkable
class HasKeys(Protocol):
    """What `dict` takes besides mappings and pairs."""

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, name: str, /) -> str: ...


HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]] | HasKeys


class MultipleValuesError(LookupError):
    """A field occurs more than once, and one value was asked for."""

    def __str__(self) -> str:
        # As KeyError: a name alone is shown with its quotes.
        return repr(self.args[0]) if len(self.args) == 1 else super().__str__()


class Headers(MutableMapping[str, str]):
    """
    Header fields, in order; names are looked up without regard to case.

    `headers[name]` gives the one value and raises `MultipleValuesError` when there are several;
    `headers[name] = value` adds one and replaces nothing; `get_all` gives all.

    Args: mappings, or iterables of pairs of name and value, and keyword arguments.
    Raises: ValueError for a name that is no token, or a value that cannot stand in a message.
    """

    __slots__ = ("_items", "_values")

    def __init__(self, *args: HeadersLike, **kwargs: str) -> None:
        self._values: dict[str, list[str]] = {}
        self._items: list[tuple[str, str]] = []
        self.update(*args, **kwargs)

    @classmethod
    def received(cls, items: Iterable[tuple[str, str]]) -> Headers:
        """Return the fields of a message that was found valid; nothing is checked."""
        headers = cls()
        for name, value in items:
            headers._append(name, value)
        return headers

    def _append(self, name: str, value: str) -> None:
        self._values.setdefault(name.lower(), []).append(value)
        self._items.append((name, value))

    def __getitem__(self, name: str) -> str:
        values = self._values[name.lower()]
        if len(values) > 1:
            raise MultipleValuesError(name)
        return values[0]

    def __setitem__(self, name: str, value: str) -> None:
        if not TOKEN.fullmatch(name):
            raise ValueError(f"field name is {name!r}, which is no token")
        value = str(value)
        # A CR or LF from elsewhere would end the field here and begin what its author likes.
        if not FIELD_VALUE.fullmatch(value):
            raise ValueError(f"field {name} is {value!r}, allowed is latin-1 without controls")
        self._append(name, value)

    def __delitem__(self, name: str) -> None:
        name = name.lower()
        del self._values[name]
        self._items = [item for item in self._items if item[0].lower() != name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Headers) else NotImplemented

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def __str__(self) -> str:
        return "".join([f"{name}: {value}\r\n" for name, value in self._items]) + "\r\n"

    def __bytes__(self) -> bytes:
        return self.serialize()

    def serialize(self) -> bytes:
        """Return the fields as they go over the wire, with the blank line behind them."""
        return str(self).encode("latin-1")

    def copy(self) -> Headers:
        """Return a copy that changes by itself."""
        return self.received(self._items)

    def clear(self) -> None:
        """Remove all fields."""
        self._values = {}
        self._items = []

    def update(self, *args: HeadersLike, **kwargs: str) -> None:
        """Add fields; nothing is replaced. Takes what the constructor takes."""
        for source in (*args, kwargs):
            if isinstance(source, Headers):
                items: Iterable[tuple[str, str]] = list(source.raw_items())
            elif isinstance(source, Mapping):
                items = source.items()
            elif isinstance(source, HasKeys):
                items = [(name, source[name]) for name in iter(source.keys())]
            else:
                items = source
            for name, value in items:
                self[name] = value

    def get_all(self, name: str) -> list[str]:
        """Return all values of a field, in order; an empty list when there are none."""
        return list(self._values.get(name.lower(), ()))

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Return all pairs of name and value, in order."""
        return iter(self._items)


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept value for a Sec-WebSocket-Key, RFC 6455 4.2.2."""
    return binascii.b2a_base64(hashlib.sha1(key + GUID, usedforsecurity=False).digest(), newline=False)


def parse_list(value: str) -> list[str]:
    """
    Split the value of a list field.

    RFC 9110 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list
    elements". What is no token stays as it came. Cost: linear.
    """
    return [element for element in (part.strip(" \t") for part in value.split(",")) if element]
