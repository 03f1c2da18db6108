/* Every set against the reference, each piece in an exactly sized allocation: to be built with
 * -fsanitize=address,undefined, which then sees a read or a write of one byte too many.
 *
 *   test_kernels [seed]     the sets that this CPU runs; with -DEMULATED, those of emulated.c
 *
 * Exits with 0 when all agree, else prints what did not and exits with 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../ws_sets.h"

#define MOST 300   /* longest piece */
#define ALIGNS 64

static uint64_t seed = 1;

static uint32_t random32(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static uint32_t below(uint32_t limit)
{
    return random32() % limit;
}

static void fail(const ws_kernels *set, const char *what, size_t len, size_t align, unsigned phase)
{
    printf("%s: %s: length %zu, alignment %zu, phase %u\n", set->name, what, len, align, phase);
    exit(1);
}

/* Bytes [0, size) of an allocation that ends with them and begins `align` bytes before them. */
typedef struct {
    uint8_t *base, *at;
} piece;

static piece piece_of(const uint8_t *bytes, size_t size, size_t align)
{
    piece p;
    p.base = malloc(align + size);
    if (p.base == NULL && align + size > 0)
        abort();
    p.at = p.base == NULL ? NULL : p.base + align;
    if (align > 0)
        memset(p.base, 0xA5, align);
    if (size > 0 && bytes != NULL)
        memcpy(p.at, bytes, size);
    return p;
}

static int untouched(piece p, size_t align)
{
    for (size_t i = 0; i < align; i++)
        if (p.base[i] != 0xA5)
            return 0;
    return 1;
}

static size_t encode(uint8_t *at, uint32_t c)
{
    if (c < 0x80) {
        at[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        at[0] = (uint8_t)(0xC0 | c >> 6);
        at[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        at[0] = (uint8_t)(0xE0 | c >> 12);
        at[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        at[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    at[0] = (uint8_t)(0xF0 | c >> 18);
    at[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    at[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    at[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

/* Text of mixed code points, mostly ASCII or hardly, cut at len; then at times a byte changed. */
static void random_text(uint8_t *text, size_t len)
{
    static const uint32_t bounds[] = {0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xCFFF, 0xD000, 0xD7FF, 0xE000,
                                      0xFFFD, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10FFFF};
    uint8_t room[MOST + 4];
    const uint32_t ascii = below(4) == 0 ? 101 : below(101);
    size_t at = 0;
    while (at < len) {
        uint32_t c;
        if (below(101) < ascii)
            c = below(0x80);
        else if (below(2))
            c = bounds[below(sizeof bounds / sizeof *bounds)];
        else
            c = below(below(2) ? 0x800 : 0x110000);
        if (c >= 0xD800 && c < 0xE000)
            continue;
        at += encode(room + at, c);
    }
    if (len > 0) {
        static const uint8_t odd[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                      0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF};
        memcpy(text, room, len);
        const uint32_t kind = below(4);
        for (uint32_t k = 0; k < (kind == 0 ? 1u : kind == 1 ? 3u : 0u); k++)
            text[below((uint32_t)len)] = below(4) ? odd[below(sizeof odd)] : (uint8_t)random32();
    }
}

static int same(const void *a, const void *b, size_t size)
{
    return size == 0 || memcmp(a, b, size) == 0;
}

/* unmask: in place, and into another allocation of another alignment. */
static void check_unmask(const ws_kernels *set, size_t len, size_t align, unsigned phase)
{
    uint8_t bytes[MOST], want[MOST];
    uint8_t key[4];
    for (unsigned k = 0; k < 4; k++)
        key[k] = (uint8_t)random32();
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)random32();
        want[i] = (uint8_t)(bytes[i] ^ key[(phase + i) & 3]);
    }
    const size_t other = below(ALIGNS);
    const piece src = piece_of(bytes, len, align), dst = piece_of(NULL, len, other);
    set->unmask(dst.at, src.at, len, key, phase);
    if (!same(dst.at, want, len) || !same(src.at, bytes, len) || !untouched(dst, other))
        fail(set, "unmask apart", len, align, phase);
    set->unmask(src.at, src.at, len, key, phase);
    if (!same(src.at, want, len) || !untouched(src, align))
        fail(set, "unmask in place", len, align, phase);
    free(src.base);
    free(dst.base);
}

/* A text in two or three pieces through all functions, against the reference. */
static void check_text(const ws_kernels *set, const uint8_t *text, size_t len, size_t align, unsigned phase)
{
    const ws_kernels *const reference = &ws_kernels_scalar;
    uint8_t key[4];
    for (unsigned k = 0; k < 4; k++)
        key[k] = (uint8_t)random32();
    size_t cuts[4] = {0, below((uint32_t)len + 1), below((uint32_t)len + 1), len};
    if (cuts[1] > cuts[2] || below(2))
        cuts[1] = cuts[2] = below(2) ? 0 : cuts[2];
    ws_utf8 want = {0, 0}, plain = {0, 0}, apart = {0, 0}, inside = {0, 0};
    for (unsigned k = 0; k < 3; k++) {
        const uint8_t *const bytes = text + cuts[k];
        const size_t size = cuts[k + 1] - cuts[k], other = below(ALIGNS);
        uint8_t masked[MOST];
        const unsigned at = (phase + (unsigned)cuts[k]) & 3;
        for (size_t i = 0; i < size; i++)
            masked[i] = (uint8_t)(bytes[i] ^ key[(at + i) & 3]);
        const piece open = piece_of(bytes, size, align), src = piece_of(masked, size, align),
                    dst = piece_of(NULL, size, other);
        const size_t valid = reference->validate(&want, bytes, size);
        if (set->validate(&plain, open.at, size) != valid)
            fail(set, "validate: offset", size, align, phase);
        if (set->unmask_validate(&apart, dst.at, src.at, size, key, at) != valid)
            fail(set, "unmask_validate apart: offset", size, align, phase);
        if (!same(src.at, masked, size) || !untouched(dst, other))
            fail(set, "unmask_validate apart: wrote elsewhere", size, align, phase);
        if (set->unmask_validate(&inside, src.at, src.at, size, key, at) != valid)
            fail(set, "unmask_validate in place: offset", size, align, phase);
        if (!untouched(src, align))
            fail(set, "unmask_validate in place: wrote elsewhere", size, align, phase);
        if (valid == size) {
            if (!same(dst.at, bytes, size))
                fail(set, "unmask_validate apart: bytes", size, align, phase);
            if (!same(src.at, bytes, size))
                fail(set, "unmask_validate in place: bytes", size, align, phase);
            if (plain.dfa != want.dfa || apart.dfa != want.dfa || inside.dfa != want.dfa)
                fail(set, "dfa", size, align, phase);
            if (!plain.non_ascii != !want.non_ascii || !apart.non_ascii != !want.non_ascii ||
                !inside.non_ascii != !want.non_ascii)
                fail(set, "non_ascii", size, align, phase);
        }
        free(open.base);
        free(src.base);
        free(dst.base);
        if (valid != size)
            return;
    }
}

/* The bytes of every short sequence that matters, ended by others, at each place in a vector. */
static void check_sequences(const ws_kernels *set)
{
    static const uint8_t leads[] = {0x41, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                    0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFC, 0xFF};
    static const uint8_t nexts[] = {0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xE1, 0xF0};
    uint8_t text[MOST];
    for (size_t a = 0; a < sizeof leads; a++)
        for (size_t b = 0; b < sizeof nexts; b++)
            for (size_t c = 0; c < 3; c++)
                for (size_t d = 0; d < 3; d++) {
                    const uint8_t sequence[] = {leads[a], nexts[b], nexts[c], nexts[d]};
                    const size_t len = 4 + below(140), at = below((uint32_t)len - 3);
                    memset(text, 'x', len);
                    memcpy(text + at, sequence, 4);
                    check_text(set, text, len, below(ALIGNS), below(4));
                    memcpy(text + len - 4, sequence, 4);
                    check_text(set, text, len - below(4), below(ALIGNS), below(4));
                }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 10);
#ifdef EMULATED
    static const ws_kernels *const emulated[] = {&ws_kernels_avx512, &ws_kernels_neon, NULL};
    const ws_kernels *const *sets = emulated;
#else
    const ws_kernels *const *sets = ws_kernels_supported();
#endif
    for (; *sets != NULL; sets++) {
        for (size_t len = 0; len <= MOST; len++) {
            uint8_t text[MOST];
            for (size_t align = 0; align < ALIGNS; align++) {
                check_unmask(*sets, len, align, (unsigned)((len + align) & 3));
                random_text(text, len);
                check_text(*sets, text, len, align, below(4));
            }
            for (unsigned phase = 0; phase < 4; phase++)
                check_unmask(*sets, len, len % ALIGNS, phase);
        }
        for (unsigned round = 0; round < 10; round++)
            check_sequences(*sets);
        printf("%s agrees\n", (*sets)->name);
    }
    return 0;
}
