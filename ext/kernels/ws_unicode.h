/* UTF-8 (RFC 3629) to and from arrays of code points of 1, 2 or 4 bytes each.
 *
 * Plain C: no Python.h, no allocation, no global state. Nothing here validates UTF-8; that
 * is the kernels' part (ws_kernels.h). With SSE2 the cost per code point hardly depends on
 * how the lengths are mixed: no branch is taken on the length of a single code point, but
 * for the last few that are encoded.
 */
#ifndef WS_UNICODE_H
#define WS_UNICODE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define WS_UNICODE_INLINE static inline __attribute__((always_inline, unused))
#define WS_UNICODE_API static inline __attribute__((unused))

/* ---- UTF-8 to code points ---- */

/* Measure the valid UTF-8 text src[0..len).
 * Returns its number of code points; *max_class becomes the least of 0x7F, 0xFF, 0xFFFF and
 * 0x10FFFF that no code point exceeds (0x7F for the empty text).
 * No byte outside [src, src + len) is read. Never fails. */
WS_UNICODE_API size_t ws_utf8_measure(const uint8_t *src, size_t len, uint32_t *max_class)
{
    size_t count = 0, i = 0;
    unsigned top = 0; /* the greatest byte is a lead, unless all is ASCII */
#ifdef __SSE2__
    const __m128i zero = _mm_setzero_si128(), last_continuation = _mm_set1_epi8(-65);
    __m128i most = zero, sum = zero;
    while (len - i >= 32) {
        size_t rounds = (len - i) / 32;
        if (rounds > 127) /* each adds at most 2 to a byte of starts */
            rounds = 127;
        __m128i starts = zero;
        for (; rounds; rounds--, i += 32) {
            const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
            const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(src + i + 16));
            most = _mm_max_epu8(most, _mm_max_epu8(a, b));
            starts = _mm_sub_epi8(starts, _mm_add_epi8(_mm_cmpgt_epi8(a, last_continuation),
                                                       _mm_cmpgt_epi8(b, last_continuation)));
        }
        sum = _mm_add_epi64(sum, _mm_sad_epu8(starts, zero));
    }
    uint64_t sums[2];
    uint8_t mosts[16];
    _mm_storeu_si128((__m128i *)(void *)sums, sum);
    _mm_storeu_si128((__m128i *)(void *)mosts, most);
    count = (size_t)(sums[0] + sums[1]);
    for (int k = 0; k < 16; k++)
        top = mosts[k] > top ? mosts[k] : top;
#endif
    for (; i < len; i++) {
        count += (src[i] & 0xC0) != 0x80;
        top = src[i] > top ? src[i] : top;
    }
    *max_class = top < 0x80 ? 0x7F : top < 0xC4 ? 0xFF : top < 0xF0 ? 0xFFFF : 0x10FFFF;
    return count;
}

#ifdef __SSE2__

/* Compute a code point for each of the bytes p[0..16), as if it were the last of one, into
 * out: 16 elements of width (1, 2 or 4) bytes. Those of bytes that are not the last of one,
 * and of code points that the width cannot hold, are unspecified.
 * Reads p[-3..16).
 *
 * Seen from its last byte a code point needs no shift that depends on its length: the byte k
 * before it is worth k * 6 bits more, and counts while all bytes behind it are continuations. */
WS_UNICODE_INLINE void ws_utf8_decode16(const uint8_t *p, unsigned width, uint8_t *out)
{
    __m128i *to = (__m128i *)(void *)out;
    const __m128i lead = _mm_set1_epi8(-64); /* less, as a signed byte: a continuation */
    const __m128i low6 = _mm_set1_epi8(0x3F), zero = _mm_setzero_si128();
    const __m128i b0 = _mm_loadu_si128((const __m128i *)(const void *)p);
    const __m128i b1 = _mm_loadu_si128((const __m128i *)(const void *)(p - 1));
    const __m128i c0 = _mm_cmplt_epi8(b0, lead);
    const __m128i v1 = _mm_and_si128(_mm_and_si128(b1, low6), c0); /* 110xxxxx has 0 in bit 5 */
    /* ASCII as it is; 10xxxxxx loses its bit 7 */
    const __m128i v0 = _mm_and_si128(b0, _mm_set1_epi8(0x7F));
    /* Bytes have no shifts of their own: what a 16-bit shift carries over is masked off. */
    const __m128i low = _mm_or_si128(v0, _mm_and_si128(_mm_slli_epi16(v1, 6), _mm_set1_epi8(-64)));
    if (width == 1) {
        _mm_storeu_si128(to, low);
        return;
    }
    const __m128i b2 = _mm_loadu_si128((const __m128i *)(const void *)(p - 2));
    const __m128i c1 = _mm_and_si128(c0, _mm_cmplt_epi8(b1, lead));
    const __m128i v2 = _mm_and_si128(b2, c1);
    const __m128i middle = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(v1, 2), _mm_set1_epi8(0x0F)),
                                        _mm_and_si128(_mm_slli_epi16(v2, 4), _mm_set1_epi8(-16)));
    const __m128i low0 = _mm_unpacklo_epi8(low, middle), low1 = _mm_unpackhi_epi8(low, middle);
    if (width == 2) {
        _mm_storeu_si128(to, low0);
        _mm_storeu_si128(to + 1, low1);
        return;
    }
    const __m128i b3 = _mm_loadu_si128((const __m128i *)(const void *)(p - 3));
    /* Bits 16-20 exist only where b2 is a continuation. */
    const __m128i c2 = _mm_and_si128(c1, _mm_cmplt_epi8(b2, lead));
    const __m128i high = _mm_and_si128(
        _mm_or_si128(_mm_and_si128(_mm_srli_epi16(b2, 4), _mm_set1_epi8(0x03)),
                     _mm_and_si128(_mm_slli_epi16(b3, 2), _mm_set1_epi8(0x1C))),
        c2);
    const __m128i high0 = _mm_unpacklo_epi8(high, zero), high1 = _mm_unpackhi_epi8(high, zero);
    _mm_storeu_si128(to, _mm_unpacklo_epi16(low0, high0));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low0, high0));
    _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(low1, high1));
    _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(low1, high1));
}

/* Widen the ASCII bytes p[0..16) into dst: 16 elements of width bytes. */
WS_UNICODE_INLINE void ws_ascii_widen16(const uint8_t *p, unsigned width, uint8_t *dst)
{
    __m128i *to = (__m128i *)(void *)dst;
    const __m128i zero = _mm_setzero_si128(), v = _mm_loadu_si128((const __m128i *)(const void *)p);
    if (width == 1) {
        _mm_storeu_si128(to, v);
        return;
    }
    const __m128i v0 = _mm_unpacklo_epi8(v, zero), v1 = _mm_unpackhi_epi8(v, zero);
    if (width == 2) {
        _mm_storeu_si128(to, v0);
        _mm_storeu_si128(to + 1, v1);
        return;
    }
    _mm_storeu_si128(to, _mm_unpacklo_epi16(v0, zero));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(v0, zero));
    _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(v1, zero));
    _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(v1, zero));
}

/* Decode the valid UTF-8 text src[0..len) into dst, elements of width bytes, one for each
 * code point. Neither a byte outside [src, src + len) is read nor one past the last element
 * written. */
WS_UNICODE_INLINE void ws_utf8_decode(const uint8_t *src, size_t len, unsigned width, uint8_t *dst)
{
    uint8_t edge[3 + 64 + 1]; /* a block at either end of src, with what it looks at around it */
    uint8_t all[64 * 4];
    for (size_t i = 0; i < len; i += 64) {
        const size_t left = len - i, n = left < 64 ? left : 64;
        const uint8_t *p = src + i;
        if (i == 0 || left < 65) {
            const size_t before = i ? 3 : 0, after = left > 64;
            memset(edge, 0, sizeof edge); /* 0 behind the last byte: it ends a code point */
            memcpy(edge + 3 - before, p - before, before + n + after);
            p = edge + 3;
        }
        uint64_t ends = 0, high = 0;
        for (unsigned k = 0; k < 64; k += 16) {
            const __m128i here = _mm_loadu_si128((const __m128i *)(const void *)(p + k));
            const __m128i next = _mm_loadu_si128((const __m128i *)(const void *)(p + k + 1));
            high |= (uint64_t)(uint32_t)_mm_movemask_epi8(here) << k;
            ends |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpgt_epi8(next, _mm_set1_epi8(-65))) << k;
        }
        if (n == 64 && high == 0) {
            for (unsigned k = 0; k < 64; k += 16, dst += 16 * width)
                ws_ascii_widen16(p + k, width, dst);
            continue;
        }
        if (n < 64)
            ends &= ((uint64_t)1 << n) - 1;
        for (unsigned k = 0; k < n; k += 16)
            ws_utf8_decode16(p + k, width, all + k * width);
        for (; ends; ends &= ends - 1, dst += width)
            memcpy(dst, all + (size_t)(unsigned)__builtin_ctzll(ends) * width, width);
    }
}

#else

/* Decode the code point at *src, which is valid UTF-8, and advance *src behind it.
 * No byte behind the code point is read. */
WS_UNICODE_INLINE uint32_t ws_utf8_next(const uint8_t **src)
{
    const uint8_t *p = *src;
    const uint32_t first = p[0];
    if (first < 0x80) {
        *src = p + 1;
        return first;
    }
    if (first < 0xE0) {
        *src = p + 2;
        return (first & 0x1F) << 6 | (p[1] & 0x3Fu);
    }
    if (first < 0xF0) {
        *src = p + 3;
        return (first & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    }
    *src = p + 4;
    return (first & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

#endif

/* Decode the valid UTF-8 text src[0..len) into dst, where no code point exceeds 0xFF,
 * 0xFFFF or 0x10FFFF for ucs1, ucs2 or ucs4 (else the elements are unspecified).
 * Writes exactly as many elements as ws_utf8_measure() counts and reads no byte outside
 * [src, src + len). src and dst do not overlap. Never fails. */
WS_UNICODE_API void ws_utf8_to_ucs1(const uint8_t *src, size_t len, uint8_t *dst)
{
#ifdef __SSE2__
    ws_utf8_decode(src, len, 1, dst);
#else
    for (const uint8_t *end = src + len; src < end;)
        *dst++ = (uint8_t)ws_utf8_next(&src);
#endif
}

WS_UNICODE_API void ws_utf8_to_ucs2(const uint8_t *src, size_t len, uint16_t *dst)
{
#ifdef __SSE2__
    ws_utf8_decode(src, len, 2, (uint8_t *)dst);
#else
    for (const uint8_t *end = src + len; src < end;)
        *dst++ = (uint16_t)ws_utf8_next(&src);
#endif
}

WS_UNICODE_API void ws_utf8_to_ucs4(const uint8_t *src, size_t len, uint32_t *dst)
{
#ifdef __SSE2__
    ws_utf8_decode(src, len, 4, (uint8_t *)dst);
#else
    for (const uint8_t *end = src + len; src < end;)
        *dst++ = ws_utf8_next(&src);
#endif
}

/* ---- code points to UTF-8 ---- */

/* The number of bytes that the code points src[0..count), each at most 0x10FFFF, take as
 * UTF-8; a surrogate counts 3. Reads nothing outside src[0..count). Never fails. */
WS_UNICODE_API size_t ws_ucs1_utf8_size(const uint8_t *src, size_t count)
{
    size_t size = count, i = 0;
#ifdef __SSE2__
    const __m128i zero = _mm_setzero_si128();
    __m128i sum = zero;
    for (; i + 16 <= count; i += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        const __m128i above = _mm_cmplt_epi8(v, zero); /* -1 for each from 0x80 on */
        sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_sub_epi8(zero, above), zero));
    }
    uint64_t sums[2];
    _mm_storeu_si128((__m128i *)(void *)sums, sum);
    size += (size_t)(sums[0] + sums[1]);
#endif
    for (; i < count; i++)
        size += src[i] >> 7;
    return size;
}

WS_UNICODE_API size_t ws_ucs2_utf8_size(const uint16_t *src, size_t count)
{
    size_t size = count, i = 0;
#ifdef __SSE2__
    const __m128i zero = _mm_setzero_si128(), two = _mm_set1_epi8(2);
    const __m128i not7 = _mm_set1_epi16(-0x80), not11 = _mm_set1_epi16(-0x800);
    __m128i sum = zero;
    for (; i + 16 <= count; i += 16) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(src + i + 8));
        /* -1 for each that does not exceed 7, or 11, bits */
        const __m128i in7 = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_and_si128(a, not7), zero),
                                            _mm_cmpeq_epi16(_mm_and_si128(b, not7), zero));
        const __m128i in11 = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_and_si128(a, not11), zero),
                                             _mm_cmpeq_epi16(_mm_and_si128(b, not11), zero));
        const __m128i extra = _mm_add_epi8(two, _mm_add_epi8(in7, in11));
        sum = _mm_add_epi64(sum, _mm_sad_epu8(extra, zero));
    }
    uint64_t sums[2];
    _mm_storeu_si128((__m128i *)(void *)sums, sum);
    size += (size_t)(sums[0] + sums[1]);
#endif
    for (; i < count; i++)
        size += (size_t)(src[i] >= 0x80) + (size_t)(src[i] >= 0x800);
    return size;
}

WS_UNICODE_API size_t ws_ucs4_utf8_size(const uint32_t *src, size_t count)
{
    size_t size = count, i = 0;
#ifdef __SSE2__
    const __m128i zero = _mm_setzero_si128();
    const __m128i max1 = _mm_set1_epi32(0x7F), max2 = _mm_set1_epi32(0x7FF), max3 = _mm_set1_epi32(0xFFFF);
    __m128i sum = zero;
    for (; i + 8 <= count; i += 8) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(src + i + 4));
        const __m128i above1 = _mm_add_epi32(_mm_cmpgt_epi32(a, max1), _mm_cmpgt_epi32(b, max1));
        const __m128i above2 = _mm_add_epi32(_mm_cmpgt_epi32(a, max2), _mm_cmpgt_epi32(b, max2));
        const __m128i above3 = _mm_add_epi32(_mm_cmpgt_epi32(a, max3), _mm_cmpgt_epi32(b, max3));
        const __m128i extra = _mm_sub_epi32(zero, _mm_add_epi32(above1, _mm_add_epi32(above2, above3)));
        sum = _mm_add_epi64(sum, _mm_sad_epu8(extra, zero)); /* 0 to 6 in each low byte */
    }
    uint64_t sums[2];
    _mm_storeu_si128((__m128i *)(void *)sums, sum);
    size += (size_t)(sums[0] + sums[1]);
#endif
    for (; i < count; i++)
        size += (size_t)(src[i] >= 0x80) + (size_t)(src[i] >= 0x800) + (size_t)(src[i] >= 0x10000);
    return size;
}

/* Encode c, at most 0x10FFFF, into dst[0..left).
 * Returns its size, 1 to 4; 0 when it is a surrogate or takes more than left bytes, then
 * nothing is written. */
WS_UNICODE_INLINE size_t ws_utf8_put(uint32_t c, uint8_t *dst, size_t left)
{
    const size_t n = (size_t)1 + (c >= 0x80) + (c >= 0x800) + (c >= 0x10000);
    if (n > left || c >> 11 == 0x1B)
        return 0;
    switch (n) {
    case 1:
        dst[0] = (uint8_t)c;
        break;
    case 2:
        dst[0] = (uint8_t)(0xC0 | c >> 6);
        dst[1] = (uint8_t)(0x80 | (c & 0x3F));
        break;
    case 3:
        dst[0] = (uint8_t)(0xE0 | c >> 12);
        dst[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        dst[2] = (uint8_t)(0x80 | (c & 0x3F));
        break;
    default:
        dst[0] = (uint8_t)(0xF0 | c >> 18);
        dst[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
        dst[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        dst[3] = (uint8_t)(0x80 | (c & 0x3F));
    }
    return n;
}

#ifdef __SSE2__

/* mask (all or no bits of an element) ? a : b */
WS_UNICODE_INLINE __m128i ws_select(__m128i mask, __m128i a, __m128i b)
{
    return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
}

/* Encode the four code points in c into dst, which takes 16 bytes; those behind the encoded
 * ones become unspecified. astral: 0 when none exceeds 0xFFFF.
 * *bad gets a bit set when one is a surrogate.
 * Returns the size of the four, 4 to 16. */
WS_UNICODE_INLINE size_t ws_utf8_put4(__m128i c, int astral, uint8_t *dst, __m128i *bad)
{
    const __m128i low6 = _mm_set1_epi32(0x3F);
    const __m128i a = _mm_and_si128(c, low6), b = _mm_and_si128(_mm_srli_epi32(c, 6), low6);
    const __m128i above1 = _mm_cmpgt_epi32(c, _mm_set1_epi32(0x7F));
    const __m128i above2 = _mm_cmpgt_epi32(c, _mm_set1_epi32(0x7FF));
    *bad = _mm_or_si128(*bad, _mm_cmpeq_epi32(_mm_srli_epi32(c, 11), _mm_set1_epi32(0x1B)));
    /* The first byte is the lowest one of an element. */
    const __m128i two = _mm_or_si128(_mm_or_si128(_mm_srli_epi32(c, 6), _mm_slli_epi32(a, 8)),
                                     _mm_set1_epi32(0x80C0));
    const __m128i ba = _mm_or_si128(_mm_slli_epi32(b, 8), _mm_slli_epi32(a, 16));
    const __m128i three = _mm_or_si128(_mm_or_si128(_mm_srli_epi32(c, 12), ba), _mm_set1_epi32(0x8080E0));
    __m128i word = ws_select(above2, three, ws_select(above1, two, c));
    __m128i above = _mm_add_epi32(above1, above2); /* minus the bytes behind the first */
    if (astral) {
        const __m128i above3 = _mm_cmpgt_epi32(c, _mm_set1_epi32(0xFFFF));
        const __m128i d = _mm_and_si128(_mm_srli_epi32(c, 12), low6);
        const __m128i four = _mm_or_si128(
            _mm_or_si128(_mm_or_si128(_mm_srli_epi32(c, 18), _mm_slli_epi32(d, 8)), _mm_slli_epi32(ba, 8)),
            _mm_set1_epi32((int)0x808080F0u));
        word = ws_select(above3, four, word);
        above = _mm_add_epi32(above, above3);
    }
    /* Where each one ends: running sums of the sizes. */
    __m128i end = _mm_sub_epi32(_mm_set1_epi32(1), above);
    end = _mm_add_epi32(end, _mm_slli_si128(end, 4));
    end = _mm_add_epi32(end, _mm_slli_si128(end, 8));
    uint32_t words[4], ends[4];
    _mm_storeu_si128((__m128i *)(void *)words, word);
    _mm_storeu_si128((__m128i *)(void *)ends, end);
    memcpy(dst, words, 4); /* in this order: each overwrites what the one before left behind */
    memcpy(dst + ends[0], words + 1, 4);
    memcpy(dst + ends[1], words + 2, 4);
    memcpy(dst + ends[2], words + 3, 4);
    return ends[3];
}

#endif

/* Encode the code points src[0..count), each at most 0x10FFFF, as UTF-8 into dst[0..size);
 * size: what the ws_*_utf8_size() of the same type returned for them.
 * Writes exactly size bytes and returns 0; or returns -1 when one is a surrogate, then
 * dst[0..size) is unspecified. No byte outside [dst, dst + size) is written and nothing
 * outside src[0..count) read. src and dst do not overlap. */
WS_UNICODE_API int ws_ucs1_to_utf8(const uint8_t *restrict src, size_t count, uint8_t *restrict dst, size_t size)
{
    size_t i = 0, at = 0;
    if (count == size) {
        if (count)
            memcpy(dst, src, count);
        return 0;
    }
    while (i < count) {
#ifdef __SSE2__
        if (count - i >= 16) {
            const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
            if (_mm_movemask_epi8(v) == 0) {
                if (size - at < 16)
                    return -1;
                _mm_storeu_si128((__m128i *)(void *)(dst + at), v);
                i += 16;
                at += 16;
                continue;
            }
        }
#endif
        const size_t stop = count - i < 16 ? count : i + 16;
        if (size - at < 2 * (stop - i) && size - at < ws_ucs1_utf8_size(src + i, stop - i))
            return -1;
        for (; i < stop; i++) {
            const unsigned c = src[i], above = c >> 7;
            dst[at] = (uint8_t)(0xC0 | c >> 6); /* an ASCII one overwrites it */
            at += above;
            dst[at++] = (uint8_t)(c & ~(above << 6));
        }
    }
    return at == size ? 0 : -1;
}

WS_UNICODE_API int ws_ucs2_to_utf8(const uint16_t *src, size_t count, uint8_t *dst, size_t size)
{
    size_t i = 0, at = 0;
#ifdef __SSE2__
    const __m128i zero = _mm_setzero_si128(), not7 = _mm_set1_epi16(-0x80);
    __m128i bad = zero;
    /* 8 take up to 24 bytes, and the last store ends at most one byte behind them */
    while (count - i >= 8 && size - at >= 32) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        if (_mm_movemask_epi8(_mm_cmpeq_epi16(_mm_and_si128(v, not7), zero)) == 0xFFFF) {
            _mm_storel_epi64((__m128i *)(void *)(dst + at), _mm_packus_epi16(v, v));
            at += 8;
        } else {
            at += ws_utf8_put4(_mm_unpacklo_epi16(v, zero), 0, dst + at, &bad);
            at += ws_utf8_put4(_mm_unpackhi_epi16(v, zero), 0, dst + at, &bad);
        }
        i += 8;
    }
    if (_mm_movemask_epi8(bad))
        return -1;
#endif
    for (; i < count; i++) {
        const size_t n = ws_utf8_put(src[i], dst + at, size - at);
        if (n == 0)
            return -1;
        at += n;
    }
    return at == size ? 0 : -1;
}

WS_UNICODE_API int ws_ucs4_to_utf8(const uint32_t *src, size_t count, uint8_t *dst, size_t size)
{
    size_t i = 0, at = 0;
#ifdef __SSE2__
    const __m128i zero = _mm_setzero_si128(), not7 = _mm_set1_epi32(-0x80);
    __m128i bad = zero;
    while (count - i >= 8 && size - at >= 32) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        const __m128i w = _mm_loadu_si128((const __m128i *)(const void *)(src + i + 4));
        if (_mm_movemask_epi8(_mm_cmpeq_epi32(_mm_and_si128(_mm_or_si128(v, w), not7), zero)) == 0xFFFF) {
            const __m128i packed = _mm_packs_epi32(v, w);
            _mm_storel_epi64((__m128i *)(void *)(dst + at), _mm_packus_epi16(packed, packed));
            at += 8;
        } else {
            at += ws_utf8_put4(v, 1, dst + at, &bad);
            at += ws_utf8_put4(w, 1, dst + at, &bad);
        }
        i += 8;
    }
    if (_mm_movemask_epi8(bad))
        return -1;
#endif
    for (; i < count; i++) {
        const size_t n = ws_utf8_put(src[i], dst + at, size - at);
        if (n == 0)
            return -1;
        at += n;
    }
    return at == size ? 0 : -1;
}

#undef WS_UNICODE_INLINE
#undef WS_UNICODE_API

#endif
