"""
Arguments that servers and clients have in common, and what is allowed.

In: values as users give them. Out: ValueError or TypeError, which names the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping

# The most messages, or the most and where receiving goes on.
Queue = int | tuple[int | None, int | None] | None


def number(name: str, value: float | None, minimum: float = 0) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= minimum
    ):
        raise ValueError(f"{name} is {value!r}, allowed are {minimum} and more, and None for no limit")


def numbers(**values: float | None) -> None:
    """Check several, by their names."""
    for name, value in values.items():
        number(name, value)


def text_type(text_as: str) -> None:
    if text_as not in ("str", "bytes"):
        raise ValueError(f"text_as is {text_as!r}, allowed are 'str' and 'bytes'")


def queue_limits(max_queue: Queue) -> None:
    high, low = max_queue if isinstance(max_queue, tuple) else (max_queue, 0)
    number("max_queue", high, 1)
    if high is not None and low is not None and not 0 <= low <= high:
        raise ValueError(f"max_queue is {max_queue!r}: the second figure must not exceed the first")


def judge_since(since: object, topic: str, epoch: str) -> dict[str, int]:
    """Return the positions that `since` stands for; a number alone is one of the server with this epoch."""
    if "*" in topic:
        raise ValueError(f"since is {since!r}, but {topic!r} is a pattern: only a topic has sequence numbers")
    positions = dict(since) if isinstance(since, Mapping) else {epoch: since}
    for name, value in positions.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(
                f"since is {since!r}, allowed are a sequence number, such numbers by epoch (a str), and None"
            )
        if value < 0:
            raise ValueError(f"since is {since!r}, allowed are numbers of 0 and more, and None")
    return positions
