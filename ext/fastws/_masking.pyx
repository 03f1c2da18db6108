"""Masking keys, of which each frame of a client takes a new one; RFC 6455 5.3.

In: the system's entropy, many keys at a time. Out: a key for each frame. A forked child draws its own.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.string cimport memcpy


cdef enum:
    MASKS = 4096               # bytes of keys drawn at a time

# Keys to come: RFC 6455 5.3 wants them from a strong source of entropy.
cdef bytes masks = b""
cdef Py_ssize_t masks_used = 0


cdef int draw_masks() except -1:
    # Other threads may run meanwhile.
    global masks, masks_used
    if masks_used == len(masks):
        masks = os.urandom(MASKS)
        masks_used = 0
    return 0


cdef int next_mask(uint8_t *key) except -1:
    global masks_used
    draw_masks()
    memcpy(key, PyBytes_AS_STRING(masks) + masks_used, 4)
    masks_used += 4
    return 0


def forget_masks():
    # A forked child must not use the same keys as its parent.
    global masks, masks_used
    masks = b""
    masks_used = 0


os.register_at_fork(after_in_child=forget_masks)
