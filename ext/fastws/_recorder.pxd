from fastws._protocol cimport Protocol


cdef class Recorder(Protocol):
    cdef readonly list events
    cdef bytearray output
    cdef bint hold_after_message
    cdef object on_event
    cdef object record(self, tuple event)
