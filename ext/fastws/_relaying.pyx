"""Topics beyond one process: what other servers have published and kept, for the subscribers here.

In: ready frames with their publisher's epoch and number. Out: the same as of a publication of our own. Of each
publisher numbers only rise: what came before is dropped, and what is missing is counted.
"""

from fastws.patterns import expression_of

from libc.stdint cimport uint64_t

from fastws._fanout cimport Frames
from fastws._results cimport PublishResult
from fastws._topics cimport Topic, Topics

cdef enum:
    MAX_PUBLISHERS = 1024   # that a topic knows


cdef bint is_wanted(Topic topic) except -1:
    cdef Topic pattern
    if topic.count or topic.kept is not None:
        return True
    for pattern in topic.patterns:
        if pattern.count:
            return True
    return False


cdef int forget(Topic topic) except -1:
    """Forget publishers beyond the bound, those first that have been known longest."""
    while len(topic.positions) > MAX_PUBLISHERS:
        del topic.positions[next(iter(topic.positions))]
    return 0


def receive(Topics topics not None, str name not None, str epoch not None, uint64_t sequence, double wall, str key,
            bytes frame not None, compress):
    """
    Deliver a message that another server published, as its plain frame.

    Args:
        epoch, sequence: the publisher, and its number for this topic.
        wall: when, in seconds since 1970.
        compress: as for `Server.publish`.

    Returns: how many messages are missing before it; -1: it, or a later one, came before, and it is dropped;
        -2: nobody here wants it any more.
    Raises: ValueError for a frame that is no whole, unmasked data message.
    """
    cdef Frames frames = Frames(compress)
    cdef Topic topic
    cdef PublishResult result = PublishResult()
    cdef uint64_t last, missing = 0
    frames.adopt(frame)
    topic = topics.topic(name)
    if not is_wanted(topic):
        # What comes when it is wanted again does not begin where this ended.
        topic.positions = None
        topics.prune(topic)
        return -2
    if topic.positions is None:
        topic.positions = {}
    known = topic.positions.get(epoch)
    if known is not None:
        last = known
        if sequence <= last:
            return -1
        missing = sequence - last - 1
    topic.positions[epoch] = sequence
    forget(topic)
    topic.received += 1
    topic.missing += missing
    topic.keep(epoch, sequence, frames, key, wall)
    result.slow = []
    topics.spread(topic, None, frames, key, result)
    topics.prune(topic)
    return missing


def recover(Topics topics not None, str name not None, list history not None, list retained not None,
            dict begun not None):
    """
    Take over what was kept elsewhere; what subscribers here have missed of it is delivered.

    Args:
        history, retained: lists of (epoch, sequence, wall, key, frame), of a publisher oldest first.
        begun: the number of each publisher from which on messages wait to be received, by epoch.

    Returns: how many were delivered, and how many are missing before those.
    Raises: ValueError as `receive`.
    """
    cdef Topic topic = topics.topic(name)
    cdef dict first = {}
    delivered = missing = 0
    if not is_wanted(topic):
        topic.positions = None
        topics.prune(topic)
        return 0, 0
    if topic.positions is None:
        topic.positions = {}
    for epoch, sequence, wall, key, frame in (*history, *retained):
        if epoch == topics.epoch or sequence >= begun.get(epoch, sequence + 1):
            continue
        if epoch in first or epoch not in topic.positions:
            # Older than all that was received of it: for those who come late only.
            first[epoch] = max(sequence, first.get(epoch, 0))
    for entry in history:
        epoch, sequence, wall, key, frame = entry
        if (epoch in topic.positions and epoch not in first and sequence > topic.positions[epoch]
                and sequence < begun.get(epoch, sequence + 1)):
            delivered += 1
            missing += max(receive(topics, name, epoch, sequence, wall, key, frame, None), 0)
    topic.positions.update(first)
    forget(topic)
    if topic.kept is not None:
        topic.kept.merge(history, retained)
    topics.prune(topic)
    return delivered, missing


def unwanted(Topics topics not None, str name not None):
    """Forget where publishers were in a topic, or in those that a pattern matches, when nobody wants them any more."""
    cdef Topic topic
    expression = expression_of(name) if "*" in name else None
    for topic in list(topics.known.values()) if expression is not None else [topics.known.get(name)]:
        if (topic is not None and topic.positions is not None and not is_wanted(topic)
                and (expression is None or expression.fullmatch(topic.name))):
            topic.positions = None


def audience(Topics topics not None, str name not None):
    """Return who gets what is published for a topic, as a set."""
    cdef Topic topic = topics.known.get(name)
    if topic is None:
        return set()
    return set(topic.subscribers).union(*[(<Topic>pattern).subscribers for pattern in topic.patterns])


def keeping(Topics topics not None):
    """Return the topics that keep messages."""
    cdef Topic topic
    return [topic for topic in topics.known.values() if topic.kept is not None and not topic.is_pattern]
