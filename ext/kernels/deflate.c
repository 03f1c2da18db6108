/* DEFLATE for short messages: matches by a hash of four bytes, two candidates for each, and one step
 * of lazy evaluation; then each block stored, fixed or dynamic, whichever has fewest bits. */
#include <string.h>

#include "ws_bits.h"
#include "ws_deflate.h"
#include "ws_huffman.h"

enum {
    END_OF_BLOCK = 256,
    FIRST_LENGTH = 257, /* of the symbols for lengths, RFC 1951 3.2.5 */
    LITERALS = 286,
    DISTANCES = 30,
    CODE_LENGTHS = 19,
    LONGEST_LENGTH_CODE = 7, /* of the code for code lengths: its own are sent in 3 bits */
    SHORTEST_MATCH = 4,      /* DEFLATE's is 3, which seldom saves a bit */
    LONGEST_MATCH = 258,
    LONG_ENOUGH = 20, /* a match for which no better one is looked for */
    MOST_SKIPPED = 8,
    STORED_MAX = 65535
};

/* A token is a literal, below 256, or a match:
 * symbol (9 bits) | extra bits of the length (5) << 9 | distance symbol (5) << 14 |
 * extra bits of the distance (13) << 19. */
enum { TOKEN_LENGTH_EXTRA = 9, TOKEN_DISTANCE = 14, TOKEN_DISTANCE_EXTRA = 19 };

static inline unsigned log2_floor(uint32_t value)
{
    return 31 - (unsigned)__builtin_clz(value);
}

/* By symbol: extra bits, RFC 1951 3.2.5 and 3.2.7. */
static const uint8_t literal_extra[288] = {
    [265] = 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
static const uint8_t distance_extra[32] = {0, 0, 0, 0, 1, 1, 2,  2,  3,  3,  4,  4,  5,  5,  6, 6,
                                           7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 0, 0};
static const uint8_t code_length_extra[CODE_LENGTHS] = {[16] = 2, 3, 7};
static const uint8_t code_length_order[CODE_LENGTHS] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                        11, 4,  12, 3, 13, 2, 14, 1, 15};

/* ---- the header of a dynamic block, RFC 1951 3.2.7 */

typedef struct {
    ws_deflate_codes codes;
    unsigned literals, distances; /* HLIT + 257, HDIST + 1 */
    unsigned item_lengths;        /* HCLEN + 4 */
    /* The code lengths as they are sent. */
    unsigned items;
    uint16_t item[LITERALS + DISTANCES]; /* symbol | extra bits << 5 */
    uint16_t item_uses[CODE_LENGTHS];
    uint32_t item_codes[CODE_LENGTHS];
    uint8_t item_bits[CODE_LENGTHS];
} dynamic;

static inline void add_item(dynamic *block, unsigned symbol, unsigned extra)
{
    block->item[block->items++] = (uint16_t)(symbol | extra << 5);
    block->item_uses[symbol]++;
}

static void add_zeros(dynamic *block, unsigned count)
{
    for (; count >= 11; count -= count < 138 ? count : 138)
        add_item(block, 18, (count < 138 ? count : 138) - 11);
    if (count >= 3)
        add_item(block, 17, count - 3);
    else
        for (; count > 0; count--)
            add_item(block, 0, 0);
}

/* Returns the bits of the whole block. */
static uint32_t plan_dynamic(dynamic *block, ws_deflate_state *state)
{
    alphabet literal, distance, item;
    uint32_t cost = 3 + 14;
    cost += make_code(&literal, state->literal_uses, LITERALS, LONGEST_CODE, literal_extra,
                      block->codes.literal);
    cost += make_code(&distance, state->distance_uses, DISTANCES, LONGEST_CODE, distance_extra,
                      block->codes.distance);
    block->literals = literal.symbols[literal.used - 1] + 1u;
    block->distances = distance.symbols[distance.used - 1] + 1u;

    /* The lengths of both codes are one sequence; a run may cross from the one to the other. */
    for (unsigned i = 0; i < distance.used; i++) {
        literal.symbols[literal.used] = (uint16_t)(distance.symbols[i] + block->literals);
        literal.bits[literal.used++] = distance.bits[i];
    }
    for (unsigned i = 0; i < LONGEST_RUN; i++)
        literal.symbols[literal.used + i] = UINT16_MAX;
    block->items = 0;
    memset(block->item_uses, 0, sizeof block->item_uses);
    unsigned next = 0;
    for (unsigned i = 0; i < literal.used;) {
        const unsigned first = literal.symbols[i], bits = literal.bits[i];
        if (first != next)
            add_zeros(block, first - next);
        add_item(block, bits, 0);
        next = first + 1;
        i++;
        /* Looked for all at once: runs are rare, and their lengths hard to predict. */
        while (literal.symbols[i + 2] == next + 2 && load32(literal.bits + i - 1) == bits * 0x01010101u) {
            unsigned run = 3;
            while (run < LONGEST_RUN && literal.symbols[i + run] == next + run && literal.bits[i + run] == bits)
                run++;
            add_item(block, 16, run - 3);
            next += run;
            i += run;
        }
    }
    cost += make_code(&item, block->item_uses, CODE_LENGTHS, LONGEST_LENGTH_CODE, code_length_extra,
                      block->item_codes);
    memset(block->item_bits, 0, sizeof block->item_bits);
    for (unsigned i = 0; i < item.used; i++)
        block->item_bits[item.symbols[i]] = item.bits[i];
    block->item_lengths = CODE_LENGTHS;
    while (block->item_bits[code_length_order[block->item_lengths - 1]] == 0)
        block->item_lengths--;
    return cost + 3 * block->item_lengths;
}

static void put_dynamic_header(writer *out, const dynamic *block)
{
    put(out, 2 << 1, 3);
    put(out, (block->literals - 257) | (block->distances - 1) << 5 | (block->item_lengths - 4) << 10, 14);
    uint64_t lengths = 0;
    for (unsigned i = block->item_lengths; i-- > 0;)
        lengths = lengths << 3 | block->item_bits[code_length_order[i]];
    if (block->item_lengths > 16) {
        put(out, lengths & 0xFFFFFFFF, 32);
        put(out, lengths >> 32, 3 * block->item_lengths - 32);
    } else {
        put(out, lengths, 3 * block->item_lengths);
    }
    for (unsigned i = 0; i < block->items; i++) {
        const unsigned symbol = block->item[i] & 31, extra = block->item[i] >> 5;
        const uint32_t entry = block->item_codes[symbol];
        put(out, (entry & 0xFFFF) | extra << (entry >> 16 & 0xFF), entry >> 24);
    }
}

static inline void put_all(writer *out, const uint32_t *tokens, unsigned count, const ws_deflate_codes *codes,
                           int roomy)
{
    writer local = *out; /* in registers: stored bytes could change *out */
    for (unsigned i = 0; i < count; i++) {
        const uint32_t token = tokens[i];
        const uint32_t symbol = codes->literal[token & 511];
        if (token < 256) {
            put_bits(&local, symbol & 0xFFFF, symbol >> 24, roomy);
            continue;
        }
        const uint32_t distance = codes->distance[token >> TOKEN_DISTANCE & 31];
        const uint32_t low = (symbol & 0xFFFF) | (token >> TOKEN_LENGTH_EXTRA & 31) << (symbol >> 16 & 31);
        const uint64_t high = (distance & 0xFFFF) | (token >> TOKEN_DISTANCE_EXTRA) << (distance >> 16 & 31);
        /* 20 + 28 bits at most, and 7 that are held. */
        put_bits(&local, low | high << (symbol >> 24), (symbol >> 24) + (distance >> 24), roomy);
    }
    const uint32_t end = codes->literal[END_OF_BLOCK];
    put(&local, end & 0xFFFF, end >> 24);
    *out = local;
}

/* cost: no less than the bits of these tokens. */
static void put_tokens(writer *out, const uint32_t *tokens, unsigned count, const ws_deflate_codes *codes,
                       uint32_t cost)
{
    if (out->end - out->at >= cost / 8 + 16)
        put_all(out, tokens, count, codes, 1);
    else
        put_all(out, tokens, count, codes, 0);
}

/* ---- matches */

typedef struct {
    uint32_t length, distance;
} match;

typedef struct {
    ws_deflate_state *state;
    const uint8_t *src;
    uint32_t base, size, window;
    unsigned shift; /* of a hash: short messages use less of the table, and fewer cache lines */
} search;

static inline uint64_t *bucket(const search *in, uint32_t four)
{
    return &in->state->seen[four * 0x9E3779B1u >> in->shift];
}

static inline void enter(const search *in, uint32_t at)
{
    uint64_t *const seen = bucket(in, load32(in->src + at));
    *seen = *seen << 32 | (in->base + at);
}

/* How many bytes at b are those at a, of which `length`, 8 at least, are known to be. */
static inline uint32_t common(const search *in, uint32_t a, uint32_t b, uint32_t length)
{
    const uint32_t left = in->size - b, most = left < LONGEST_MATCH ? left : LONGEST_MATCH;
    while (length + 8 <= most) {
        const uint64_t differ = load64(in->src + a + length) ^ load64(in->src + b + length);
        if (differ != 0)
            return length + (unsigned)__builtin_ctzll(differ) / 8;
        length += 8;
    }
    if (length < most) {
        /* The last word overlaps what is known. */
        const uint32_t known = length + 8 - most;
        uint64_t differ = load64(in->src + a + length - known) ^ load64(in->src + b + length - known);
        differ >>= 8 * known;
        return differ != 0 ? length + (unsigned)__builtin_ctzll(differ) / 8 : most;
    }
    return length;
}

/* The bits in which the eight bytes at `at` differ from those `distance` before; in the first one when
 * that is more than `most`. */
static inline uint64_t difference(const search *in, uint32_t at, uint32_t distance, uint32_t most,
                                  uint64_t word)
{
    const uint32_t is_near = distance <= most;
    return (load64(in->src + at - (distance & -is_near)) ^ word) | !is_near;
}

static inline uint32_t match_length(const search *in, uint32_t at, uint32_t distance, uint64_t differ)
{
    return differ != 0 ? (unsigned)__builtin_ctzll(differ) / 8 : common(in, at - distance, at, 8);
}

/* The longest match at `at`, of the two candidates, and enter `at` as the next one. */
static inline match find(const search *in, uint32_t at)
{
    const uint64_t word = load64(in->src + at);
    uint64_t *const seen = bucket(in, load32(in->src + at));
    const uint32_t position = in->base + at, most = at < in->window ? at : in->window;
    /* What an earlier message left there is further back than this one began. */
    const uint32_t near = position - (uint32_t)*seen, far = position - (uint32_t)(*seen >> 32);
    *seen = *seen << 32 | position;
    match best = {0, 0};
    if (near > most)
        return best; /* and the other is further back */
    const uint64_t near_differ = load64(in->src + at - near) ^ word;
    const uint64_t far_differ = difference(in, at, far, most, word);
    if (((uint32_t)near_differ != 0) & ((uint32_t)far_differ != 0))
        return best; /* neither has four bytes */
    const uint32_t near_length = match_length(in, at, near, near_differ);
    const uint32_t far_length = match_length(in, at, far, far_differ);
    best.length = far_length > near_length ? far_length : near_length;
    best.distance = far_length > near_length ? far : near;
    return best;
}

static inline void add_literal(ws_deflate_state *state, uint32_t *count, uint8_t byte)
{
    state->tokens[(*count)++] = byte;
    state->literal_uses[byte]++;
}

static inline void add_match(ws_deflate_state *state, uint32_t *count, match found)
{
    const uint32_t length = state->length_token[found.length - 3], back = found.distance - 1;
    uint32_t symbol = back, extra = 0;
    if (back >= 2) {
        const unsigned log = log2_floor(back);
        symbol = 2 * log + (back >> (log - 1) & 1);
        extra = back & ((1u << (log - 1)) - 1);
    }
    state->tokens[(*count)++] = length | symbol << TOKEN_DISTANCE | extra << TOKEN_DISTANCE_EXTRA;
    state->literal_uses[length & 511]++;
    state->distance_uses[symbol]++;
}

/* Cut src from *from on into tokens, as many as a block has or there are. Returns how many; *from is
 * where they end. */
static uint32_t parse(const search *in, uint32_t *from)
{
    ws_deflate_state *const state = in->state;
    const uint8_t *const src = in->src;
    const uint32_t last = in->size < 8 ? 0 : in->size - 7; /* no word of eight begins there */
    const uint32_t limit = WS_DEFLATE_TOKENS - MOST_SKIPPED;
    uint32_t count = 0, at = *from, since = at;
    while (at < last && count < limit) {
        match found = find(in, at);
        if (found.length < SHORTEST_MATCH) {
            /* The longer there is none, the less likely is the next. */
            uint32_t step = 1 + ((at - since) >> 6);
            if (step > MOST_SKIPPED)
                step = MOST_SKIPPED;
            if (step > in->size - at)
                step = in->size - at;
            for (; step > 0; step--)
                add_literal(state, &count, src[at++]);
            continue;
        }
        uint32_t entered = at + 1;
        /* A literal and the match after it, when that is longer. */
        while (found.length < LONG_ENOUGH && at + 1 < last && count < limit) {
            const match next = find(in, at + 1);
            entered = at + 2;
            if (next.length <= found.length)
                break;
            add_literal(state, &count, src[at++]);
            found = next;
        }
        add_match(state, &count, found);
        at += found.length;
        const uint32_t stop = at < last ? at : last;
        /* Of the positions inside, the first and the last: all of them would be 15 % slower and
         * 1 % smaller (1 KiB of JSON). */
        if (entered < stop) {
            enter(in, entered);
            enter(in, stop - 1);
        }
        since = at;
    }
    if (at >= last)
        while (at < in->size && count < WS_DEFLATE_TOKENS)
            add_literal(state, &count, src[at++]);
    *from = at;
    return count;
}

/* ---- blocks */

static uint32_t fixed_cost(const ws_deflate_state *state)
{
    uint32_t cost = 3;
    for (unsigned i = 0; i < LITERALS; i++)
        cost += state->literal_uses[i] * (state->fixed.literal[i] >> 24);
    for (unsigned i = 0; i < DISTANCES; i++)
        cost += state->distance_uses[i] * (state->fixed.distance[i] >> 24);
    return cost;
}

static void put_stored(writer *out, const uint8_t *src, uint32_t size)
{
    put(out, 0, 3);
    put_padding(out);
    put(out, size | (size ^ STORED_MAX) << 16, 32);
    memcpy(out->at, src, size);
    out->at += size;
}

void ws_deflate_init(ws_deflate_state *state)
{
    memset(state, 0, sizeof *state);
    state->base = 1;
    for (unsigned i = 0; i < 255; i++) {
        unsigned symbol = i, extra = 0;
        if (i >= 8) {
            const unsigned log = log2_floor(i);
            symbol = 4 * (log - 1) + (i >> (log - 2) & 3);
            extra = i & ((1u << (log - 2)) - 1);
        }
        state->length_token[i] = (uint16_t)((FIRST_LENGTH + symbol) | extra << TOKEN_LENGTH_EXTRA);
    }
    state->length_token[255] = FIRST_LENGTH + 28; /* 258 has a symbol of its own */

    /* RFC 1951 3.2.6 */
    const unsigned leaves[LONGEST_CODE + 1] = {[7] = 24, [8] = 152, [9] = 112};
    uint8_t bits[MOST_SYMBOLS];
    uint16_t codes[MOST_SYMBOLS];
    for (unsigned i = 0; i < MOST_SYMBOLS; i++)
        bits[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    assign_codes(bits, MOST_SYMBOLS, leaves, codes);
    for (unsigned i = 0; i < MOST_SYMBOLS; i++)
        state->fixed.literal[i] = ws_huffman_entry(codes[i], bits[i], literal_extra[i]);
    for (unsigned i = 0; i < DISTANCES; i++)
        state->fixed.distance[i] = ws_huffman_entry(reversed((uint16_t)(i << 11)), 5, distance_extra[i]);
}

size_t ws_deflate(ws_deflate_state *state, const uint8_t *src, size_t size, uint8_t *dst, size_t room,
                  unsigned window_bits)
{
    if (size > UINT32_MAX - state->base) {
        memset(state->seen, 0, sizeof state->seen);
        state->base = 1;
    }
    unsigned hash_bits = 9;
    while (hash_bits < WS_DEFLATE_HASH_BITS && size >> hash_bits > 0)
        hash_bits++;
    const search in = {state, src, state->base, (uint32_t)size, 1u << window_bits, 32 - hash_bits};
    state->base += in.size;
    writer out = {dst, dst + room, 0, 0};
    uint32_t at = 0;
    while (at < in.size) {
        memset(state->literal_uses, 0, sizeof state->literal_uses);
        memset(state->distance_uses, 0, sizeof state->distance_uses);
        const uint32_t from = at, count = parse(&in, &at);
        state->literal_uses[END_OF_BLOCK] = 1;

        const uint64_t before = 8 * (uint64_t)(out.at - dst) + out.held;
        const uint32_t length = at - from, fixed = fixed_cost(state);
        dynamic block;
        const uint32_t with_codes = plan_dynamic(&block, state);
        const uint32_t padding = (uint32_t)(-(before + 3) & 7);
        const uint32_t stored = length > STORED_MAX ? UINT32_MAX : 3 + padding + 32 + 8 * length;
        uint32_t least = with_codes < fixed ? with_codes : fixed;
        if (stored < least)
            least = stored;
        /* With the header of the empty block at the end. */
        if (before + least + 3 > 8 * (uint64_t)room)
            return 0;
        if (stored == least) {
            put_stored(&out, src + from, length);
        } else if (fixed == least) {
            put(&out, 1 << 1, 3);
            put_tokens(&out, state->tokens, count, &state->fixed, least);
        } else {
            put_dynamic_header(&out, &block);
            put_tokens(&out, state->tokens, count, &block.codes, least);
        }
    }
    if ((size_t)(out.end - out.at) * 8 < out.held + 3)
        return 0;
    put(&out, 0, 3);
    put_padding(&out);
    return (size_t)(out.at - dst);
}
