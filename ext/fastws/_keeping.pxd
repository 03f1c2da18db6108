from libc.stdint cimport uint32_t, uint64_t

from fastws._fanout cimport Frames


# What a topic keeps for those who come late. A publisher is named by its server's epoch.
cdef class Kept:
    # The last message of a key: key -> (epoch, sequence, wall, Frames), least recently published first; None: not kept
    cdef dict retained
    cdef uint32_t max_retained
    # (epoch, sequence, monotonic time, Frames, key, wall), of a publisher oldest first; None: not kept. Each has a
    # place, counted from the first that was ever kept: history[0] has `offset`. What is before `begin` was let go of.
    cdef list history
    cdef Py_ssize_t offset
    cdef readonly Py_ssize_t begin
    cdef object max_history         # None: no limit
    cdef double history_seconds     # < 0: no limit
    # Changes whenever messages change their places, and tells this object from others.
    cdef readonly object order
    # The highest number of each publisher, by epoch, that came by way of another's history. Publishers of which
    # the history has nothing are forgotten when there are too many.
    cdef readonly dict merged

    cdef int keep(self, str epoch, uint64_t sequence, Frames frames, str key, double wall) except -1
    cdef bint is_newer(self, str epoch, uint64_t sequence, str key, double wall) except -1
    cdef int let_go(self) except -1
    cdef bint is_empty(self) noexcept
    cdef list held(self)
    cdef int place(self, list history) except -1
    cdef int drop(self, Py_ssize_t count) except -1


cdef dict heard(dict positions)
