from libc.stdint cimport uint8_t, uint32_t

from fastws._endpoint cimport Endpoint
from fastws._settings cimport Callbacks


cdef class Opening(Endpoint):
    cdef Callbacks callbacks
    cdef readonly object handler
    cdef object opening           # ServerHandshake or ClientHandshake, until it is over
    cdef object head              # the raw request head; a Request once asked for
    cdef readonly str subprotocol
    cdef readonly str extensions  # the response's Sec-WebSocket-Extensions
    cdef uint32_t opened_at       # seconds since the epoch, as the response's Date said
    cdef uint8_t deciding         # the request is valid, and its answer comes later, by `decided`

    cdef int begin(self) except -1
    cdef int agreed_on(self, handshake) except -1
    cdef int negotiated(self, response) except -1
    cdef int keep_early(self, bytes data) except -1
    cdef int decided(self, response) except -1
    cdef int find_client(self) except -1
    cdef int open_now(self, bytes reply) except -1
    cdef int feed_rest(self, bytes rest) except -1
    cdef int reject(self, response) except -1
    cdef int begin_as_client(self, handshake, future) except -1
    cdef int response_received(self, bytes data) except -1
    cdef int refuse(self, error) except -1
