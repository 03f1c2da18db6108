"""What a link has still to send of one topic, of which its publisher keeps messages.

In: what is kept, as it is now, and which of it has left. Out: what is due, in its order. Only numbers are
held here, no messages: what is let go of meanwhile is not sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fastws.backplane.engine import Entry

# Of what is due: PAST are messages of a history from before it was asked for. Those that were published since
# are LATE. LAST are values that are retained. Who gets a run of PAST, or of LAST, takes it over when it ENDS.
PAST, LAST, ENDS, LATE = range(6, 10)


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
        "_open",
        "_past",
        "_retained",
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
        self._retained: set[tuple[str, int]] = set()  # values that were retained of late
        self._values: set[tuple[str, int]] | None = None  # those of them that were sent

    def again(self) -> None:
        """Begin anew: all that is kept is due."""
        # What was sent as LATE is known at the other end: it is past by now.
        self._boundary = max(self._boundary, self._after.get(self._here, 0))
        self.whole = self._past = True
        self._start = 0
        self._after = {}
        self._values = None

    def due(
        self, history: list[Entry], retained: list[Entry], others: Collection[str]
    ) -> Iterator[tuple[int, Entry | None]]:
        """
        Yield what is to be sent, until it is left alone; each is to be noted with `sent` before the next.

        Args:
            history, retained: what is kept.
            others: epochs of servers that send what is theirs themselves.
        """
        self._retained = {entry[:2] for entry in retained}
        if self._values is not None:
            self._values &= self._retained
        if self._past:
            for entry in history:
                epoch, number = entry[:2]
                is_past = number <= self._boundary if epoch == self._here else epoch not in others
                if is_past and number > self._after.get(epoch, 0):
                    yield PAST, entry
            yield ENDS, None
        for entry in history:
            epoch, number = entry[:2]
            if epoch == self._here and number > max(self._boundary, self._after.get(epoch, 0)):
                yield LATE, entry
        for entry in retained:
            epoch, number = entry[:2]
            is_due = self._start < number <= self.last if epoch == self._here else self.whole
            if is_due and epoch not in others and not (self._values and entry[:2] in self._values):
                yield LAST, entry
        if self._open:
            yield ENDS, None

    def sent(self, kind: int, entry: Entry | None) -> None:
        """Note that what was due is on its way, or never will be."""
        if entry is None:
            self._past = self._open = False
            return
        self._open = self._open or kind == LAST
        if kind != LAST:
            self._after[entry[0]] = entry[1]
        if entry[:2] in self._retained:
            if self._values is None:
                self._values = set()
            self._values.add(entry[:2])

    def was_counted(self, kind: int, entry: Entry) -> bool:
        """Return whether a message that cannot be sent was counted when it was published."""
        return kind == LATE or (kind == LAST and entry[0] == self._here and entry[1] > self._boundary)
