from libc.stdint cimport uint8_t, uint64_t


cdef extern from "ws_header.h" nogil:
    enum:
        WS_HEADER_MAX
        WS_CONTROL_MAX
        WS_CONT
        WS_TEXT
        WS_BINARY
        WS_CLOSE
        WS_PING
        WS_PONG

    ctypedef struct ws_header:
        uint64_t length
        uint8_t[4] key
        uint8_t opcode
        uint8_t fin
        uint8_t rsv
        uint8_t masked

    int ws_header_decode(const uint8_t *src, size_t size, unsigned rsv_allowed, unsigned masked,
                         ws_header *header) noexcept
    unsigned ws_header_encode(uint8_t *dst, unsigned first, uint64_t length) noexcept
    bint ws_close_code_valid(unsigned code) noexcept

cdef enum:
    WS_FIN = 0x80

# What a header that ws_header_decode refused did wrong, for people.
cdef str header_error(int verdict)

# A Close frame's payload, RFC 6455 5.5.1.
cdef bytes encode_close(object code, str reason)
