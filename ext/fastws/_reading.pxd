from libc.stdint cimport int64_t, uint8_t, uint32_t

from fastws._endpoint cimport Endpoint
from fastws._tls cimport Tls
from fastws._writing cimport Writing


cdef class Reading(Writing):
    cdef uint8_t *scratch

    # --- TLS handshakes
    cdef object shaking           # connections whose next step waits for its turn, oldest first
    cdef int64_t shaking_until    # the end of this turn's share; 0: none was used yet

    cdef int ready(self, Endpoint connection, uint32_t events) except -1
    cdef int read(self, Endpoint connection) except -1

    cdef int read_encrypted(self, Endpoint connection, Tls tls) except -1
    cdef int take_encrypted(self, Endpoint connection, Tls tls, const uint8_t *data, Py_ssize_t size) except -1
    cdef int end_encrypted(self, Endpoint connection) except -1
    cdef int fail_encrypted(self, Endpoint connection, Tls tls) except -1
    cdef bint has_time_to_shake(self) except -1
    cdef int shake_more(self) except -1
    cdef int shake(self, Endpoint connection) except -1
    cdef int shake_with(self, Endpoint connection, Tls tls, const uint8_t *data, Py_ssize_t size) except -1
