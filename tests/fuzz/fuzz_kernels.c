/* Every set of kernels that this CPU runs against the scalar one.
 *
 * The invariant: whatever the bytes and wherever they are cut, a set accepts as many of them, writes
 * the same bytes and leaves the same state as the reference, in place or not, and touches nothing
 * outside the piece, which stands in an exactly sized allocation.
 *
 * Input: key (4 bytes), phase (1), then pieces: a byte that gives the piece's length (from 128 on,
 * that many less 128 times 8), and its bytes.
 *
 * Built with the sources of ext/kernels, -Iext/kernels and -fsanitize=address,undefined; with
 * clang's -fsanitize=fuzzer besides, or with -DREPLAY, which gives a main() that runs the files named.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ws_sets.h"

static void fail(const ws_kernels *set, const char *what, size_t offset, size_t size)
{
    fprintf(stderr, "%s: %s differs from scalar, piece of %zu bytes at %zu\n", set->name, what, size, offset);
    abort();
}

static uint8_t *exactly(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size);
    if (copy == NULL && size > 0)
        abort();
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

static int same(const uint8_t *a, const uint8_t *b, size_t size)
{
    return size == 0 || memcmp(a, b, size) == 0;
}

static int same_state(ws_utf8 a, ws_utf8 b)
{
    return a.dfa == b.dfa && !a.non_ascii == !b.non_ascii;
}

/* The states of one set: as the text comes (the masked bytes read as they are), and unmasked. */
typedef struct {
    ws_utf8 plain, apart, inside;
    int plain_over, masked_over;
} course;

static void piece(const ws_kernels *set, course *now, course *want, const uint8_t *bytes, size_t size, size_t offset,
                  const uint8_t key[4], unsigned phase)
{
    const ws_kernels *const reference = &ws_kernels_scalar;
    uint8_t *const src = exactly(bytes, size), *const dst = exactly(bytes, size), *const expected = exactly(bytes, size);

    reference->unmask(expected, bytes, size, key, phase);
    set->unmask(dst, src, size, key, phase);
    if (!same(dst, expected, size))
        fail(set, "unmask apart", offset, size);
    set->unmask(dst, dst, size, key, phase);
    if (!same(dst, src, size))
        fail(set, "unmask in place", offset, size);

    if (!want->plain_over) {
        const size_t valid = reference->validate(&want->plain, src, size);
        if (set->validate(&now->plain, src, size) != valid)
            fail(set, "validate", offset, size);
        want->plain_over = valid != size;
        if (!want->plain_over && !same_state(now->plain, want->plain))
            fail(set, "state after validate", offset, size);
    }
    if (!want->masked_over) {
        const size_t valid = reference->validate(&want->apart, expected, size);
        if (set->unmask_validate(&now->apart, dst, src, size, key, phase) != valid)
            fail(set, "unmask_validate apart", offset, size);
        if (!same(src, bytes, size))
            fail(set, "source of unmask_validate", offset, size);
        if (set->unmask_validate(&now->inside, src, src, size, key, phase) != valid)
            fail(set, "unmask_validate in place", offset, size);
        want->masked_over = valid != size;
        if (!want->masked_over &&
            (!same(dst, expected, size) || !same(src, expected, size) || !same_state(now->apart, want->apart) ||
             !same_state(now->inside, want->apart)))
            fail(set, "result of unmask_validate", offset, size);
    }
    free(src);
    free(dst);
    free(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5)
        return 0;
    const uint8_t *const key = data;
    for (const ws_kernels *const *set = ws_kernels_supported(); *set != NULL; set++) {
        course now, want;
        memset(&now, 0, sizeof now);
        memset(&want, 0, sizeof want);
        size_t at = 5, offset = 0;
        while (at < size) {
            size_t length = data[at] < 128 ? data[at] : 8 * (size_t)(data[at] - 128);
            at++;
            if (length > size - at)
                length = size - at;
            piece(*set, &now, &want, data + at, length, offset, key, (unsigned)((data[4] + offset) & 3));
            at += length;
            offset += length;
        }
    }
    return 0;
}

#ifdef REPLAY
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *const file = fopen(argv[i], "rb");
        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        static uint8_t room[1024 * 1024];
        const size_t size = fread(room, 1, sizeof room, file);
        fclose(file);
        uint8_t *const input = exactly(room, size);
        LLVMFuzzerTestOneInput(input, size);
        free(input);
    }
    printf("%d inputs replayed\n", argc - 1);
    return 0;
}
#endif
