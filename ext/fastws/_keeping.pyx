"""What a topic keeps for those who come late: the last message of each key, and the last messages.

In: messages as they are published, here or elsewhere, and what other servers have kept. Out: the frames that a new
subscriber gets. Messages are known by their publisher's epoch and its sequence number.
"""

import itertools
import time

from libc.stdint cimport uint64_t

from fastws._fanout cimport Frames


cdef enum:
    MAX_MERGED = 1024       # publishers that are known without a message in the history
    GONE = 16               # messages let go of whose places may stay in a list however short

cdef object ORDERS = itertools.count()


cdef class Kept:
    """
    What one topic keeps.

    Args:
        retain: keys, 0 keeps none.
        history: messages, None for no limit in number.
        history_seconds: their age, None for no limit. With neither no history is kept.
        before: the `Kept` that this one takes the place of.

    Attributes:
        merged, begin, order: internal.
    """

    def __init__(self, retain, history, history_seconds, Kept before=None):
        self.max_retained = retain
        self.merged = {} if before is None else before.merged
        if retain:
            self.retained = {} if before is None or before.retained is None else before.retained
            self.let_go()
        if history is not None or history_seconds is not None:
            self.max_history = history
            self.history_seconds = -1.0 if history_seconds is None else history_seconds
            self.place(before.held() if before is not None else [])

    @property
    def limits(self):
        """What it was made with: retain, history, history_seconds."""
        if self.history is None:
            return self.max_retained, None, None
        return self.max_retained, self.max_history, None if self.history_seconds < 0 else self.history_seconds

    cdef bint is_empty(self) noexcept:
        # Truth of a dict and the length of a list cannot fail.
        return not self.retained and (self.history is None or self.begin - self.offset == len(self.history))

    cdef list held(self):
        """Return the history as a new list."""
        return [] if self.history is None else self.history[self.begin - self.offset:]

    cdef int place(self, list history) except -1:
        """Have this history, its newest messages, at new places."""
        self.history = history
        self.offset = self.begin = 0
        self.order = next(ORDERS)
        if self.max_history is not None:
            self.drop(len(history) - <Py_ssize_t>self.max_history)
        return 0

    cdef int drop(self, Py_ssize_t count) except -1:
        """Let go of the first `count` of the history."""
        cdef Py_ssize_t place
        for place in range(self.begin - self.offset, self.begin - self.offset + count):
            self.history[place] = None
        if count > 0:
            self.begin += count
        # Seldom, and when it moves no more than it removes: each message costs the same, however many there are.
        if self.begin - self.offset > GONE + len(self.history) // 2:
            del self.history[:self.begin - self.offset]
            self.offset = self.begin
        return 0

    cdef int keep(self, str epoch, uint64_t sequence, Frames frames, str key, double wall) except -1:
        """Keep a message that is published now. `wall`: its time at the publisher, in seconds since 1970."""
        if self.retained is not None:
            self.retain(epoch, sequence, frames, key, wall)
        if self.history is not None and sequence > <uint64_t>self.merged.get(epoch, 0):
            now = time.monotonic()
            self.history.append((epoch, sequence, now, frames, key, wall))
            if self.max_history is not None and len(self.history) - self.begin + self.offset > self.max_history:
                self.drop(1)
            self.expire(now)
        return 0

    def retain(self, str epoch, uint64_t sequence, Frames frames, str key, double wall):
        """Internal: keep it as the last of its key, unless that is newer. All servers decide alike."""
        if not self.is_newer(epoch, sequence, key, wall):
            return
        # Taken out first, so that the order is that of publication.
        self.retained.pop(key, None)
        self.retained[key] = (epoch, sequence, wall, frames)
        self.let_go()

    cdef bint is_newer(self, str epoch, uint64_t sequence, str key, double wall) except -1:
        """Tell whether a message is newer than what is retained of its key."""
        held = self.retained.get(key)
        return held is None or (held[2], held[0], held[1]) < (wall, epoch, sequence)

    cdef int let_go(self) except -1:
        while <uint32_t>len(self.retained) > self.max_retained:
            del self.retained[next(iter(self.retained))]
        return 0

    def expire(self, now):
        """Internal: let go of what is too old."""
        cdef Py_ssize_t count = 0, first = self.begin - self.offset
        if self.history_seconds >= 0:
            while first + count < len(self.history) and now - self.history[first + count][2] > self.history_seconds:
                count += 1
            self.drop(count)

    def replay(self, dict last, since):
        """
        Return what a subscriber gets.

        Args:
            last: the last number of each publisher known, by epoch.
            since: the subscriber's last number of each, by epoch; None asks for what is retained.

        Returns: (frames, whether these are all that came after `since`).
        """
        cdef list frames
        if since is None:
            return ([] if self.retained is None else [entry[3] for entry in self.retained.values()]), True
        # Of a publisher that is not known, and that the subscriber had nothing of, nothing can be missing.
        since = {epoch: number for epoch, number in since.items() if number or epoch in last}
        if since and not any(epoch in last for epoch in since):
            return [], False
        frames = [entry[3] for entry in self.held() if entry[1] > since.get(entry[0], 0)]
        missed = 0
        for epoch, number in last.items():
            if since.get(epoch, 0) > number:
                return frames, False
            missed += number - since.get(epoch, 0)
        return frames, len(frames) == missed and all(epoch in last for epoch in since)

    def entries(self):
        """Return the history, and what is retained: lists of (epoch, sequence, wall, key, frame)."""
        return [entry_of(message) for message in self.held()], self.values()

    def values(self):
        """Internal: return what is retained, as `entries` does."""
        return [] if self.retained is None else [
            (epoch, sequence, wall, key, (<Frames>frames).frames[0])
            for key, (epoch, sequence, wall, frames) in self.retained.items()]

    def value(self, str key):
        """Internal: return what is retained of a key, as `entries` does, or None."""
        if self.retained is None or key not in self.retained:
            return None
        epoch, sequence, wall, frames = self.retained[key]
        return epoch, sequence, wall, key, (<Frames>frames).frames[0]

    def part(self, Py_ssize_t place, Py_ssize_t count):
        """Internal: return up to so many messages of the history from a place on, as `entries` does."""
        place = max(place, self.begin) - self.offset
        return [] if self.history is None else [entry_of(message) for message in self.history[place:place + count]]

    def place_behind(self, str epoch, uint64_t sequence):
        """Internal: return the place behind the publisher's last message up to this number. Cost: what is behind."""
        cdef Py_ssize_t place = 0 if self.history is None else len(self.history)
        while place > self.begin - self.offset:
            message = self.history[place - 1]
            if message[0] == epoch and message[1] <= sequence:
                break
            place -= 1
        return self.offset + place

    def merge(self, list history, list retained):
        """
        Take over what another has kept, without what is here already.

        Args: as `entries` returns them.
        Raises: ValueError for a frame that is none.
        """
        cdef dict held
        cdef list order
        if self.retained is not None:
            for epoch, sequence, wall, key, frame in (*history, *retained):
                if self.is_newer(epoch, sequence, key, wall):
                    self.retained[key] = (epoch, sequence, wall, adopted(frame))
            # In the order of publication, so that those are let go of that others let go of.
            self.retained = dict(sorted(self.retained.items(), key=lambda item: (item[1][2], item[1][0], item[1][1])))
            self.let_go()
        if self.history is not None and history:
            now = time.monotonic()
            today = time.time()
            mine = self.held()
            held = dict.fromkeys([entry[:2] for entry in mine])
            order = []
            for epoch, sequence, wall, key, frame in history:
                if (epoch, sequence) not in held:
                    order.append((epoch, sequence, now - max(today - wall, 0.0), adopted(frame), key, wall))
                    held[epoch, sequence] = None
                self.merged[epoch] = max(sequence, self.merged.get(epoch, 0))
            # By age, and of one publisher by number whatever its clock says: so numbers rise, and ages are of the past.
            if order:
                order.extend(mine)
                order.sort(key=lambda entry: entry[2])
                numbers = {}
                for entry in order:
                    numbers.setdefault(entry[0], []).append(entry)
                for entries in numbers.values():
                    entries.sort(key=lambda entry: -entry[1])
                self.place([numbers[entry[0]].pop() for entry in order])
            self.expire(now)
            if len(self.merged) > MAX_MERGED:
                held = dict.fromkeys([entry[0] for entry in self.held()])
                self.merged = {epoch: number for epoch, number in self.merged.items() if epoch in held}


cdef dict heard(dict positions):
    """Return positions without those at 0: nothing was heard of these publishers."""
    return {epoch: number for epoch, number in positions.items() if number}


cdef tuple entry_of(tuple message):
    epoch, sequence, _, frames, key, wall = message
    return epoch, sequence, wall, key, (<Frames>frames).frames[0]


cdef Frames adopted(bytes frame):
    cdef Frames frames = Frames.__new__(Frames)
    frames.adopt(frame)
    return frames
