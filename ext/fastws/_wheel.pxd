from libc.stdint cimport uint32_t

cdef enum:
    WHEEL_BUCKETS = 1024
    # No slot, no tick.
    NONE = 0xFFFFFFFF


# Deadlines of slots, at most one a slot: a hashed timing wheel. A deadline more than one
# revolution away waits in its bucket and is passed over until its round comes.
cdef struct Wheel:
    uint32_t[WHEEL_BUCKETS] heads  # a bucket's first slot, or NONE
    uint32_t now                   # every tick up to this one has been served
    uint32_t count                 # slots with a deadline
    # By slot; room for `room` of them.
    uint32_t room
    uint32_t *deadline             # a tick, or NONE
    uint32_t *next
    uint32_t *previous

cdef Wheel *wheel_new() except NULL
cdef void wheel_free(Wheel *wheel) noexcept
cdef int wheel_reserve(Wheel *wheel, uint32_t slots) except -1
cdef void wheel_set(Wheel *wheel, uint32_t slot, uint32_t tick) noexcept
cdef void wheel_clear(Wheel *wheel, uint32_t slot) noexcept
# Take one slot whose deadline is not after `tick`; NONE when there is no more.
cdef uint32_t wheel_take(Wheel *wheel, uint32_t tick) noexcept
# The next tick at which wheel_take may find one; NONE when the wheel is empty.
cdef uint32_t wheel_next(Wheel *wheel) noexcept
