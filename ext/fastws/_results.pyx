"""What subscribing and publishing return."""


cdef class Subscribed:
    """
    What `subscribe` returns; also to be unpacked, in this order.

    Attributes:
        sequence: the number of the topic's last message, 0 before the first.
        replayed: how many retained or missed messages were queued.
        complete: whether these are all that came after `since`; True without `since`.
        positions: the number of the last message of each server that has published, by its epoch: what
            to give as `since` another time. None for a pattern.
    """

    def __iter__(self):
        return iter((self.sequence, self.replayed, bool(self.complete)))

    def __eq__(self, other):
        return tuple(self) == tuple(other) if isinstance(other, (tuple, Subscribed)) else NotImplemented

    def __hash__(self):
        return hash(tuple(self))

    def __repr__(self):
        return f"Subscribed(sequence={self.sequence}, replayed={self.replayed}, complete={bool(self.complete)})"


cdef class PublishResult:
    """
    What became of a message that was published.

    Attributes:
        sequence: its number in its topic, from 1.
        subscribers: connections that it was for.
        queued: those for which it waits, or has left.
        dropped: messages, this one or an older, that slow subscribers do not get.
        conflated: subscribers for which it took the place of an older one with its key.
        closed: slow subscribers that are being closed.
    """

    def __repr__(self):
        return (f"PublishResult(sequence={self.sequence}, subscribers={self.subscribers}, queued={self.queued}, "
                f"dropped={self.dropped}, conflated={self.conflated}, closed={self.closed})")
