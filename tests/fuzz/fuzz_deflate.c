/* The compressor of ext/kernels against a slow inflate, and zlib's if -DWITH_ZLIB.
 *
 * The invariant: whatever the bytes, the window and what was compressed before, the result inflates
 * to them, no block of it has BFINAL, it ends with an empty stored block, no distance is larger than
 * the window or reaches before the message, a new state gives the same bytes, it is not larger than
 * WS_DEFLATE_BOUND; with less room there is no result, and nothing is written outside the room, which
 * is an exactly sized allocation, nor read outside the message, which is another.
 *
 * Input: window (1 byte), base (1: not 0, so many bytes before its wrap), then what makes the message:
 * 0-127 and one byte more than that; 128-191 and a distance (2 bytes) to copy from; 192-255 and a byte
 * to repeat.
 *
 * Built with ext/kernels/deflate.c, -Iext/kernels and -fsanitize=address,undefined; with clang's
 * -fsanitize=fuzzer besides, or with -DALONE, which gives a main():
 *
 *   fuzz_deflate file...           run these inputs
 *   fuzz_deflate -seconds [seed]   make inputs for so long
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef WITH_ZLIB
#include <zlib.h>
#endif

#include "ws_deflate.h"

#define MOST (256 * 1024)

static unsigned long long now_seed; /* of the input; 0 for one from a file */

static void fail(const char *what, size_t at)
{
    fprintf(stderr, "seed %llu: %s, at %zu\n", now_seed, what, at);
    abort();
}

static uint8_t *exactly(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size);
    if (copy == NULL && size > 0)
        abort();
    if (size > 0 && bytes != NULL)
        memcpy(copy, bytes, size);
    return copy;
}

/* ---- inflate, a bit at a time */

typedef struct {
    const uint8_t *src;
    size_t size, bit;
} reader;

static unsigned take(reader *in, unsigned count)
{
    unsigned value = 0;
    for (unsigned i = 0; i < count; i++, in->bit++) {
        if (in->bit / 8 >= in->size)
            fail("ends within a block", in->bit / 8);
        value |= ((unsigned)in->src[in->bit / 8] >> in->bit % 8 & 1) << i;
    }
    return value;
}

typedef struct {
    unsigned count[16], symbols[288];
} code;

static void make(code *made, const uint8_t *bits, unsigned symbols)
{
    memset(made, 0, sizeof *made);
    unsigned n = 0;
    int left = 1;
    for (unsigned length = 1; length < 16; length++) {
        for (unsigned symbol = 0; symbol < symbols; symbol++)
            if (bits[symbol] == length) {
                made->symbols[n++] = symbol;
                made->count[length]++;
            }
        left = 2 * left - (int)made->count[length];
        if (left < 0)
            fail("oversubscribed code of symbols", symbols);
    }
    if (left != 0)
        fail("incomplete code of symbols", symbols);
}

static unsigned decode(reader *in, const code *by)
{
    unsigned value = 0, first = 0, before = 0;
    for (unsigned length = 1; length < 16; length++) {
        value = value << 1 | take(in, 1);
        if (value - first < by->count[length])
            return by->symbols[before + value - first];
        before += by->count[length];
        first = (first + by->count[length]) << 1;
    }
    fail("bits that are no code", in->bit / 8);
    return 0;
}

static void read_codes(reader *in, unsigned kind, code *literal, code *distance)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t bits[320] = {0};
    if (kind == 1) {
        for (unsigned i = 0; i < 288; i++)
            bits[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
        memset(bits + 288, 5, 32);
        make(literal, bits, 288);
        make(distance, bits + 288, 32);
        return;
    }
    const unsigned literals = 257 + take(in, 5), distances = 1 + take(in, 5), lengths = 4 + take(in, 4);
    if (literals > 286 || distances > 30)
        fail("too many codes", in->bit / 8);
    for (unsigned i = 0; i < lengths; i++)
        bits[order[i]] = (uint8_t)take(in, 3);
    code by;
    make(&by, bits, 19);
    memset(bits, 0, sizeof bits);
    for (unsigned i = 0; i < literals + distances;) {
        const unsigned symbol = decode(in, &by);
        unsigned repeat = 1;
        uint8_t value = (uint8_t)symbol;
        if (symbol >= 16) {
            if (symbol == 16 && i == 0)
                fail("repeats nothing", in->bit / 8);
            value = symbol == 16 ? bits[i - 1] : 0;
            repeat = symbol == 16 ? 3 + take(in, 2) : symbol == 17 ? 3 + take(in, 3) : 11 + take(in, 7);
        }
        if (i + repeat > literals + distances)
            fail("too many lengths", in->bit / 8);
        memset(bits + i, value, repeat);
        i += repeat;
    }
    make(literal, bits, literals);
    make(distance, bits + literals, distances);
}

static void inflate_slowly(const uint8_t *src, size_t size, const uint8_t *want, size_t wanted, unsigned window)
{
    static uint8_t out[MOST + 300];
    reader in = {src, size, 0};
    size_t made = 0;
    for (;;) {
        if (take(&in, 1))
            fail("BFINAL", in.bit / 8);
        const unsigned kind = take(&in, 2);
        if (kind == 3)
            fail("reserved kind of block", in.bit / 8);
        if (kind == 0) {
            in.bit = (in.bit + 7) / 8 * 8;
            if (in.bit == 8 * size)
                break; /* the four bytes that are not sent */
            const unsigned length = take(&in, 16);
            if ((take(&in, 16) ^ length) != 0xFFFF)
                fail("length of a stored block", in.bit / 8);
            if (length == 0 || made + length > wanted)
                fail("stored block too short or too long", in.bit / 8);
            for (unsigned i = 0; i < length; i++)
                out[made++] = (uint8_t)take(&in, 8);
            continue;
        }
        code literal, distance;
        read_codes(&in, kind, &literal, &distance);
        for (unsigned symbol; (symbol = decode(&in, &literal)) != 256;) {
            if (made >= wanted)
                fail("inflates to too much", in.bit / 8);
            if (symbol < 256) {
                out[made++] = (uint8_t)symbol;
                continue;
            }
            const unsigned s = symbol - 257, more = s < 8 || s == 28 ? 0 : s / 4 - 1;
            const unsigned length = (s < 8 ? s + 3 : s == 28 ? 258 : 3 + ((4 + s % 4) << more)) + take(&in, more);
            const unsigned d = decode(&in, &distance), further = d < 4 ? 0 : d / 2 - 1;
            const unsigned back = (d < 4 ? d + 1 : 1 + ((2 + d % 2) << further)) + take(&in, further);
            if (s > 28 || d > 29 || length > 258 || back > window || back > made || made + length > wanted)
                fail("match out of bounds", in.bit / 8);
            for (unsigned i = 0; i < length; i++, made++)
                out[made] = out[made - back];
        }
    }
    if (made != wanted || (made > 0 && memcmp(out, want, made) != 0))
        fail("inflates to something else", made);
}

#ifdef WITH_ZLIB
static void inflate_with_zlib(const uint8_t *src, size_t size, const uint8_t *want, size_t wanted,
                              unsigned window_bits)
{
    static uint8_t out[MOST + 1];
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    uint8_t *const input = exactly(NULL, size + 4);
    memcpy(input, src, size);
    memcpy(input + size, "\0\0\xFF\xFF", 4);
    if (inflateInit2(&stream, -(int)window_bits) != Z_OK)
        abort();
    stream.next_in = input;
    stream.avail_in = (uInt)size + 4;
    stream.next_out = out;
    stream.avail_out = sizeof out;
    const int verdict = inflate(&stream, Z_SYNC_FLUSH);
    if ((verdict != Z_OK && verdict != Z_BUF_ERROR) || stream.avail_in || stream.total_out != wanted ||
        memcmp(out, want, wanted))
        fail("zlib does not agree", stream.total_out);
    inflateEnd(&stream);
    free(input);
}
#endif

/* ---- one message */

/* Compress with so much room and no more; `wanted` is what a result must be. */
static void with_room(ws_deflate_state *state, const uint8_t *src, size_t size, unsigned window_bits, size_t room,
                      const uint8_t *want, size_t wanted)
{
    uint8_t *const dst = exactly(NULL, room);
    const size_t got = ws_deflate(state, src, size, dst, room, window_bits);
    if (got != (room < wanted ? 0 : wanted))
        fail("size depends on the room or the past", room);
    if (got > 0 && memcmp(dst, want, got) != 0)
        fail("result depends on the room or the past", room);
    free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ws_deflate_state state, another;
    static uint8_t message[MOST];
    if (size < 2)
        return 0;
    if (state.base == 0)
        ws_deflate_init(&state);
    const unsigned window_bits = 9 + data[0] % 7;
    size_t made = 0;
    for (size_t at = 2; at < size;) {
        const unsigned what = data[at++];
        size_t count = what < 128 ? what + 1 : what < 192 ? 3 + (what & 63) * (what & 63) / 4 : 1 + 60 * (what - 192);
        if (count > MOST - made)
            count = MOST - made;
        if (what < 128) {
            if (count > size - at)
                count = size - at;
            memcpy(message + made, data + at, count);
            made += count;
            at += count;
        } else if (what < 192 && size - at >= 2 && made > 0) {
            const size_t back = 1 + (data[at] | (size_t)data[at + 1] << 8) % made;
            for (at += 2; count > 0; count--, made++)
                message[made] = message[made - back];
        } else if (at < size) {
            memset(message + made, data[at++], count);
            made += count;
        }
    }
    uint8_t *const src = exactly(message, made);
    const size_t bound = WS_DEFLATE_BOUND(made);
    uint8_t *const want = exactly(NULL, bound);
    if (data[1] > 0) {
        /* As if many messages had gone before; what is seen of them lies behind. */
        memset(state.seen, 0, sizeof state.seen);
        state.base = UINT32_MAX - data[1] * 16;
    }
    const size_t wanted = ws_deflate(&state, src, made, want, bound, window_bits);
    if (wanted == 0)
        fail("larger than WS_DEFLATE_BOUND", made);
    inflate_slowly(want, wanted, src, made, 1u << window_bits);
#ifdef WITH_ZLIB
    inflate_with_zlib(want, wanted, src, made, window_bits);
#endif
    ws_deflate_init(&another);
    with_room(&another, src, made, window_bits, wanted, want, wanted);
    with_room(&state, src, made, window_bits, wanted - 1, want, wanted);
    if (made <= 600)
        for (size_t room = 0; room <= wanted + 8; room++)
            with_room(&state, src, made, window_bits, room, want, wanted);
    else
        with_room(&state, src, made, window_bits, (data[0] * 251u + data[1]) % (wanted + 8), want, wanted);
    free(src);
    free(want);
    return 0;
}

#ifdef ALONE
static uint64_t seed;

static unsigned below(unsigned limit)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % limit;
}

static size_t some_input(uint8_t *data)
{
    size_t size = 0;
    const unsigned steps = below(below(4) ? 12 : 400), letters = below(3) ? 1 + below(20) : 256, base = below(256);
    data[size++] = (uint8_t)below(256);
    data[size++] = (uint8_t)(below(2) ? 0 : below(256));
    for (unsigned i = 0; i < steps; i++) {
        const unsigned kind = below(8);
        if (kind < 4) {
            const unsigned count = below(kind < 2 ? 8 : 128);
            data[size++] = (uint8_t)count;
            for (unsigned k = 0; k <= count; k++) /* rare letters get long codes */
                data[size++] = (uint8_t)(base + (below(2) ? below(letters) : below(1 + below(1 + below(letters)))));
        } else if (kind < 7) {
            const unsigned back = below(3) ? below(1 + below(2000)) : below(65536);
            data[size++] = (uint8_t)(128 + below(below(6) ? 16 : 64));
            data[size++] = (uint8_t)back;
            data[size++] = (uint8_t)(back >> 8);
        } else {
            data[size++] = (uint8_t)(192 + below(below(6) ? 6 : 64));
            data[size++] = (uint8_t)below(256);
        }
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t room[1024 * 1024];
    if (argc > 1 && argv[1][0] == '-') {
        const time_t end = time(NULL) + atol(argv[1] + 1);
        seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
        unsigned long runs = 0;
        for (; time(NULL) < end; runs++) {
            now_seed = seed;
            const size_t size = some_input(room);
            LLVMFuzzerTestOneInput(room, size);
        }
        printf("%lu inputs passed\n", runs);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        FILE *const file = fopen(argv[i], "rb");
        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        const size_t size = fread(room, 1, sizeof room, file);
        fclose(file);
        LLVMFuzzerTestOneInput(room, size);
    }
    printf("%d inputs replayed\n", argc - 1);
    return 0;
}
#endif
