from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastws._outbox cimport Outbox
from fastws._protocol cimport Protocol


# What a connection waits for; its one deadline is due then.
cdef enum Due:
    DUE_NOTHING
    DUE_OPENING     # the opening handshake is to be complete
    DUE_KEEPALIVE   # a ping is to be sent, or its answer is overdue
    DUE_CLOSING     # the peer's Close
    DUE_LINGER      # the peer's end of the TCP connection

# Where a connection stands. RFC 6455's states follow from it, see `state`.
cdef enum Phase:
    OPENING         # bytes belong to the opening handshake
    RUNNING         # bytes are frames
    LINGERING       # nothing more is parsed; what is queued leaves, then the descriptor closes
    GONE            # the descriptor is closed


cdef class Callbacks:
    # A handler class's functions, looked up once; None where it has none.
    cdef readonly object on_open, on_message, on_close, on_ping, on_pong, on_drain, on_error
    # The functions take the handler first: one handler per connection.
    cdef readonly bint bound


cdef class Settings:
    # What all connections of one server share.
    cdef readonly object server
    cdef readonly object policy           # handshake.Policy
    cdef readonly object make_handler     # () -> (handler, Callbacks)
    cdef readonly object negotiate        # (connection, handshake) -> Response or coroutine; None: no hooks
    cdef readonly object logger
    cdef uint64_t max_size
    cdef bint text_as_bytes
    # Bytes waiting for one peer: over write_limit sends wait, over write_cap it is dropped.
    cdef readonly size_t write_limit, write_cap
    # Seconds; a negative one is switched off.
    cdef double open_timeout, ping_interval, ping_timeout, close_timeout
    cdef Py_ssize_t max_connections, max_opening
    # Connections past the opening handshake; in it; tasks of `async def` callbacks.
    cdef readonly Py_ssize_t open_count, opening_count
    cdef readonly set tasks
    # Called when a connection's descriptor closes and when a task ends.
    cdef readonly object on_idle


cdef class Carrier:
    # Moves bytes for connections; the reactor is one. Times are nanoseconds of a monotonic
    # clock, taken once a turn.
    cdef readonly object loop
    cdef unsigned long thread
    cdef int64_t now

    # `connection` has output: send it when the turn ends, or now.
    cdef int schedule(self, Connection connection) except -1
    cdef int flush(self, Connection connection) except -1
    # It takes input again, also what it could not take before.
    cdef int resume(self, Connection connection) except -1
    # Send what is queued, end the TCP connection, and close.
    cdef int finish(self, Connection connection) except -1
    # Close now. The connection learns of it, by `lost`, when no code of the user's is running.
    cdef int drop(self, Connection connection) except -1
    # Call deadline_reached in `seconds`; a negative value clears.
    cdef int set_deadline(self, Connection connection, Due due, double seconds) except -1
    # Let SystemExit and KeyboardInterrupt out, once everything is in order.
    cdef int raise_later(self, error) except -1
    cdef object address_of(self, Connection connection, bint peer)
    # Seconds of that clock, now.
    cdef double seconds(self)


cdef class Extras:
    # What few connections need, made when first needed.
    cdef object task              # the running `async def` callback
    cdef object negotiation       # the running process_request
    cdef list drain_waiters, close_waiters
    cdef list pings               # [payload, time sent, future or None], oldest first
    cdef object id


cdef class Connection(Protocol):
    cdef object __weakref__
    cdef dict __dict__
    cdef Settings settings
    cdef Carrier carrier
    cdef Callbacks callbacks
    cdef readonly object handler
    cdef object opening           # ServerHandshake, until it is over
    cdef object head              # the raw request head; a Request once asked for
    cdef readonly str subprotocol
    cdef Extras extras

    # --- output; NULL while nothing waits
    cdef Outbox *outbox
    # The peer does not read: EPOLLOUT is armed.
    cdef bint blocked
    # It is in the carrier's list of connections with output.
    cdef bint dirty
    # More than write_limit waits, and on_drain is due.
    cdef bint over_limit

    # --- input
    # rest[rest_start .. rest_end) was received and could not be delivered yet.
    cdef uint8_t *rest
    cdef Py_ssize_t rest_start, rest_end
    # Why delivery is held (any): an `async def` callback runs; the user paused.
    cdef bint busy
    cdef bint paused
    # Bytes received and thrown away while lingering.
    cdef uint32_t discarded

    # --- the carrier's
    cdef int fd
    cdef uint32_t slot
    cdef uint32_t interest
    cdef uint8_t address_size
    cdef uint8_t[28] address      # a sockaddr_in or sockaddr_in6
    cdef bint shut                # our side of the TCP connection is shut down

    # --- life
    cdef uint8_t phase            # a Phase
    cdef uint8_t due              # a Due
    cdef bint closed_due          # on_close is to be called once the task has ended
    cdef bint closed_done         # on_close was called
    cdef int64_t received_at      # when bytes last came, ns
    cdef int64_t pinged_at        # when the unanswered keepalive ping left; 0: none
    cdef uint32_t ping_number
    cdef readonly double latency

    # What a carrier reports.
    cdef int bytes_received(self, uint8_t *data, Py_ssize_t size) except -1
    cdef int direct_bytes_received(self, size_t size) except -1
    cdef int end_received(self) except -1
    cdef int deadline_reached(self) except -1
    cdef int output_left(self) except -1
    cdef int lost(self) except -1
    cdef int released(self) except -1
    cdef int deliver_rest(self) except -1

    # The opening handshake.
    cdef int opening_received(self, bytes data) except -1
    cdef int negotiated(self, response) except -1
    cdef int open_now(self, bytes reply) except -1
    cdef int reject(self, response) except -1
    cdef int turn_away(self) except -1
    # Input.
    cdef int feed(self, uint8_t *data, Py_ssize_t size) except -1
    cdef int keep_rest(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef int after_input(self) except -1
    cdef int hold(self) except -1
    # Handlers.
    cdef int call(self, object function, PyObject *first, PyObject *second, bint closing) except -1
    cdef int start_task(self, coroutine, function, bint closing) except -1
    cdef int crashed(self, error, function) except -1
    cdef int fail_internally(self) except -1
    # Output.
    cdef int queue(self, const uint8_t *header, unsigned header_size, const uint8_t *data, size_t size,
                   PyObject *owner, bint copy) except -1
    cdef object after_send(self)
    cdef int drop_overfull(self) except -1
    # Life.
    cdef int keepalive(self) except -1
    cdef int over(self) except -1
    cdef int notify_closed(self) except -1
    cdef int check_thread(self) except -1
    cdef Extras more(self)
    cdef object closed_error(self)
    cdef object wait_for(self, int kind)
