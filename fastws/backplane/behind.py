"""What a link has still to send of one topic, of which its publisher keeps messages.

In: what is kept, as it is now. Out: what is due, in its order. Only numbers and keys are held here, no
messages: what is let go of meanwhile is not sent.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastws.backplane.engine import Entry

if TYPE_CHECKING:
    from fastws._keeping import Kept

# Of what is due: PAST are messages of a history from before it was asked for. Those that were published since
# are LATE. LAST are values that are retained. Who gets a run of PAST, or of LAST, takes it over when it ENDS.
PAST, LAST, ENDS, LATE = range(6, 10)
PART = 64  # messages that are looked at together


class Behind:
    """
    How far a link is with a topic.

    Args:
        here: the epoch of this server.
        number: of the last message published here before.
        whole: whether all that is kept is due, or only what is published from now on.

    Attributes:
        whole: as above.
        last: the number of the last message published here that may be due.
        late: how many messages have been put off, and neither sent nor given up since.
    """

    __slots__ = (
        "_after",
        "_boundary",
        "_here",
        "_keys",
        "_open",
        "_order",
        "_others",
        "_past",
        "_place",
        "_start",
        "_values",
        "last",
        "late",
        "whole",
    )

    def __init__(self, here: str, number: int, whole: bool) -> None:
        self.whole = self._past = whole
        self.last = self._boundary = number
        self.late = 0
        self._here = here
        self._open = False  # a run of LAST has to end
        self._start = 0 if whole else number
        self._after: dict[str, int] = {} if whole else {here: number}  # what was sent of histories
        # Where the next is to be looked for, in what is kept while that has this order.
        self._order: int | None = None
        self._place = 0
        self._others: set[str] = set()
        # Whose values were due at the last look.
        self._keys: collections.deque[str | None] = collections.deque()
        self._values: set[tuple[str, int]] = set()  # of those that are retained, which were sent

    def again(self) -> None:
        """Begin anew: all that is kept is due."""
        # What was sent as LATE is known at the other end: it is past by now.
        self._boundary = max(self._boundary, self._after.get(self._here, 0))
        self.whole = self._past = True
        self._start = 0
        self._after = {}
        self._order = None
        self._keys.clear()
        self._values.clear()

    def due(self, kept: Kept | None, others: set[str]) -> Iterator[tuple[int, Entry | None]]:
        """
        Yield what is to be sent, until it is left alone; each counts as sent when the next is asked for.

        Args:
            kept: what is kept now; nothing of it may change until the iterator is left alone.
            others: epochs of servers that send what is theirs themselves.

        Cost: that of what is yielded and of what it passes over; both are passed over once.
        """
        if self._past:
            if others != self._others:
                self._order, self._others = None, others
            for entry in self._history(kept):
                epoch, number = entry[:2]
                is_past = number <= self._boundary if epoch == self._here else epoch not in others
                if is_past and number > self._after.get(epoch, 0):
                    yield PAST, entry
                    self._note(kept, entry)
            yield ENDS, None
            self._past, self._order = False, None
        for entry in self._history(kept):
            if entry[0] == self._here and entry[1] > max(self._boundary, self._after.get(self._here, 0)):
                yield LATE, entry
                self._note(kept, entry)
        for entry in self._retained(kept, others):
            yield LAST, entry
            self._open = True
            self._values.add(entry[:2])
        if self._open:
            yield ENDS, None
            self._open = False

    def _note(self, kept: Kept | None, entry: Entry) -> None:
        self._after[entry[0]] = entry[1]
        value = None if kept is None else kept.value(entry[3])
        if value is not None and value[:2] == entry[:2]:
            self._values.add(entry[:2])

    def _history(self, kept: Kept | None) -> Iterator[Entry]:
        """Yield of a history what comes from the place on at which this was left alone."""
        if kept is None:
            return
        if kept.order != self._order:
            number = max(self._boundary, self._after.get(self._here, 0))
            self._place = 0 if self._past else kept.place_behind(self._here, number)
            self._order = kept.order
        self._place = max(self._place, kept.begin)
        while part := kept.part(self._place, PART):
            for entry in part:
                yield entry
                self._place += 1

    def _retained(self, kept: Kept | None, others: set[str]) -> Iterator[Entry]:
        """Yield the values that are due, of all that are retained now."""
        while kept is not None:
            if not self._keys:
                entries = kept.values()
                self._values.intersection_update([entry[:2] for entry in entries])
                self._keys.extend(entry[3] for entry in entries if self._is_due(entry, others))
                if not self._keys:
                    return
            while self._keys:
                value = kept.value(self._keys[0])
                if value is not None and self._is_due(value, others):
                    yield value
                self._keys.popleft()

    def _is_due(self, value: Entry, others: set[str]) -> bool:
        epoch, number = value[:2]
        is_due = self._start < number <= self.last if epoch == self._here else self.whole
        return is_due and epoch not in others and value[:2] not in self._values

    def was_counted(self, kind: int, entry: Entry) -> bool:
        """Return whether a message that cannot be sent was counted when it was published."""
        return kind == LATE or (kind == LAST and entry[0] == self._here and entry[1] > self._boundary)
