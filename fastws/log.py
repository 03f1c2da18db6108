"""Log records that a hostile peer can cause: limited in rate, escaped, free of payloads.

In: a logger, a level and a message with arguments. Out: at most `BURST` records a second for
each message, and then one that says how many were left out.
"""

from __future__ import annotations

import logging
import time

BURST = 20
PERIOD = 1.0

# By logger and message: [start of the period, records in it, records left out].
_seen: dict[tuple[str, str], list[float]] = {}


def escaped(argument: object) -> object:
    """Return text with everything that is not printable ASCII escaped; numbers stay."""
    if isinstance(argument, (int, float)):
        return argument
    text = str(argument)
    if text.isascii() and text.isprintable():
        return text
    return text.encode("unicode_escape").decode("ascii")


def report(
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger],
    level: int,
    message: str,
    *args: object,
    error: BaseException | None = None,
) -> None:
    """
    Log `message`, unless as many of its kind came in the last second.

    Args:
        message: a format string that names the kind; what differs goes into `args`.
        error: an exception whose traceback belongs to the record.
    """
    if not logger.isEnabledFor(level):
        return
    now = time.monotonic()
    key = (getattr(logger, "name", ""), message)
    seen = _seen.get(key)
    if seen is None or now - seen[0] > PERIOD:
        missed = 0 if seen is None else int(seen[2])
        seen = _seen[key] = [now, 0, 0]
        if missed:
            logger.log(level, "%d more records of this kind were left out: %s", missed, message)
    seen[1] += 1
    if seen[1] > BURST:
        seen[2] += 1
        return
    logger.log(level, message, *map(escaped, args), exc_info=error)
