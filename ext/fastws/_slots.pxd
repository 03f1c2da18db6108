from libc.stdint cimport int64_t, uint32_t

from fastws._endpoint cimport Carrier, Endpoint
from fastws._wheel cimport Wheel


# Nanoseconds of the monotonic clock.
cdef int64_t clock_ns() noexcept


cdef class Slots(Carrier):
    cdef readonly bint closed
    # A turn is running: the clock was read, and end_turn will come.
    cdef bint in_turn

    # --- slots. A slot is a number for a connection; an event carries it with its
    # generation, so that an event for a descriptor that is gone finds nothing.
    cdef list connections         # by slot; None: free
    cdef uint32_t *generations    # by slot
    cdef uint32_t *free_slots     # a stack
    cdef uint32_t slots, free_count
    cdef readonly uint32_t open_count

    # --- time
    cdef Wheel *wheel
    cdef int64_t epoch            # of tick 0, ns
    cdef object timer             # the loop's; None: not running
    cdef uint32_t timer_tick
    cdef bint timing              # deadlines are being reached
    cdef object context_timer     # of the next end_context_period; None: not running

    cdef uint32_t take_slot(self) except? 0xFFFFFFFF
    # The slot's events and deadline are void from here on.
    cdef int free_slot(self, uint32_t slot) except -1
    cdef int run_timer(self, uint32_t tick) except -1
    cdef int stop_timer(self) except -1
    cdef int update_clock(self) noexcept
    # What a turn, or a batch of deadlines, left to do.
    cdef int end_turn(self) except -1
