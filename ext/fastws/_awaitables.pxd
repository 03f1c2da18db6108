from fastws._endpoint cimport Endpoint


# How a Receiving gives what it takes.
cdef enum Taking:
    TAKE_AS_IT_IS       # recv()
    TAKE_STR            # recv(decode=True)
    TAKE_BYTES          # recv(decode=False)
    TAKE_NEXT           # `async for`: the end of the connection may end it in silence
    TAKE_FRAGMENT       # recv_streaming(): a message, or a Fragment of one
    TAKE_EVENT          # ASGI's receive(): a dict, also for the end of the connection


cdef class Fragment:
    # A part of a message that is taken as it comes.
    cdef object data
    cdef bint fin


cdef class Ready:
    # An awaitable with nothing to wait for: its result is None.
    pass

cdef Ready READY

# An awaitable that raises.
cdef object failing(error)

# Await the next message of `endpoint`.
cdef object receiving(Endpoint endpoint, Taking taking)

# What an awaitable of a connection's waits for.
cdef enum Event:
    DRAINED             # no more than write_limit bytes wait
    CLOSED

cdef object waiting(Endpoint endpoint, Event event)

# Await a future for the Pong to `ping`, an entry of `extras.pings`.
cdef object pinged(Endpoint endpoint, list ping)

# Let the coroutine that waits for a message go on: now, which only the carrier may ask for,
# between batches and with no task running; or at the loop's next pass.
cdef int wake_receiver(Endpoint endpoint, bint now) except -1

# What callbacks may return and need not await.
cdef bint is_awaitable_of_ours(object thing) noexcept
