/* The integer model's layers on bytes, for `ref.compiled`; `ref.ops` says what they compute.

Feature maps are bytes in the order samples, rows, columns, channels; a signed value v is the byte
v + 128, which the biases make up for. Sums are 32-bit and wrap; the caller has shown that no final
one does. Kernels may read and write up to SLACK bytes past a map's last one; what they find there
they do not use. Those that fill a row in chunks write past its end, before the next row is made.

A sum becomes a byte in 32 bits. It is first clipped to the sums whose results lie within the clip
bounds: the ratio of multiplier to shift is below 1, so no result between them is skipped and none
outside is left. The product then fits 32 bits, for the largest shift after `drop` bits of it are
dropped, in two parts so that the floor is exact; a byte's offset goes in with the rounding. */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define DOT_PRODUCTS 1
#define LANES 16      /* 32-bit sums in a vector */
#define PIXELS 8      /* of a tile of a convolution */
#else
#define DOT_PRODUCTS 0
#ifdef __AVX2__
#define LANES 8
#define EACH(of) {of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7]}
#else
#define LANES 4
#define EACH(of) {of[0], of[1], of[2], of[3]}
#endif
#define PIXELS 4
#endif

#define CHUNK 64      /* bytes that kernels on flattened rows take at once */
#define VECTORS (CHUNK / LANES)
#define STRIP 64      /* pixels between which a convolution's weights change */
#define INLINE static inline __attribute__((always_inline))

typedef int32_t sums __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

/* From sums to bytes; arrays hold one entry for each lane of the kernel's sums. */
struct scale {
    const int32_t *bias, *low, *high, *multiplier;
    const int32_t *negative;      /* multipliers of negative sums, or null */
    const uint8_t *levels;        /* the byte for each result, or null */
    int64_t rounding, drop, shift;
};

struct convolution {
    struct scale scale;           /* (groups, vectors, LANES) */
    const int8_t *weight;         /* (groups, vectors, steps, LANES, 4); else (.., 4, LANES) */
    const int32_t *offset;        /* of each four inputs from a window's first byte */
    int64_t steps, groups, inputs, outputs, vectors;      /* of a group, from inputs on */
    int64_t rows, columns, sample, line, pixel;           /* of the result; the source's steps */
};

struct depthwise {
    struct scale scale;           /* (blocks, CHUNK), with DOT_PRODUCTS as unpacked below */
    const int8_t *weight;         /* (blocks, quads, CHUNK, 4); else (blocks, quads, 4, CHUNK) */
    const int32_t *offset;        /* (quads, 4): of each tap from a window's first byte */
    int64_t quads, blocks, rows, length, sample, line;    /* length: columns x channels */
};

struct maximum {
    const int32_t *offset;
    int64_t taps, rows, length, sample, line;
};

struct sum {
    const int32_t *first, *second, *constant, *low, *high;      /* (blocks, CHUNK) */
    const uint8_t *levels;
    int64_t blocks, shift, offset;
};

struct frame {
    const uint8_t *blank;         /* a row of padding in the frame's order */
    int64_t channels, height, width, top, bottom, left, right, phases;
};

int64_t dot_products(void) { return DOT_PRODUCTS; }

int64_t lanes(void) { return LANES; }

INLINE sums load(const int32_t *from) { sums all; memcpy(&all, from, sizeof all); return all; }

INLINE sums larger(sums a, sums b) { sums less = a < b; return (b & less) | (a & ~less); }

INLINE sums smaller(sums a, sums b) { sums less = a < b; return (a & less) | (b & ~less); }

/* The bytes of sums whose constants begin at `at`, one in each word. Not `general`: no negative
multipliers, no levels, nothing dropped. */
INLINE words requantize(sums sum, const struct scale *scale, int64_t at, const int general) {
    sum = smaller(larger(sum, load(scale->low + at)), load(scale->high + at));
    sums multiplier = load(scale->multiplier + at);
    const uint32_t rounding = (uint32_t)scale->rounding, shift = (uint32_t)scale->shift;
    if (!general)
        return ((words)sum * (words)multiplier + rounding) >> shift;
    if (scale->negative) {
        sums below = sum < 0;
        multiplier = (load(scale->negative + at) & below) | (multiplier & ~below);
    }
    const int32_t drop = (int32_t)scale->drop;
    const words product = (words)((sum >> drop) * multiplier)
        + (words)(((sum & ((1 << drop) - 1)) * multiplier) >> drop);
    words result = (product + rounding) >> shift;
    if (scale->levels)
        for (int lane = 0; lane < LANES; lane++)
            result[lane] = scale->levels[result[lane]];
    return result;
}

INLINE void store(words from, uint8_t *to, int64_t count) {
#if DOT_PRODUCTS
    __m128i packed = _mm512_cvtepi32_epi8((__m512i)from);
    if (count >= LANES)
        _mm_storeu_si128((__m128i *)to, packed);
    else
        _mm_mask_storeu_epi8(to, (__mmask16)((1 << count) - 1), packed);
#else
    uint8_t packed[LANES];
    for (int lane = 0; lane < LANES; lane++)
        packed[lane] = (uint8_t)from[lane];
    memcpy(to, packed, (size_t)(count < LANES ? count : LANES));
#endif
}

/* Four inputs times their weights of LANES outputs, added to the sums. */
INLINE sums dot4(sums sum, const uint8_t *x, const int8_t *weight) {
#if DOT_PRODUCTS
    int32_t four;
    memcpy(&four, x, sizeof four);
    return (sums)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(four),
                                     _mm512_loadu_si512(weight));
#else
    for (int tap = 0; tap < 4; tap++, weight += LANES)
        sum += (int32_t)x[tap] * (sums)EACH(weight);
    return sum;
#endif
}

/* `count` <= PIXELS windows into `vectors` <= 2 vectors of outputs, `left` of which exist. */
INLINE void tile(const struct convolution *c, const uint8_t *const *window, int64_t first,
                 int64_t vector, uint8_t *y, int64_t count, int64_t left, const int vectors,
                 const int general) {
    const int8_t *weight = c->weight + vector * c->steps * 4 * LANES;
    const int64_t pitch = c->groups * c->outputs;
    sums sum[PIXELS][2];
#pragma GCC unroll 8
    for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[p][v] = load(c->scale.bias + (vector + v) * LANES);
    for (int64_t step = 0; step < c->steps; step++) {
        const int64_t place = first + c->offset[step];
#pragma GCC unroll 8
        for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[p][v] = dot4(sum[p][v], window[p] + place,
                                 weight + (v * c->steps + step) * 4 * LANES);
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
#pragma GCC unroll 8
        for (int p = 0; p < PIXELS; p++)
            if (p < count)
                store(requantize(sum[p][v], &c->scale, (vector + v) * LANES, general),
                      y + p * pitch + v * LANES, left - v * LANES);
}

/* Any convolution of `samples` maps, which are framed already. */
INLINE void convolution(const struct convolution *c, int64_t samples, const uint8_t *x, uint8_t *y,
                        const int general) {
    const int64_t total = samples * c->rows * c->columns, pitch = c->groups * c->outputs;
    int64_t sample = 0, row = 0, column = 0;
    for (int64_t start = 0; start < total; start += STRIP) {
        const int64_t count = total - start < STRIP ? total - start : STRIP;
        const uint8_t *window[STRIP];
        for (int64_t p = 0; p < STRIP; p++) {
            if (p >= count) {                 /* the last one stands in for those beyond it */
                window[p] = window[count - 1];
                continue;
            }
            window[p] = x + sample * c->sample + row * c->line + column * c->pixel;
            if (++column == c->columns) {
                column = 0;
                if (++row == c->rows) {
                    row = 0;
                    sample++;
                }
            }
        }
        for (int64_t group = 0; group < c->groups; group++)
            for (int64_t v = 0; v < c->vectors; v += 2)
                for (int64_t p = 0; p < count; p += PIXELS) {
                    uint8_t *to = y + (start + p) * pitch + group * c->outputs + v * LANES;
                    const int64_t vector = group * c->vectors + v, first = group * c->inputs;
                    const int64_t left = c->outputs - v * LANES;
                    if (v + 1 < c->vectors)
                        tile(c, window + p, first, vector, to, count - p, left, 2, general);
                    else
                        tile(c, window + p, first, vector, to, count - p, left, 1, general);
                }
    }
}

static int is_general(const struct scale *scale) {
    return scale->negative || scale->levels || scale->drop;
}

void convolve(const struct convolution *c, int64_t samples, const uint8_t *x, uint8_t *y) {
    if (is_general(&c->scale))
        convolution(c, samples, x, y, 1);
    else
        convolution(c, samples, x, y, 0);
}

/* CHUNK neighbouring results of one row with the constants of block `b`. */
INLINE void depthwise_chunk(const struct depthwise *d, const uint8_t *x, int64_t b, uint8_t *y,
                            const int general) {
    const int8_t *weight = d->weight + b * d->quads * 4 * CHUNK;
    sums sum[VECTORS];
    words result[VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++)
        sum[v] = load(d->scale.bias + b * CHUNK + v * LANES);
    for (int64_t quad = 0; quad < d->quads; quad++, weight += 4 * CHUNK) {
        const int32_t *offset = d->offset + 4 * quad;
#if DOT_PRODUCTS
        /* Unpacking works within 128 bits: sum q holds bytes 4 q .. 4 q + 3 of each of them. */
        __m512i tap[4];
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++)
            tap[t] = _mm512_loadu_si512(x + offset[t]);
        __m512i low = _mm512_unpacklo_epi8(tap[0], tap[1]);
        __m512i high = _mm512_unpackhi_epi8(tap[0], tap[1]);
        __m512i low2 = _mm512_unpacklo_epi8(tap[2], tap[3]);
        __m512i high2 = _mm512_unpackhi_epi8(tap[2], tap[3]);
        __m512i four[4] = {_mm512_unpacklo_epi16(low, low2), _mm512_unpackhi_epi16(low, low2),
                           _mm512_unpacklo_epi16(high, high2), _mm512_unpackhi_epi16(high, high2)};
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++)
            sum[q] = (sums)_mm512_dpbusd_epi32((__m512i)sum[q], four[q],
                                               _mm512_loadu_si512(weight + q * CHUNK));
#else
        for (int t = 0; t < 4; t++)
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++) {
                const uint8_t *value = x + offset[t] + v * LANES;
                const int8_t *factor = weight + t * CHUNK + v * LANES;
                sum[v] += (sums)EACH(value) * (sums)EACH(factor);
            }
#endif
    }
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++)
        result[v] = requantize(sum[v], &d->scale, b * CHUNK + v * LANES, general);
#if DOT_PRODUCTS
    __m512i packed = _mm512_packus_epi16(
        _mm512_packus_epi32((__m512i)result[0], (__m512i)result[1]),
        _mm512_packus_epi32((__m512i)result[2], (__m512i)result[3]));
    _mm512_storeu_si512(y, packed);
#else
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++)
        store(result[v], y + v * LANES, LANES);
#endif
}

INLINE void depthwise(const struct depthwise *d, int64_t samples, const uint8_t *x, uint8_t *y,
                      const int general) {
    for (int64_t sample = 0; sample < samples; sample++)
        for (int64_t row = 0; row < d->rows; row++, y += d->length) {
            const uint8_t *line = x + sample * d->sample + row * d->line;
            int64_t block = 0;
            for (int64_t at = 0; at < d->length; at += CHUNK) {
                depthwise_chunk(d, line + at, block, y + at, general);
                block = block + 1 == d->blocks ? 0 : block + 1;
            }
        }
}

/* A depthwise convolution or an average pool; results of a row follow each other. */
void convolve_depthwise(const struct depthwise *d, int64_t samples, const uint8_t *x, uint8_t *y) {
    if (is_general(&d->scale))
        depthwise(d, samples, x, y, 1);
    else
        depthwise(d, samples, x, y, 0);
}

/* The largest value of each window; padding is the byte 0. */
void pool_maximum(const struct maximum *m, int64_t samples, const uint8_t *x, uint8_t *y) {
    for (int64_t sample = 0; sample < samples; sample++)
        for (int64_t row = 0; row < m->rows; row++, y += m->length)
            for (int64_t at = 0; at < m->length; at += CHUNK) {
                const uint8_t *from = x + sample * m->sample + row * m->line + at;
                uint8_t largest[CHUNK] = {0};
                for (int64_t tap = 0; tap < m->taps; tap++)
                    for (int lane = 0; lane < CHUNK; lane++) {
                        uint8_t value = from[m->offset[tap] + lane];
                        largest[lane] = largest[lane] < value ? value : largest[lane];
                    }
                memcpy(y + at, largest, CHUNK);
            }
}

/* The sum of two maps of `length` bytes each. */
void add(const struct sum *s, int64_t length, const uint8_t *a, const uint8_t *b,
         uint8_t *restrict y) {
    int64_t block = 0;
    for (int64_t at = 0; at < length; at += CHUNK) {
        for (int lane = 0; lane < CHUNK; lane++) {
            const int64_t c = block * CHUNK + lane;
            int32_t value = (a[at + lane] * s->first[c] + b[at + lane] * s->second[c]
                             + s->constant[c]) >> s->shift;
            value = value < s->low[c] ? s->low[c] : value;
            value = value > s->high[c] ? s->high[c] : value;
            y[at + lane] = s->levels ? s->levels[value] : (uint8_t)(value + s->offset);
        }
        block = block + 1 == s->blocks ? 0 : block + 1;
    }
}

/* Maps inside a frame of padding; of a row, every `phases`-th column together. */
void frame(const struct frame *f, int64_t samples, const uint8_t *x, uint8_t *y) {
    const int64_t width = f->left + f->width + f->right;
    const int64_t columns = (width + f->phases - 1) / f->phases;
    const size_t pitch = (size_t)(f->phases * columns * f->channels);
    const size_t left = (size_t)(f->left * f->channels), right = (size_t)(f->right * f->channels);
    const size_t row = (size_t)(f->width * f->channels);
    for (int64_t sample = 0; sample < samples; sample++)
        for (int64_t line = -f->top; line < f->height + f->bottom; line++, y += pitch) {
            const int inside = 0 <= line && line < f->height;
            if (!inside || f->phases > 1)
                memcpy(y, f->blank, pitch);
            if (!inside)
                continue;
            if (f->phases == 1) {
                memcpy(y, f->blank, left);
                memcpy(y + left, x, row);
                memcpy(y + left + row, f->blank, right);
            } else {
                for (int64_t column = 0; column < f->width; column++) {
                    const int64_t at = f->left + column;
                    memcpy(y + (at % f->phases * columns + at / f->phases) * f->channels,
                           x + column * f->channels, (size_t)f->channels);
                }
            }
            x += row;
        }
}
