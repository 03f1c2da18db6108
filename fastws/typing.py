"""Names for annotations."""

from __future__ import annotations

from typing import NewType, Union

__all__ = ["Data", "Origin", "Subprotocol"]

# A message: str is text, bytes is binary.
Data = Union[str, bytes]  # noqa: UP007 - for use at run time, too

# The value of an Origin field, RFC 6454.
Origin = NewType("Origin", str)

# A subprotocol's name, RFC 6455 1.9.
Subprotocol = NewType("Subprotocol", str)
