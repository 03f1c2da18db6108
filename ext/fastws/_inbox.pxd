from cpython.object cimport PyObject
from libc.stdint cimport uint32_t


# Messages that were received and wait to be taken, in order: a ring of references.
cdef struct Inbox:
    PyObject **items          # `room` of them, a power of two; items[(head + i) & (room - 1)]
    uint32_t room
    uint32_t head
    uint32_t count            # <= room

# NULL is an empty inbox.
cdef inline bint inbox_empty(Inbox *box) noexcept:
    return box == NULL or box.count == 0

# Append. `box[0]` is made when it is NULL.
cdef int inbox_put(Inbox **box, object item) except -1
# Take the oldest; the reference is the caller's. There must be one.
cdef PyObject *inbox_take(Inbox *box) noexcept
cdef void inbox_free(Inbox *box) noexcept
