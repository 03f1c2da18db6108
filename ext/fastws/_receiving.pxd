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


# Await the next message of `endpoint`.
cdef object receiving(Endpoint endpoint, Taking taking)

# Let the coroutine that waits for a message go on: now, which only the carrier may ask for,
# between batches and with no task running; or at the loop's next pass.
cdef int wake_receiver(Endpoint endpoint, bint now) except -1

# What callbacks may return and need not await.
cdef bint is_awaitable_of_ours(object thing) noexcept
