from libc.stdint cimport uint8_t


# A key that nobody can foresee, at `key[0:4]`.
cdef int next_mask(uint8_t *key) except -1
# See to it that there is a key: then the next call of `next_mask` lets no other thread run.
cdef int draw_masks() except -1
