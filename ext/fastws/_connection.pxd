from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from fastws._messages cimport Payload
from fastws._opening cimport Opening


cdef class Stream:
    # started: a fragment has been sent; opcode: the message's.
    cdef bint started
    cdef uint8_t opcode
    # What was sent meanwhile and goes out afterwards, (opcode, owner) each; futures for the end.
    cdef list messages
    cdef list waiters

    cdef object ended(self, Connection connection)
    cdef object queue(self, Connection connection, uint8_t opcode, owner)
    cdef int end(self, Connection connection) except -1


cdef class Connection(Opening):
    # A coroutine is in recv_streaming; what is left of a message that one left early is passed over.
    cdef uint8_t taking_stream
    cdef uint8_t discarding

    # Handlers.
    cdef int call(self, object function, PyObject *first, PyObject *second, bint closing) except -1
    cdef int start_task(self, coroutine, function, bint closing) except -1
    cdef int start_main(self) except -1
    cdef int fail_internally(self) except -1
    # Messages for a coroutine.
    cdef int deliver(self, object item) except -1
    cdef int discard_fragments(self) except -1
    cdef int check_receives(self) except -1
    # Output.
    cdef object after_send(self)
    cdef object closed_awaitable(self)
    cdef object send_iterable(self, message, text)
    cdef object send_fragment(self, Stream stream, fragment, text)
    cdef object encode_fragment(self, Stream stream, fragment, text, Payload *payload)
