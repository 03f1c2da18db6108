"""Header fields: a multi-mapping, and the grammar of the fields of the opening handshake.

In: names and values as text. Out: the same, looked up without regard to case, and lists of
tokens. RFC 9110 5, RFC 6455 4.2 and 11.3.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 5.5: no control characters but the tab; what is past ASCII is opaque.
BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class MultipleValuesError(LookupError):
    """A field occurs more than once, and one value was asked for."""

    def __str__(self) -> str:
        return repr(self.args[0]) if len(self.args) == 1 else super().__str__()


class Headers(MutableMapping[str, str]):
    """
    Header fields, in order; names are looked up without regard to case.

    `headers[name]` gives the one value and raises `MultipleValuesError` when there are more;
    `headers[name] = value` adds one. `get_all` gives all.

    Args: a mapping, pairs of names and values, or keyword arguments.
    Raises: ValueError for a name that is no token, or a value that cannot stand in a message.
    """

    __slots__ = ("_dict", "_list")

    def __init__(self, *args: Any, **kwargs: str) -> None:
        self._dict: dict[str, list[str]] = {}
        self._list: list[tuple[str, str]] = []
        self.update(*args, **kwargs)

    def __getitem__(self, name: str) -> str:
        values = self._dict[name.lower()]
        if len(values) > 1:
            raise MultipleValuesError(name)
        return values[0]

    def __setitem__(self, name: str, value: str) -> None:
        if not TOKEN.fullmatch(name):
            raise ValueError(f"field name is {name!r}, which is no token")
        value = str(value)
        if BAD_VALUE.search(value):
            raise ValueError(f"value of field {name} is {value!r}, control characters are not allowed")
        value.encode("latin-1")
        self._add(name, value)

    def _add(self, name: str, value: str) -> None:
        self._dict.setdefault(name.lower(), []).append(value)
        self._list.append((name, value))

    def __delitem__(self, name: str) -> None:
        key = name.lower()
        del self._dict[key]
        self._list = [item for item in self._list if item[0].lower() != key]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __eq__(self, other: object) -> bool:
        return self._dict == other._dict if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._list!r})"

    def __str__(self) -> str:
        return "".join(f"{name}: {value}\r\n" for name, value in self._list) + "\r\n"

    def serialize(self) -> bytes:
        """Return the fields as they go over the wire, and the blank line behind them."""
        return str(self).encode("latin-1")

    def copy(self) -> Headers:
        """Return a copy."""
        return Headers(self._list)

    def clear(self) -> None:
        """Remove all fields."""
        self._dict = {}
        self._list = []

    def update(self, *args: Any, **kwargs: str) -> None:
        """Add fields; nothing is replaced."""
        for source in (*args, kwargs):
            items: Iterable[tuple[str, str]]
            if isinstance(source, Headers):
                items = source.raw_items()
            else:
                items = source.items() if isinstance(source, Mapping) else source
            for name, value in items:
                self[name] = value

    def get_all(self, name: str) -> list[str]:
        """Return all values of a field; an empty list when there are none."""
        return list(self._dict.get(name.lower(), ()))

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Return all pairs of names and values, in order."""
        return iter(self._list)


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept value for a Sec-WebSocket-Key, RFC 6455 4.2.2."""
    return binascii.b2a_base64(hashlib.sha1(key + GUID, usedforsecurity=False).digest(), newline=False)


def parse_list(value: str) -> list[str]:
    """Split a list field's value; empty elements are passed over, RFC 9110 5.6.1.2."""
    return [item for item in (part.strip(" \t") for part in value.split(",")) if item]
