"""Messages that are sent in fragments: what `send` takes beside str and buffers, RFC 6455 5.4.

In: an iterable or an asynchronous iterable. Out: its items, asynchronously.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any


def is_streamable(message: object) -> bool:
    """
    Tell whether `message` is sent in fragments.

    Buffers are not: bytearray and memoryview can be iterated, too.

    Raises: TypeError for a mapping, of which only the keys would be sent.
    """
    if isinstance(message, (bytearray, memoryview)):
        return False
    if isinstance(message, Mapping):
        raise TypeError(f"message is a {type(message).__name__}: to send its keys, give a list of them")
    if not isinstance(message, (Iterable, AsyncIterable)):
        return False
    try:
        memoryview(message)  # type: ignore[arg-type]
    except TypeError:
        return True
    except BufferError:
        pass
    return False


async def fragments_of(message: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Yield the items of `message`."""
    if isinstance(message, AsyncIterable):
        async for fragment in message:
            yield fragment
    else:
        for fragment in message:
            yield fragment
