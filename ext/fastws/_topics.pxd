from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastws._endpoint cimport Endpoint
from fastws._fanout cimport VARIANTS, Frames
from fastws._keeping cimport Kept
from fastws._results cimport PublishResult


# A subscriber: the connection (borrowed: it leaves before it goes), the place of this subscription
# among the connection's, and how many messages it was too slow for.
cdef struct Member:
    PyObject *endpoint
    uint32_t place
    uint32_t missed

# What becomes of a message for a subscriber that has too much waiting.
cdef enum Policy:
    POLICY_CLOSE            # the subscriber is closed with 1013
    POLICY_DROP             # it does not get this message
    POLICY_DROP_OLDEST      # it does not get the oldest that waits
    POLICY_LATEST           # of a key it gets the newest, in the place of the older one


cdef class Topic:
    cdef readonly str name
    cdef Topics topics
    cdef bint is_pattern
    cdef bint declared              # it stays without subscribers
    cdef object expression          # of a pattern
    cdef list patterns              # of a topic: the patterns that it matches

    # --- subscribers, dense and in no order
    cdef Member *members
    cdef uint32_t count
    cdef uint32_t room

    # --- for slow subscribers: over so many bytes or entries waiting the policy decides
    cdef uint8_t policy
    cdef size_t max_bytes
    cdef uint32_t max_frames

    # --- for late ones
    cdef readonly uint64_t sequence  # of the last message; 0: none yet
    cdef readonly Kept kept         # None: nothing is
    # The last number of each other server that has published for it, by epoch; None: none has.
    cdef dict positions
    cdef readonly str rule          # the declaration that holds for it, or None

    cdef object on_join, on_leave

    # --- since the topic was made
    cdef readonly uint64_t received, missing  # of what other servers published
    cdef readonly uint64_t published, queued, dropped, conflated, closed

    cdef int add(self, Endpoint endpoint) except -1
    cdef int remove(self, uint32_t place) except -1
    # `live`: it is the publication under way.
    cdef int deliver(self, Endpoint endpoint, Frames frames, bint live, str key, PublishResult result) except -1
    cdef int deliver_all(self, uint32_t publication, Topic topic, Endpoint exclude, Frames frames, str key,
                         PublishResult result) except -1
    cdef int keep(self, str epoch, uint64_t sequence, Frames frames, str key, double wall) except -1
    cdef dict last(self)


cdef class Topics:
    cdef dict known                 # by name
    cdef dict patterns              # those that are patterns, by name
    cdef dict rules                 # options of declared names, in order
    cdef uint32_t publication       # the number of the one under way
    cdef object logger
    cdef readonly str epoch         # of the server
    cdef object relay               # a fastws.backplane.Relay, or None
    # With a relay: the last numbers of topics that are forgotten, the longest forgotten first, and the
    # highest number of those that are forgotten here, too.
    cdef dict numbers
    cdef uint64_t floor
    cdef uint64_t clock             # when the last message was published, in milliseconds since 1970
    # Frames that were published just now, side by side: for each variant a bytes object of RUN bytes, of
    # which so many are in use. Subscribers that read are sent them from there.
    cdef list runs
    cdef uint32_t[VARIANTS] run_used
    # Where those of the publication under way are: valid when `placed` has its number. NULL: nowhere.
    cdef const uint8_t *places[VARIANTS]
    cdef uint32_t[VARIANTS] placed

    cdef const uint8_t *place_of(self, int variant, bytes frame) except? NULL
    cdef const uint8_t *share(self, int variant, bytes frame) except? NULL
    cdef Topic topic(self, str name)
    cdef int prune(self, Topic topic) except -1
    cdef PublishResult publish(self, str name, object message, object text, Endpoint exclude, str key,
                               object compress)
    cdef int spread(self, Topic topic, Endpoint exclude, Frames frames, str key, PublishResult result) except -1
    cdef int account(self, Topic topic, PublishResult result) except -1
    cdef object subscribe(self, Endpoint endpoint, str name, object since)
    cdef bint unsubscribe(self, Endpoint endpoint, str name) except -1
    cdef list names(self, Endpoint endpoint)

# End all subscriptions of a connection that is over; `tell`: on_leave.
cdef int leave_topics(Endpoint endpoint, bint tell) except -1
