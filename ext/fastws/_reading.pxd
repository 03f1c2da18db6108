from libc.stdint cimport uint32_t

from fastws._endpoint cimport Endpoint
from fastws._tls cimport Tls
from fastws._writing cimport Writing


cdef class Reading(Writing):
    cdef int ready(self, Endpoint connection, uint32_t events) except -1
    cdef int read(self, Endpoint connection) except -1
    cdef int put_off(self, Endpoint connection) except -1
    cdef int read_encrypted(self, Endpoint connection, Tls tls) except -1
    cdef int read_header(self, Endpoint connection) except -1
    cdef int shake(self, Endpoint connection) except -1
