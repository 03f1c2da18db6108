from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t

from fastws._inbox cimport Inbox
from fastws._outbox cimport Outbox
from fastws._protocol cimport Protocol
from fastws._settings cimport Settings
from fastws._tls cimport Tls


# What a connection waits for; its one deadline is due then.
cdef enum Due:
    DUE_NOTHING
    DUE_OPENING     # the opening handshake is to be complete
    DUE_KEEPALIVE   # a ping is to be sent, or its answer is overdue
    DUE_CLOSING     # the peer's Close
    DUE_LINGER      # the peer's end of the TCP connection

# Where a connection stands. RFC 6455's states follow from it, see `Connection.state`.
cdef enum Phase:
    OPENING         # bytes belong to the opening handshake
    RUNNING         # bytes are frames
    LINGERING       # nothing more is parsed; what is queued leaves, then the descriptor closes
    GONE            # the descriptor is closed


cdef class Carrier:
    # Moves bytes for connections; the reactor is one. Times are nanoseconds of a monotonic
    # clock, taken once a turn.
    cdef readonly object loop
    cdef unsigned long thread
    cdef int64_t now

    # `endpoint` has output: send it when the turn ends, or now.
    cdef int schedule(self, Endpoint endpoint) except -1
    cdef int flush(self, Endpoint endpoint) except -1
    # It takes input again, also what it could not take before.
    cdef int resume(self, Endpoint endpoint) except -1
    # Send what is queued, end the TCP connection, and close.
    cdef int finish(self, Endpoint endpoint) except -1
    # Close now. The connection learns of it, by `lost`, when no code of the user's is running.
    cdef int drop(self, Endpoint endpoint) except -1
    # Call deadline_reached in `seconds`; a negative value clears.
    cdef int set_deadline(self, Endpoint endpoint, Due due, double seconds) except -1
    # Let SystemExit and KeyboardInterrupt out, once everything is in order.
    cdef int raise_later(self, error) except -1
    # A connection may have compression contexts of its own: end those that are idle, from time to time.
    cdef int watch_contexts(self) except -1
    # Bytes that it has taken from the outbox and that have not left.
    cdef size_t unsent(self, Endpoint endpoint) except? 0
    cdef object address_of(self, Endpoint endpoint, bint peer)
    # Seconds of that clock, now.
    cdef double seconds(self)


# A connection's subscriptions: the topic (borrowed: it lives while it has members), and the
# connection's place among its members.
cdef struct Subscription:
    PyObject *topic
    uint32_t place

cdef struct Subscriptions:
    Subscription *items           # `room` of them
    uint32_t count
    uint32_t room


cdef class Extras:
    # What few connections need, made when first needed.
    cdef object task              # the running coroutine handler or `async def` callback
    cdef object function          # the callback that the task runs
    cdef object negotiation       # the running process_request
    cdef list drain_waiters, close_waiters
    cdef list pings               # [payload, time sent, latency or None, future], oldest first
    cdef object stream            # a message that is being sent in fragments
    cdef object response          # to the opening handshake, where it was not the ordinary one
    cdef object opened            # a client's future for the end of the opening handshake
    cdef object id
    cdef object link              # a _streams.Link, where there is a transport
    cdef object client_address    # as a proxy has told it; None: it is the peer's
    cdef object parting           # code and reason of a Close that waits for a good moment


cdef class Endpoint(Protocol):
    cdef object __weakref__
    cdef dict __dict__
    cdef Settings settings
    cdef Carrier carrier
    cdef Extras extras

    # --- output; NULL while nothing waits
    cdef Outbox *outbox
    # The peer does not read, so that the carrier takes nothing.
    cdef uint8_t blocked
    # It is in the carrier's list of connections with output.
    cdef uint8_t dirty
    # More than write_limit waits, and on_drain is due.
    cdef uint8_t over_limit

    # --- input. Why delivery is held (any): an `async def` callback runs; the user paused; the
    # inbox is full.
    cdef uint8_t busy
    cdef uint8_t paused
    # Whoever takes messages has not begun to.
    cdef uint8_t starting
    cdef uint8_t full
    # rest[rest_start .. rest_end) was received and could not be delivered yet.
    cdef uint8_t *rest
    cdef uint32_t rest_start, rest_end
    # Messages for recv(); NULL until there is one, and for callbacks.
    cdef Inbox *inbox
    # The Receiving that waits for one, and one that may be used again.
    cdef object receiver
    cdef object spare_receiver
    # NULL without any; see _topics.
    cdef Subscriptions *subscriptions
    # The publication that it was given last, so that it gets each once.
    cdef uint32_t publication
    # Bytes received and thrown away while lingering.
    cdef uint32_t discarded

    # --- life
    cdef uint8_t phase            # a Phase
    cdef uint8_t due              # a Due
    cdef uint8_t closed_due       # the end is to be told once the callback's task has ended
    cdef uint8_t closed_done      # it was told
    cdef uint8_t shut             # the carrier's: our side of the TCP connection is shut down
    cdef uint8_t leaving          # it closes when nothing is under way any more, which each batch may have been
    cdef uint32_t ping_number
    cdef int64_t received_at      # when bytes last came, ns
    cdef int64_t pinged_at        # when the unanswered keepalive ping left; 0: none
    cdef readonly double latency

    # --- the carrier's. fd -1: closed.
    cdef Tls tls                  # None: none
    cdef int fd
    cdef uint8_t fd_is_borrowed   # somebody else closes it
    cdef uint32_t slot
    cdef uint32_t interest
    cdef uint8_t address_size
    cdef uint8_t[28] address      # a sockaddr_in or sockaddr_in6

    # What a carrier reports.
    cdef int bytes_received(self, uint8_t *data, Py_ssize_t size) except -1
    cdef int direct_bytes_received(self, size_t size) except -1
    cdef int end_received(self) except -1
    # TLS has failed, with this exception: nothing more is received or sent.
    cdef int encryption_failed(self, error) except -1
    cdef int deadline_reached(self) except -1
    cdef int output_left(self) except -1
    cdef int lost(self) except -1
    cdef int deliver_rest(self) except -1
    # No code of the user's is running, and no task: let a coroutine have what came for it.
    cdef int input_done(self) except -1

    # What the next layer does.
    cdef int opening_received(self, bytes data) except -1
    cdef int opening_ended(self, str why) except -1
    # A connection of a trusted proxy, while `tls.header_first` is there. Returns: how many bytes were the header's;
    # all of them while it is not complete. The connection may have been dropped.
    cdef Py_ssize_t header_received(self, bytes data) except -1
    cdef int turn_away(self) except -1
    cdef int notify_closed(self) except -1
    cdef int queue_after_stream(self, bytes frame) except -1
    cdef int drained(self) except -1
    cdef int crashed(self, error, function) except -1
    cdef int connected(self) except -1

    # Input.
    cdef int feed(self, uint8_t *data, Py_ssize_t size) except -1
    cdef int keep_rest(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef int after_input(self) except -1
    cdef int hold(self) except -1
    cdef int go_on(self) except -1
    cdef int item_taken(self) except -1
    # Output.
    cdef int queue(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner, bint copy) except -1
    cdef int queue_shared(self, bytes run, const uint8_t *data, size_t size) except -1
    cdef int queue_bytes(self, bytes data) except -1
    cdef int drop_overfull(self) except -1
    # Life.
    cdef int started(self) except -1
    # A consumer was to have text that is none.
    cdef int fail_decoding(self) except -1
    cdef int begin_close(self, code, str reason) except -1
    cdef int keepalive(self) except -1
    cdef int keepalive_answered(self, bytes payload) except -1
    cdef int leave_if_idle(self) except -1
    cdef int over(self) except -1
    cdef int released(self) except -1
    cdef int end_compression(self) except -1
    cdef int check_thread(self) except -1
    cdef Extras more(self)
    cdef object closed_error(self)
    cdef object drain_future(self)
    cdef object close_future(self)

# End the futures in `waiters` (or None) that are not done: with `error`, or None.
cdef int wake_all(list waiters, error) except -1
