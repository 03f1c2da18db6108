from libc.stdint cimport uint32_t, uint64_t

from fastws._fanout cimport Frames


# What a topic keeps for those who come late. A publisher is named by its server's epoch.
cdef class Kept:
    # The last message of a key: key -> (epoch, sequence, wall, Frames), least recently published first; None: not kept
    cdef dict retained
    cdef uint32_t max_retained
    # deque of (epoch, sequence, monotonic time, Frames, key, wall), of a publisher oldest first; None: not kept
    cdef object history
    cdef double history_seconds     # < 0: no limit
    # The highest number of each publisher, by epoch, that came by way of another's history. Publishers of which
    # the history has nothing are forgotten when there are too many.
    cdef readonly dict merged

    cdef int keep(self, str epoch, uint64_t sequence, Frames frames, str key, double wall) except -1
    cdef int let_go(self) except -1
    cdef bint is_empty(self) noexcept


cdef dict heard(dict positions)
