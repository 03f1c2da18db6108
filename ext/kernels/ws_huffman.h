/* Huffman codes as DEFLATE has them, RFC 1951 3.2.2: from how often each symbol is used to its code.
 *
 * Most messages use few symbols; but for one pass over the counters, only those cost anything.
 */
#ifndef WS_HUFFMAN_H
#define WS_HUFFMAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    LONGEST_CODE = 15,
    MOST_SYMBOLS = 288,
    MOST_LENGTHS = MOST_SYMBOLS + 32, /* of two codes, one behind the other */
    LONGEST_RUN = 6,                  /* of one code length, RFC 1951 3.2.7 */
    NOT_THERE = 1 << 30               /* a weight larger than any */
};

/* The symbols of one code that are in use. */
typedef struct {
    unsigned used;
    uint16_t symbols[MOST_LENGTHS + LONGEST_RUN]; /* ascending */
    uint8_t bits[MOST_LENGTHS + LONGEST_RUN];     /* of the code of symbols[i] */
} alphabet;

/* Sort the symbols by use: order[] has indices into symbols[], weights[] the uses. Most are used
 * seldom, so that one counting pass puts nearly all in place. */
static void sort_by_use(const alphabet *code, const uint16_t *uses, uint16_t *order, uint32_t *weights)
{
    enum { MANY = 64 };
    uint16_t start[MANY + 1] = {0};
    for (unsigned i = 0; i < code->used; i++) {
        const unsigned use = uses[code->symbols[i]];
        start[use < MANY ? use : MANY]++;
    }
    unsigned sum = 0;
    for (unsigned i = 0; i <= MANY; i++) {
        const unsigned here = start[i];
        start[i] = (uint16_t)sum;
        sum += here;
    }
    const unsigned rest = start[MANY];
    for (unsigned i = 0; i < code->used; i++) {
        const unsigned use = uses[code->symbols[i]];
        const unsigned place = start[use < MANY ? use : MANY]++;
        order[place] = (uint16_t)i;
        weights[place] = use;
    }
    for (unsigned i = rest + 1; i < code->used; i++) {
        const uint32_t weight = weights[i];
        const uint16_t index = order[i];
        unsigned to = i;
        for (; to > rest && weights[to - 1] > weight; to--) {
            weights[to] = weights[to - 1];
            order[to] = order[to - 1];
        }
        weights[to] = weight;
        order[to] = index;
    }
}

/* leaves[d] = how many codes have d bits, for the weights in ascending order. Only inner nodes are
 * made. They come by ascending weight, so that those of one depth lie side by side in the array, and
 * those one deeper right before them: their number gives that of the leaves beside them. */
static void count_lengths(uint32_t *weights, unsigned used, unsigned limit, unsigned *leaves)
{
    uint32_t inner[MOST_SYMBOLS + 1];
    uint16_t first_child[MOST_SYMBOLS]; /* the first inner node that is no child of one before */
    const unsigned nodes = used - 1;
    for (unsigned i = 0; i <= used; i++)
        inner[i] = NOT_THERE;
    weights[used] = weights[used + 1] = NOT_THERE;
    /* Of the first two of each queue the two lightest become siblings. Which they are is computed,
     * not branched upon: it cannot be predicted. */
    size_t leaf = 0, node = 0;
    for (unsigned next = 0; next < nodes; next++) {
        const uint32_t leaf0 = weights[leaf], leaf1 = weights[leaf + 1];
        const uint32_t node0 = inner[node], node1 = inner[node + 1];
        const size_t two_leaves = leaf1 <= node0, two_nodes = node1 < leaf0;
        uint32_t sum = leaf0 + node0;
        sum = two_leaves ? leaf0 + leaf1 : sum;
        sum = two_nodes ? node0 + node1 : sum;
        first_child[next] = (uint16_t)node;
        inner[next] = sum;
        leaf += 1 + two_leaves - two_nodes;
        node += 1 + two_nodes - two_leaves;
    }
    memset(leaves, 0, (LONGEST_CODE + 1) * sizeof *leaves);
    unsigned lowest = nodes - 1, here = 1, rest = used;
    for (unsigned depth = 1; depth < limit; depth++) {
        const unsigned deeper = lowest - first_child[lowest];
        leaves[depth] = 2 * here - deeper;
        rest -= leaves[depth];
        lowest -= deeper;
        here = deeper;
    }
    /* Codes that would be longer get the limit, and are by `over` too many. */
    leaves[limit] = rest;
    for (unsigned over = rest - 2 * here; over > 0; over--) {
        /* A shorter code is lengthened by a bit, and one of the longest becomes its sibling. */
        unsigned depth = limit - 1;
        while (leaves[depth] == 0)
            depth--;
        leaves[depth]--;
        leaves[depth + 1] += 2;
        leaves[limit]--;
    }
}

/* Huffman codes are sent from their first bit on, everything else from its lowest. */
static inline uint16_t reversed(uint16_t code)
{
    uint32_t bits = code;
    bits = (bits & 0x5555) << 1 | (bits >> 1 & 0x5555);
    bits = (bits & 0x3333) << 2 | (bits >> 2 & 0x3333);
    bits = (bits & 0x0F0F) << 4 | (bits >> 4 & 0x0F0F);
    return (uint16_t)(bits << 8 | bits >> 8);
}

/* The codes for the lengths in bits[], RFC 1951 3.2.2, of which leaves[] says how many there are of
 * each. They stand at the upper end of their sixteen bits, so that reversed they are at the lower. */
static void assign_codes(const uint8_t *bits, unsigned used, const unsigned *leaves, uint16_t *codes)
{
    uint16_t next[LONGEST_CODE + 1];
    unsigned code = 0;
    for (unsigned length = 1; length <= LONGEST_CODE; length++) {
        next[length] = (uint16_t)code;
        code += leaves[length] << (16 - length);
    }
    for (unsigned i = 0; i < used; i++) {
        codes[i] = next[bits[i]];
        next[bits[i]] = (uint16_t)(codes[i] + (0x10000u >> bits[i]));
    }
    for (unsigned i = 0; i < used; i++)
        codes[i] = reversed(codes[i]);
}

/* As ws_deflate_codes has it. */
static inline uint32_t ws_huffman_entry(uint32_t code, uint32_t bits, uint32_t extra)
{
    return code | bits << 16 | (bits + extra) << 24;
}

/* Give the symbols 0..count their codes, of `limit` bits at most. At least two symbols get one, so
 * that every code is complete: some inflaters know no others.
 * Returns the bits of all uses, extra bits included, of which extra[symbol] is the number. */
static uint32_t make_code(alphabet *code, uint16_t *uses, unsigned count, unsigned limit,
                          const uint8_t *extra, uint32_t *entries)
{
    uint16_t order[MOST_SYMBOLS];
    uint32_t weights[MOST_SYMBOLS + 2];
    uint16_t codes[MOST_SYMBOLS];
    unsigned leaves[LONGEST_CODE + 1];
    unsigned used = 0, missing = 0;
    for (unsigned symbol = 0; symbol < count; symbol++) {
        code->symbols[used] = (uint16_t)symbol;
        used += uses[symbol] != 0;
    }
    if (used < 2) {
        /* What is added is not sent, and each of the two codes has one bit. */
        const unsigned only = used == 1 ? code->symbols[0] : 0, other = only == 0;
        missing = 2 - used;
        if (used == 0)
            uses[only] = 1;
        uses[other] = 1;
        code->symbols[0] = (uint16_t)(only < other ? only : other);
        code->symbols[1] = (uint16_t)(only < other ? other : only);
        used = 2;
    }
    code->used = used;
    sort_by_use(code, uses, order, weights);
    count_lengths(weights, used, limit, leaves);
    unsigned sorted = 0;
    for (unsigned bits = limit; bits > 0; bits--)
        for (unsigned i = 0; i < leaves[bits]; i++)
            code->bits[order[sorted++]] = (uint8_t)bits;
    assign_codes(code->bits, used, leaves, codes);
    uint32_t cost = 0;
    for (unsigned i = 0; i < used; i++) {
        const unsigned symbol = code->symbols[i], bits = code->bits[i];
        entries[symbol] = ws_huffman_entry(codes[i], bits, extra[symbol]);
        cost += uses[symbol] * (bits + extra[symbol]);
    }
    return cost - missing;
}

#endif
