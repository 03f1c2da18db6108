"""Slots: the connections of one event loop by number, and their deadlines.

In: connections that come and go, and deadlines in seconds. Out: `deadline_reached`, a tick late at
most and never early. A slot's number and generation stand for its connection where a pointer might
outlive it. One timer of the loop's serves all deadlines.
"""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport int64_t, uint32_t

from fastws._deflate cimport end_period
from fastws._endpoint cimport DUE_NOTHING, RUNNING, Carrier, Due, Endpoint
from fastws._wheel cimport NONE, wheel_clear, wheel_free, wheel_new, wheel_next, wheel_reserve, wheel_set, wheel_take

cdef extern from *:
    """
    #include <time.h>
    static inline int64_t fastws_clock(void)
    {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    """
    int64_t fastws_clock() noexcept nogil

cdef enum:
    TICK_NS = 50000000
    # Longer ones are cut to this: about a year, in seconds.
    LONGEST = 30000000
    # Seconds; and how many contexts end in one go, which takes some milliseconds.
    CONTEXT_PERIOD = 15
    CONTEXTS_AT_ONCE = 1000


cdef int64_t clock_ns() noexcept:
    return fastws_clock()


cdef class Slots(Carrier):
    """See above."""

    def __cinit__(self):
        self.generations = self.free_slots = NULL
        self.wheel = wheel_new()
        self.connections = []
        self.epoch = self.now = clock_ns()

    def __dealloc__(self):
        PyMem_Free(self.generations)
        PyMem_Free(self.free_slots)
        wheel_free(self.wheel)

    # ------------------------------------------------------------------ slots

    def connections_of(self, server):
        """Return the connections of `server` that are past the opening handshake and not closed."""
        cdef Endpoint connection
        return [connection for connection in self.connections
                if connection is not None and connection.settings.server is server and connection.phase == RUNNING]

    def descriptors_of(self, server):
        """Return every connection of `server` that has a descriptor still."""
        cdef Endpoint connection
        return [connection for connection in self.connections
                if connection is not None and connection.settings.server is server]

    cdef uint32_t take_slot(self) except? 0xFFFFFFFF:
        cdef uint32_t slots, slot
        cdef uint32_t *bigger
        if self.free_count == 0:
            slots = max(2 * self.slots, 64)
            wheel_reserve(self.wheel, slots)
            bigger = <uint32_t *>PyMem_Realloc(self.generations, slots * sizeof(uint32_t))
            if bigger == NULL:
                raise MemoryError
            self.generations = bigger
            bigger = <uint32_t *>PyMem_Realloc(self.free_slots, slots * sizeof(uint32_t))
            if bigger == NULL:
                raise MemoryError
            self.free_slots = bigger
            self.connections.extend([None] * (slots - self.slots))
            for slot in range(slots - 1, self.slots - 1, -1) if self.slots else range(slots - 1, -1, -1):
                self.generations[slot] = 0
                self.free_slots[self.free_count] = slot
                self.free_count += 1
            self.slots = slots
        self.free_count -= 1
        return self.free_slots[self.free_count]

    cdef int free_slot(self, uint32_t slot) except -1:
        wheel_clear(self.wheel, slot)
        self.generations[slot] += 1
        self.connections[slot] = None
        self.free_slots[self.free_count] = slot
        self.free_count += 1
        return 0

    # ------------------------------------------------------------------ time

    cdef double seconds(self):
        return clock_ns() * 1e-9

    cdef int update_clock(self) noexcept:
        self.now = clock_ns()
        return 0

    cdef int set_deadline(self, Endpoint connection, Due due, double seconds) except -1:
        cdef uint32_t tick
        if connection.fd < 0:
            return 0
        if seconds < 0:
            connection.due = DUE_NOTHING
            wheel_clear(self.wheel, connection.slot)
            return 0
        if not self.in_turn:
            self.update_clock()
        connection.due = due
        # Rounded up: never early.
        seconds = min(seconds, <double>LONGEST)
        tick = <uint32_t>((self.now - self.epoch + <int64_t>(seconds * 1e9)) // TICK_NS) + 1
        wheel_set(self.wheel, connection.slot, tick)
        # Amid those that are due, the next one is found when all of them are done.
        if not self.timing and (self.timer is None or tick < self.timer_tick):
            self.run_timer(tick)
        return 0

    cdef int run_timer(self, uint32_t tick) except -1:
        cdef double delay
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if tick != NONE and not self.loop.is_closed():
            delay = max(0.0, (self.epoch + <int64_t>tick * TICK_NS - self.now) * 1e-9)
            self.timer = self.loop.call_later(delay, self.timer_due)
            self.timer_tick = tick
        return 0

    cdef int watch_contexts(self) except -1:
        if self.context_timer is None:
            self.context_timer = self.loop.call_later(CONTEXT_PERIOD, self.end_context_period)
        return 0

    def end_context_period(self):
        """Internal: end the compression contexts of connections that are idle."""
        cdef bint more = end_period(CONTEXTS_AT_ONCE)
        self.context_timer = None
        if self.open_count and not self.closed:
            self.context_timer = self.loop.call_later(0.05 if more else CONTEXT_PERIOD, self.end_context_period)

    cdef int stop_timer(self) except -1:
        if self.context_timer is not None:
            self.context_timer.cancel()
            self.context_timer = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        return 0

    cdef int end_turn(self) except -1:
        return 0

    def raise_pending(self):
        """Internal."""

    def timer_due(self):
        """Internal: deadlines may have passed."""
        cdef uint32_t slot, tick
        self.timer = None
        if self.closed:
            return
        self.update_clock()
        tick = <uint32_t>((self.now - self.epoch) // TICK_NS)
        self.in_turn = self.timing = True
        try:
            while True:
                slot = wheel_take(self.wheel, tick)
                if slot == NONE:
                    break
                entry = self.connections[slot]
                if entry is not None:
                    (<Endpoint>entry).deadline_reached()
            if not self.closed:
                self.end_turn()
        finally:
            self.in_turn = self.timing = False
            if not self.closed:
                self.run_timer(wheel_next(self.wheel))
        self.raise_pending()
