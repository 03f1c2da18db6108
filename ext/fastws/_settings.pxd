from libc.stdint cimport uint32_t, uint64_t


cdef class Callbacks:
    # What a handler is, looked up once. Either `main`, which runs as a task for as long as the
    # connection lasts and receives its messages itself; or functions, None where there is none.
    cdef readonly object main
    cdef readonly object on_open, on_message, on_close, on_ping, on_pong, on_drain, on_error
    # The functions take the handler first: one handler per connection.
    cdef readonly bint bound


cdef class Settings:
    # What all connections of one server share, or what a client's one connection has.
    cdef readonly object server           # None: the client's side
    cdef readonly object policy           # handshake.Policy
    cdef readonly object make_handler     # (connection) -> (handler, Callbacks)
    cdef readonly object negotiate        # (connection, handshake) -> Response or coroutine; None: no hooks
    cdef readonly object logger
    cdef readonly object topics           # _topics.Topics; None: the client's side
    cdef readonly object proxies          # forwarded.Proxies; None: none is trusted
    cdef public object ssl                # ssl.SSLContext for connections to come; None: without TLS
    cdef uint64_t max_size
    cdef bint text_as_bytes
    # Messages that wait for recv(): at high_water nothing more is taken, until low_water.
    cdef uint32_t high_water, low_water
    # Bytes waiting for one peer: over write_limit sends wait, over write_cap it is dropped.
    cdef readonly size_t write_limit, write_cap
    # Seconds; a negative one is switched off.
    cdef double open_timeout, ping_interval, ping_timeout, close_timeout
    cdef Py_ssize_t max_connections, max_opening
    # Connections past the opening handshake; in it; tasks of coroutine handlers and callbacks.
    cdef readonly Py_ssize_t open_count, opening_count
    cdef readonly set tasks
    # Called when a connection's descriptor closes and when a task ends.
    cdef readonly object on_idle
