"""Deadlines: a coarse hashed timing wheel over slot numbers.

In: a slot and the tick at which something is due for it. Out: the slots that are due. Setting,
moving and clearing a deadline cost a few writes, whatever the number of connections.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport uint32_t


cdef Wheel *wheel_new() except NULL:
    cdef Wheel *wheel = <Wheel *>PyMem_Malloc(sizeof(Wheel))
    cdef int i
    if wheel == NULL:
        raise MemoryError
    for i in range(WHEEL_BUCKETS):
        wheel.heads[i] = NONE
    wheel.now = wheel.count = wheel.room = 0
    wheel.deadline = wheel.next = wheel.previous = NULL
    return wheel


cdef void wheel_free(Wheel *wheel) noexcept:
    if wheel != NULL:
        PyMem_Free(wheel.deadline)
        PyMem_Free(wheel.next)
        PyMem_Free(wheel.previous)
        PyMem_Free(wheel)


cdef int grow(uint32_t **column, uint32_t slots) except -1:
    cdef uint32_t *bigger = <uint32_t *>PyMem_Realloc(column[0], slots * sizeof(uint32_t))
    if bigger == NULL:
        raise MemoryError
    column[0] = bigger
    return 0


cdef int wheel_reserve(Wheel *wheel, uint32_t slots) except -1:
    cdef uint32_t i
    if slots <= wheel.room:
        return 0
    grow(&wheel.deadline, slots)
    grow(&wheel.next, slots)
    grow(&wheel.previous, slots)
    for i in range(wheel.room, slots):
        wheel.deadline[i] = NONE
    wheel.room = slots
    return 0


cdef void wheel_set(Wheel *wheel, uint32_t slot, uint32_t tick) noexcept:
    cdef uint32_t *head
    wheel_clear(wheel, slot)
    if tick <= wheel.now:
        tick = wheel.now + 1
    if tick == NONE:
        tick -= 1
    head = &wheel.heads[tick & (WHEEL_BUCKETS - 1)]
    wheel.deadline[slot] = tick
    wheel.previous[slot] = NONE
    wheel.next[slot] = head[0]
    if head[0] != NONE:
        wheel.previous[head[0]] = slot
    head[0] = slot
    wheel.count += 1


cdef void wheel_clear(Wheel *wheel, uint32_t slot) noexcept:
    cdef uint32_t next, previous
    if wheel.deadline[slot] == NONE:
        return
    next = wheel.next[slot]
    previous = wheel.previous[slot]
    if next != NONE:
        wheel.previous[next] = previous
    if previous != NONE:
        wheel.next[previous] = next
    else:
        wheel.heads[wheel.deadline[slot] & (WHEEL_BUCKETS - 1)] = next
    wheel.deadline[slot] = NONE
    wheel.count -= 1


cdef uint32_t wheel_take(Wheel *wheel, uint32_t tick) noexcept:
    cdef uint32_t slot
    while True:
        # A bucket is served for the tick after `now`; only then does `now` move on.
        if wheel.count == 0 or wheel.now >= tick:
            if wheel.now < tick:
                wheel.now = tick
            return NONE
        if tick - wheel.now > WHEEL_BUCKETS:
            # The clock stood still for more than a revolution: one round finds everything.
            wheel.now = tick - WHEEL_BUCKETS
        slot = wheel.heads[(wheel.now + 1) & (WHEEL_BUCKETS - 1)]
        while slot != NONE:
            if wheel.deadline[slot] <= tick:
                wheel_clear(wheel, slot)
                return slot
            slot = wheel.next[slot]
        wheel.now += 1


cdef uint32_t wheel_next(Wheel *wheel) noexcept:
    cdef uint32_t i
    if wheel.count == 0:
        return NONE
    for i in range(1, WHEEL_BUCKETS + 1):
        if wheel.heads[(wheel.now + i) & (WHEEL_BUCKETS - 1)] != NONE:
            return wheel.now + i
    return NONE


cdef class TimingWheel:
    """The wheel for tests: deadlines of small integers."""
    cdef Wheel *wheel

    def __cinit__(self):
        self.wheel = wheel_new()

    def __dealloc__(self):
        wheel_free(self.wheel)

    def set(self, uint32_t slot, uint32_t tick):
        """Set or move the deadline of `slot` to `tick`; one that has passed is due at the next tick."""
        if slot >= 2**20:
            raise ValueError(f"slot is {slot}, limit is {2**20 - 1}")
        wheel_reserve(self.wheel, max(slot + 1, 64))
        wheel_set(self.wheel, slot, tick)

    def clear(self, uint32_t slot):
        """Forget the deadline of `slot`, if it has one."""
        if slot < self.wheel.room:
            wheel_clear(self.wheel, slot)

    def take(self, uint32_t tick):
        """Return every slot that is due at `tick`, and forget their deadlines."""
        slots = []
        cdef uint32_t slot
        while True:
            slot = wheel_take(self.wheel, tick)
            if slot == NONE:
                return slots
            slots.append(slot)

    def next(self):
        """Return the tick at which something may be due next; None when the wheel is empty."""
        cdef uint32_t tick = wheel_next(self.wheel)
        return None if tick == NONE else tick
