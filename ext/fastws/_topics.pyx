"""Topics: one message to all connections that have subscribed to a name, in C.

In: subscriptions of connections, and messages for topics. Out: the message's one frame in the outbox
of every subscriber, which sends it at the end of the turn with whatever else was published.

A topic's subscribers are a dense array, and each connection knows its places in those arrays, so that
joining and leaving move two entries at most. A subscriber that reads gets the frame's bytes copied
beside others, gone in a moment. For one that does not, its outbox holds references to frames, one for
all subscribers, and the topic's policy bounds them.
"""

import logging
import time

from fastws.checks import judge_since
from fastws.log import report
from fastws.patterns import expression_of

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastws._endpoint cimport RUNNING, Endpoint, Subscription, Subscriptions
from fastws._fanout cimport VARIANTS, Frames
from fastws._keeping cimport Kept, heard
from fastws._messages cimport Payload, encode_message
from fastws._outbox cimport Outbox, outbox_conflate, outbox_drop_oldest, outbox_new, outbox_publish
from fastws._results cimport PublishResult, Subscribed

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *) noexcept

cdef enum:
    TRY_AGAIN_LATER = 1013
    # Frames side by side that subscribers share, in bytes; and the longest among them.
    RUN = 16 * 1024
    LONGEST_SHARED = 2048
    # Numbers of forgotten topics that are kept.
    MAX_NUMBERS = 65536


POLICIES = {"close": POLICY_CLOSE, "drop": POLICY_DROP, "drop-oldest": POLICY_DROP_OLDEST, "latest": POLICY_LATEST}

cdef Subscribed subscribed(Topic topic, uint32_t replayed, bint complete):
    cdef Subscribed self = Subscribed.__new__(Subscribed)
    self.sequence = topic.sequence
    self.replayed = replayed
    self.complete = complete
    self.positions = None if topic.is_pattern else topic.last()
    return self


cdef class Topic:
    """
    A topic of a server, as `Server.topic` gives it.

    Attributes:
        name: what connections subscribe to.
        rule: the declaration that holds for it, or None.
        kept: internal.
        sequence: the number of its last message.
        published: messages, by this server.
        received: messages that came from other servers.
        missing: those that did not come, by the gaps in their numbers.
        queued, dropped, conflated, closed: the sums of `PublishResult`'s.
    """

    def __cinit__(self):
        self.members = NULL
        self.policy = POLICY_CLOSE
        self.max_bytes = 1024 * 1024
        self.max_frames = 1024

    def __dealloc__(self):
        PyMem_Free(self.members)

    def __len__(self):
        return self.count

    @property
    def subscribers(self):
        """The connections that have subscribed, as a new list."""
        return [<Endpoint>self.members[i].endpoint for i in range(self.count)]

    @property
    def missed(self):
        """
        Who was too slow: connections, with how many messages were dropped or conflated for each since it subscribed.
        """
        return {<Endpoint>self.members[i].endpoint: self.members[i].missed
                for i in range(self.count) if self.members[i].missed}

    def __repr__(self):
        return f"<fastws.Topic {self.name!r}: {self.count} subscribers>"

    def declare(self, dict options):
        """Internal: take the options of `Server.topic`, which were judged there."""
        self.policy = POLICIES[options["policy"]]
        self.max_bytes = options["max_bytes"]
        self.max_frames = options["max_frames"]
        retain, history, seconds = options["retain"], options["history"], options["history_seconds"]
        self.kept = Kept(retain, history, seconds, self.kept) if retain or (history, seconds) != (None, None) else None
        self.on_join = options["on_join"]
        self.on_leave = options["on_leave"]

    cdef int add(self, Endpoint endpoint) except -1:
        cdef Member *bigger
        cdef Subscription *more
        cdef Subscriptions *own = endpoint.subscriptions
        cdef uint32_t room
        if self.count == self.room:
            room = max(2 * self.room, 4)
            bigger = <Member *>PyMem_Realloc(self.members, room * sizeof(Member))
            if bigger == NULL:
                raise MemoryError
            self.members = bigger
            self.room = room
        if own == NULL:
            own = <Subscriptions *>PyMem_Malloc(sizeof(Subscriptions))
            if own == NULL:
                raise MemoryError
            own.items = NULL
            own.count = own.room = 0
            endpoint.subscriptions = own
        if own.count == own.room:
            room = max(2 * own.room, 1)
            more = <Subscription *>PyMem_Realloc(own.items, room * sizeof(Subscription))
            if more == NULL:
                raise MemoryError
            own.items = more
            own.room = room
        self.members[self.count].endpoint = <PyObject *>endpoint
        self.members[self.count].place = own.count
        self.members[self.count].missed = 0
        own.items[own.count].topic = <PyObject *>self
        own.items[own.count].place = self.count
        Py_INCREF(self)  # the subscription's
        self.count += 1
        own.count += 1
        if self.count == 1 and self.topics.relay is not None:
            self.topics.relay.interest(self.name)
        return 0

    cdef int remove(self, uint32_t place) except -1:
        """Take out the member at `place`; the last one of each array fills the gap."""
        cdef Endpoint endpoint = <Endpoint>self.members[place].endpoint
        cdef uint32_t own_place = self.members[place].place
        cdef Subscriptions *own = endpoint.subscriptions
        self.count -= 1
        if place != self.count:
            self.members[place] = self.members[self.count]
            (<Endpoint>self.members[place].endpoint).subscriptions.items[self.members[place].place].place = place
        own.count -= 1
        if own_place != own.count:
            own.items[own_place] = own.items[own.count]
            (<Topic>own.items[own_place].topic).members[own.items[own_place].place].place = own_place
        if own.count == 0:
            PyMem_Free(own.items)
            PyMem_Free(own)
            endpoint.subscriptions = NULL
        if self.count == 0 and self.topics.relay is not None:
            self.topics.relay.interest(self.name)
        Py_DECREF(self)
        return 0

    cdef int deliver(self, Endpoint endpoint, Frames frames, bint live, str key, PublishResult result) except -1:
        cdef Outbox *box = endpoint.outbox
        cdef const uint8_t *place
        cdef bytes frame
        cdef int variant
        if endpoint.phase != RUNNING or endpoint.close_queued:
            return 0
        result.subscribers += 1
        variant = frames.variant(endpoint.deflating)
        frame = frames.frames[variant]
        if endpoint.extras is not None and endpoint.extras.stream is not None:
            # Not between the fragments of a message, RFC 6455 5.4.
            endpoint.queue_after_stream(frame)
            result.queued += 1
            return 0
        if not endpoint.blocked:
            place = self.topics.place_of(variant, frame) if live else NULL
            if place != NULL:
                endpoint.queue_shared(self.topics.runs[variant], place, <size_t>PyBytes_GET_SIZE(frame))
            else:
                endpoint.queue(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(frame),
                               <size_t>PyBytes_GET_SIZE(frame), <PyObject *>frame, True)
            result.queued += 1
            return 0
        if box == NULL:
            box = endpoint.outbox = outbox_new()
        if self.policy == POLICY_LATEST and key is not None and outbox_conflate(box, frame, <void *>self, key):
            result.conflated += 1
            return 0
        if box.size + <size_t>PyBytes_GET_SIZE(frame) > self.max_bytes or box.end - box.first >= self.max_frames:
            if self.policy == POLICY_CLOSE:
                result.closed += 1
                result.slow.append(endpoint)
                return 0
            result.dropped += 1
            if self.policy != POLICY_DROP_OLDEST or not outbox_drop_oldest(box, <void *>self):
                return 0
        outbox_publish(box, frame, <void *>self, key)
        if box.size > endpoint.settings.write_limit:
            endpoint.over_limit = True
        result.queued += 1
        return 0

    cdef int deliver_all(self, uint32_t publication, Topic topic, Endpoint exclude, Frames frames, str key,
                         PublishResult result) except -1:
        """Deliver what is published for `topic`, this one or one that matches this pattern, to who has not got it."""
        cdef Endpoint endpoint
        cdef uint32_t i, before
        for i in range(self.count):
            endpoint = <Endpoint>self.members[i].endpoint
            if endpoint.publication == publication:
                continue
            endpoint.publication = publication
            if endpoint is not exclude:
                before = result.dropped + result.conflated
                topic.deliver(endpoint, frames, True, key, result)
                self.members[i].missed += result.dropped + result.conflated - before
        return 0

    cdef int keep(self, str epoch, uint64_t sequence, Frames frames, str key, double wall) except -1:
        """Keep what late subscribers may ask for. `wall`: seconds since 1970 at the publisher."""
        if self.kept is not None:
            self.kept.keep(epoch, sequence, frames, key, wall)
        return 0

    cdef dict last(self):
        """Return the last number of each server that has published, by epoch."""
        cdef dict last = {self.topics.epoch: self.sequence}
        if self.positions is not None:
            last.update(self.positions)
        return last

    def replay(self, Endpoint endpoint, since):
        """Internal: queue what was kept. Returns: (messages, whether they are all, of those since `since`)."""
        cdef PublishResult result = PublishResult()
        cdef list kept = []
        result.slow = []
        if self.kept is not None:
            kept, complete = self.kept.replay(self.last(), since)
        else:
            complete = since is None or heard(since) == heard(self.last())
        for frames in kept:
            self.deliver(endpoint, frames, False, None, result)
            if result.slow:
                break
        self.topics.account(self, result)
        # Of one that does not read some were dropped.
        return result.queued, complete and result.queued == <uint32_t>len(kept)


cdef class Topics:
    """
    The topics of one server.

    Args:
        logger: for subscribers that are closed because they are slow.
        epoch: the server's, which names its numbers.
    """

    def __init__(self, logger, str epoch not None):
        self.logger = logger
        self.epoch = epoch
        self.numbers = {}
        self.known = {}
        self.patterns = {}
        self.rules = {}
        self.runs = [None] * VARIANTS

    cdef Topic topic(self, str name):
        """Return the topic, made when it is not known."""
        cdef Topic topic = self.known.get(name)
        cdef Topic other
        if topic is not None:
            return topic
        topic = Topic()
        topic.name = name
        topic.topics = self
        topic.patterns = []
        topic.is_pattern = "*" in name
        for rule, options in self.rules.items():
            if rule == name or (not topic.is_pattern and "*" in rule and expression_of(rule).fullmatch(name)):
                topic.declare(options)
                topic.declared = rule == name
                topic.rule = rule
                break
        if self.relay is not None:
            topic.sequence = self.numbers.pop(name, self.floor)
        if topic.is_pattern:
            topic.expression = expression_of(name)
            self.patterns[name] = topic
            for other in self.known.values():
                if not other.is_pattern and topic.expression.fullmatch(other.name):
                    other.patterns.append(topic)
        else:
            for other in self.patterns.values():
                if other.expression.fullmatch(name):
                    topic.patterns.append(other)
        self.known[name] = topic
        return topic

    cdef int prune(self, Topic topic) except -1:
        """Forget a topic for which there is no reason any more."""
        cdef Topic other
        if (topic.count or topic.declared or (topic.kept is not None and not topic.kept.is_empty())
                or self.known.get(topic.name) is not topic):
            return 0
        if topic.is_pattern:
            del self.known[topic.name]
            del self.patterns[topic.name]
            for other in list(self.known.values()):
                if topic in other.patterns:
                    other.patterns.remove(topic)
                    self.prune(other)
        elif not topic.patterns:
            del self.known[topic.name]
            if self.relay is not None and topic.sequence:
                self.numbers[topic.name] = topic.sequence
                if len(self.numbers) > MAX_NUMBERS:
                    self.floor = max(self.floor, <uint64_t>self.numbers.pop(next(iter(self.numbers))))
        return 0

    cdef const uint8_t *place_of(self, int variant, bytes frame) except? NULL:
        """Return where a frame of the publication under way is in its run, or NULL."""
        if self.placed[variant] != self.publication:
            self.placed[variant] = self.publication
            self.places[variant] = self.share(variant, frame)
        return self.places[variant]

    cdef const uint8_t *share(self, int variant, bytes frame) except? NULL:
        """Copy a small frame behind those that were published before. Returns: where it is, or NULL."""
        cdef uint32_t size = <uint32_t>min(PyBytes_GET_SIZE(frame), RUN)
        cdef uint8_t *place
        cdef bytes run = self.runs[variant]
        if size > LONGEST_SHARED:
            return NULL
        if run is not None and Py_REFCNT(<PyObject *>run) == 2:
            # The list's and ours: all that was in it has left.
            self.run_used[variant] = 0
        elif run is None or self.run_used[variant] + size > RUN:
            self.runs[variant] = run = PyBytes_FromStringAndSize(NULL, RUN)
            self.run_used[variant] = 0
        place = <uint8_t *>PyBytes_AS_STRING(run) + self.run_used[variant]
        memcpy(place, PyBytes_AS_STRING(frame), size)
        self.run_used[variant] += size
        return place

    cdef PublishResult publish(self, str name, object message, object text, Endpoint exclude, str key,
                               object compress):
        cdef Payload payload
        cdef Frames frames = Frames(compress)
        cdef Topic topic
        cdef PublishResult result = PublishResult()
        cdef object owner = encode_message(message, text, &payload)
        frames.encode(&payload)
        del owner  # it kept the payload alive
        result.slow = []
        topic = self.topic(name)
        topic.sequence += 1
        topic.published += 1
        result.sequence = topic.sequence
        if topic.kept is not None or self.relay is not None:
            # It does not go back: of two values of ours the later one is newer everywhere.
            self.clock = max(self.clock, <uint64_t>(time.time() * 1000))
            topic.keep(self.epoch, topic.sequence, frames, key, self.clock / 1000.0)
        self.spread(topic, exclude, frames, key, result)
        if self.relay is not None:
            self.relay.published(topic, topic.sequence, key, frames.frames[0], compress, self.clock / 1000.0)
        self.prune(topic)
        return result

    cdef int spread(self, Topic topic, Endpoint exclude, Frames frames, str key, PublishResult result) except -1:
        """Deliver to the subscribers of a topic, and of the patterns that it matches."""
        cdef Topic pattern
        self.publication += 1
        topic.deliver_all(self.publication, topic, exclude, frames, key, result)
        for pattern in topic.patterns:
            pattern.deliver_all(self.publication, topic, exclude, frames, key, result)
        return self.account(topic, result)

    cdef int account(self, Topic topic, PublishResult result) except -1:
        """Count what became of deliveries, and close subscribers that were found too slow."""
        cdef Endpoint endpoint
        topic.queued += result.queued
        topic.dropped += result.dropped
        topic.conflated += result.conflated
        topic.closed += result.closed
        # Not before: closing changes the arrays.
        for endpoint in result.slow:
            report(self.logger, logging.WARNING, "%s closed: too slow for topic %s, %d bytes wait for it",
                   endpoint.carrier.address_of(endpoint, True), topic.name,
                   endpoint.outbox.size if endpoint.outbox else 0)
            endpoint.begin_close(TRY_AGAIN_LATER, "too slow")
        result.slow = None
        return 0

    cdef object subscribe(self, Endpoint endpoint, str name, object since):
        cdef dict positions = None if since is None else judge_since(since, name, self.epoch)
        cdef Topic topic = self.topic(name)
        cdef Topic other
        cdef Subscriptions *own = endpoint.subscriptions
        cdef uint32_t i
        if own != NULL:
            for i in range(own.count):
                if own.items[i].topic == <PyObject *>topic:
                    return subscribed(topic, 0, True)
        topic.add(endpoint)
        if topic.is_pattern:
            replayed = 0
            complete = True
            for other in self.known.values():
                if topic in other.patterns:
                    count, whole = other.replay(endpoint, None)
                    replayed += count
                    complete = complete and whole
        else:
            replayed, complete = topic.replay(endpoint, positions)
        if topic.on_join is not None:
            endpoint.carrier.loop.call_soon(topic.on_join, endpoint, name)
        return subscribed(topic, replayed, complete)

    cdef bint unsubscribe(self, Endpoint endpoint, str name) except -1:
        cdef Topic topic = self.known.get(name)
        cdef Subscriptions *own = endpoint.subscriptions
        cdef uint32_t i
        if topic is None or own == NULL:
            return False
        for i in range(own.count):
            if own.items[i].topic == <PyObject *>topic:
                leave(topic, endpoint, own.items[i].place, True)
                return True
        return False

    cdef list names(self, Endpoint endpoint):
        cdef Subscriptions *own = endpoint.subscriptions
        cdef uint32_t i
        return [] if own == NULL else [(<Topic>own.items[i].topic).name for i in range(own.count)]

    # ---- for Server

    def publish_message(self, str name, message, text, exclude, key, compress):
        """Internal: `Server.publish`."""
        return self.publish(name, message, text, exclude, key, compress)

    def find(self, str name):
        """Internal: return the topic of that name, or None."""
        return self.known.get(name)

    def attach(self, relay):
        """Internal: let other servers take part, with None no more."""
        self.relay = relay

    def sequence_of(self, str name):
        """Internal: return the number of the last message published here for a topic, 0 before the first."""
        cdef Topic topic = self.known.get(name)
        return topic.sequence if topic is not None else self.numbers.get(name, self.floor)

    def declare(self, str name, dict options):
        """Internal: `Server.topic`."""
        cdef Topic topic
        self.rules[name] = options
        topic = self.topic(name)
        topic.declared = True
        topic.rule = name
        topic.declare(options)
        if self.relay is not None:
            self.relay.interest(name)
        return topic


cdef int leave(Topic topic, Endpoint endpoint, uint32_t place, bint tell) except -1:
    topic.remove(place)
    if tell and topic.on_leave is not None and not endpoint.carrier.loop.is_closed():
        endpoint.carrier.loop.call_soon(topic.on_leave, endpoint, topic.name)
    return topic.topics.prune(topic)


cdef int leave_topics(Endpoint endpoint, bint tell) except -1:
    while endpoint.subscriptions != NULL:
        leave(<Topic>endpoint.subscriptions.items[0].topic, endpoint, endpoint.subscriptions.items[0].place, tell)
    return 0
