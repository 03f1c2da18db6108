from libc.stdint cimport uint32_t, uint64_t


cdef class PublishResult:
    cdef readonly uint64_t sequence
    cdef readonly uint32_t subscribers, queued, dropped, conflated, closed
    cdef list slow                  # connections to be closed


cdef class Subscribed:
    cdef readonly uint64_t sequence
    cdef readonly uint32_t replayed
    cdef readonly dict positions
    cdef readonly bint complete
