/* No instruction set assumed: 16-byte vectors of the compiler's own (SSE2, NEON, VSX, ...),
 * and plain loops over the lanes where the compiler has none (MSVC). */
#include "simd.h"

enum { LANES32 = 4, LANES64 = 2 };
#define TILE_ROWS 6
#define NARROW_ROWS 12

#if defined(__GNUC__) || defined(__clang__)
typedef float v32 __attribute__((vector_size(16)));
typedef double v64 __attribute__((vector_size(16)));
typedef int32_t v32_mask __attribute__((vector_size(16)));
typedef int64_t v64_mask __attribute__((vector_size(16)));
#define FC_LANE(vector, i) (vector)[i]
#define FC_VECTOR_OPS(v, scalar, lanes)                                                             \
    FC_INLINE v v##_add(v a, v b) { return a + b; }                                                 \
    FC_INLINE v v##_sub(v a, v b) { return a - b; }                                                 \
    FC_INLINE v v##_mul(v a, v b) { return a * b; }                                                 \
    FC_INLINE v v##_fma(v a, v b, v c) { return a * b + c; }                                        \
    FC_INLINE v v##_set1(scalar a) { return a - (v){0}; }                                           \
    FC_INLINE v v##_max(v a, v b)                                                                   \
    {                                                                                               \
        v##_mask greater = a > b;                                                                   \
        return (v)(((v##_mask)a & greater) | ((v##_mask)b & ~greater));                             \
    }                                                                                               \
    FC_INLINE v v##_div(v a, v b) { return a / b; }                                                 \
    FC_INLINE v##_mask v##_greater(v a, v b) { return a > b; }                                      \
    FC_INLINE v##_mask v##_no_order(v a, v b) { return ~((a > b) | (a < b)); }                      \
    FC_INLINE v##_mask v##_is_nan(v a) { return a != a; }                                           \
    FC_INLINE v##_mask v##_or(v##_mask a, v##_mask b) { return a | b; }                             \
    FC_INLINE v##_mask v##_and(v##_mask a, v##_mask b) { return a & b; }                            \
    FC_INLINE v v##_select(v##_mask mask, v a, v b)                                                 \
    {                                                                                               \
        return (v)(((v##_mask)a & mask) | ((v##_mask)b & ~mask));                                   \
    }                                                                                               \
    FC_INLINE v v##_negate_where(v##_mask mask, v a) { return v##_select(mask, -a, a); }            \
    FC_INLINE v v##_abs(v a) { return v##_select(a < 0, -a, a); }                                   \
    FC_INLINE v v##_max_nan(v a, v b) { return v##_select((a != a) | (b != b), a + b, v##_max(a, b)); }
#else
typedef struct { float lane[4]; } v32;
typedef struct { double lane[2]; } v64;
#define FC_LANE(vector, i) (vector).lane[i]
#define FC_LANEWISE(lanes, result) { for (int i = 0; i < lanes; i++) r.lane[i] = (result); return r; }
#define FC_VECTOR_OPS(v, scalar, lanes)                                                             \
    FC_INLINE v v##_add(v a, v b) { v r; FC_LANEWISE(lanes, a.lane[i] + b.lane[i]) }                \
    FC_INLINE v v##_sub(v a, v b) { v r; FC_LANEWISE(lanes, a.lane[i] - b.lane[i]) }                \
    FC_INLINE v v##_mul(v a, v b) { v r; FC_LANEWISE(lanes, a.lane[i] * b.lane[i]) }                \
    FC_INLINE v v##_fma(v a, v b, v c) { v r; FC_LANEWISE(lanes, a.lane[i] * b.lane[i] + c.lane[i]) } \
    FC_INLINE v v##_set1(scalar a) { v r; FC_LANEWISE(lanes, a) }                                   \
    FC_INLINE v v##_max(v a, v b) { v r; FC_LANEWISE(lanes, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]) } \
    FC_INLINE v v##_div(v a, v b) { v r; FC_LANEWISE(lanes, a.lane[i] / b.lane[i]) }                \
    typedef struct { int lane[lanes]; } v##_mask;                                                   \
    FC_INLINE v##_mask v##_greater(v a, v b) { v##_mask r; FC_LANEWISE(lanes, a.lane[i] > b.lane[i]) } \
    FC_INLINE v##_mask v##_no_order(v a, v b)                                                       \
    {                                                                                               \
        v##_mask r;                                                                                 \
        FC_LANEWISE(lanes, !(a.lane[i] > b.lane[i] || a.lane[i] < b.lane[i]))                       \
    }                                                                                               \
    FC_INLINE v##_mask v##_is_nan(v a) { v##_mask r; FC_LANEWISE(lanes, a.lane[i] != a.lane[i]) }   \
    FC_INLINE v##_mask v##_or(v##_mask a, v##_mask b) { v##_mask r; FC_LANEWISE(lanes, a.lane[i] | b.lane[i]) } \
    FC_INLINE v##_mask v##_and(v##_mask a, v##_mask b) { v##_mask r; FC_LANEWISE(lanes, a.lane[i] & b.lane[i]) } \
    FC_INLINE v v##_select(v##_mask mask, v a, v b) { v r; FC_LANEWISE(lanes, mask.lane[i] ? a.lane[i] : b.lane[i]) } \
    FC_INLINE v v##_negate_where(v##_mask mask, v a) { v r; FC_LANEWISE(lanes, mask.lane[i] ? -a.lane[i] : a.lane[i]) } \
    FC_INLINE v v##_abs(v a) { v r; FC_LANEWISE(lanes, a.lane[i] < 0 ? -a.lane[i] : a.lane[i]) }    \
    FC_INLINE v v##_max_nan(v a, v b)                                                               \
    {                                                                                               \
        v r;                                                                                        \
        FC_LANEWISE(lanes, a.lane[i] > b.lane[i] || a.lane[i] != a.lane[i] ? a.lane[i] : b.lane[i]) \
    }
#endif

/* memcpy is how C spells an unaligned load; compilers make it one instruction. */
#define FC_MEMORY_OPS(v, scalar, lanes, digits)                                                     \
    FC_INLINE v v##_load(const scalar *p) { v a; memcpy(&a, p, sizeof a); return a; }               \
    FC_INLINE void v##_store(scalar *p, v a) { memcpy(p, &a, sizeof a); }                           \
    FC_INLINE void v##_stream(scalar *p, v a) { v##_store(p, a); }                                  \
    FC_INLINE v v##_sqrt(v a)                                                                       \
    {                                                                                               \
        for (int i = 0; i < lanes; i++) FC_LANE(a, i) = (scalar)sqrt(FC_LANE(a, i));                \
        return a;                                                                                   \
    }                                                                                               \
    FC_INLINE v v##_round(v a)                                                                      \
    {                                                                                               \
        const v rounder = v##_set1(FC_ROUNDER##digits);                                             \
        return v##_sub(v##_add(a, rounder), rounder);                                               \
    }                                                                                               \
    FC_INLINE v v##_pow2(v k)                                                                       \
    {                                                                                               \
        v##_word bits[lanes];                                                                       \
        k = v##_add(k, v##_set1(FC_ROUNDER##digits + FC_BIAS##digits));                             \
        memcpy(bits, &k, sizeof k);                                                                 \
        for (int i = 0; i < lanes; i++) bits[i] <<= FC_MANTISSA##digits;                            \
        memcpy(&k, bits, sizeof k);                                                                 \
        return k;                                                                                   \
    }                                                                                               \
    FC_INLINE v v##_zero(void) { v a; memset(&a, 0, sizeof a); return a; }                          \
    FC_INLINE void v##_transpose(scalar *dst, ptrdiff_t dst_row, const scalar *src, ptrdiff_t src_row) \
    {                                                                                               \
        for (int j = 0; j < lanes; j++)                                                             \
            for (int i = 0; i < lanes; i++) dst[j * dst_row + i] = src[i * src_row + j];            \
    }                                                                                               \
    FC_INLINE v##_mask v##_range(ptrdiff_t begin, ptrdiff_t end)                                    \
    {                                                                                               \
        const scalar first = (scalar)clamp_lane(begin) - (scalar)0.5;                               \
        const scalar last = (scalar)clamp_lane(end) - (scalar)0.5;                                  \
        scalar lane[lanes];                                                                         \
        for (int i = 0; i < lanes; i++) lane[i] = (scalar)i;                                        \
        const v at = v##_load(lane);                                                                \
        return v##_and(v##_greater(at, v##_set1(first)), v##_greater(v##_set1(last), at));          \
    }                                                                                               \
    FC_INLINE unsigned v##_bits(v##_mask mask)                                                      \
    {                                                                                               \
        unsigned set = 0;                                                                           \
        for (int i = 0; i < lanes; i++) set |= (unsigned)(FC_LANE(mask, i) != 0) << i;              \
        return set;                                                                                 \
    }                                                                                               \
    FC_INLINE v##_mask v##_from_bits(unsigned set)                                                  \
    {                                                                                               \
        v##_mask mask = {0};                                                                        \
        for (int i = 0; i < lanes; i++) FC_LANE(mask, i) = set >> i & 1 ? -1 : 0;                   \
        return mask;                                                                                \
    }                                                                                               \
    FC_NOINLINE v v##_load_where(v##_mask mask, const scalar *p)                                    \
    {                                                                                               \
        scalar values[lanes];                                                                       \
        for (int i = 0; i < lanes; i++) values[i] = FC_LANE(mask, i) ? p[i] : 0;                    \
        return v##_load(values);                                                                    \
    }                                                                                               \
    FC_INLINE v v##_from_bytes(const uint8_t *p)                                                    \
    {                                                                                               \
        scalar values[lanes];                                                                       \
        for (int i = 0; i < lanes; i++) values[i] = p[i] != 0;                                      \
        return v##_load(values);                                                                    \
    }                                                                                               \
    FC_INLINE void v##_store_first(scalar *p, v a, ptrdiff_t count)                                 \
    {                                                                                               \
        memcpy(p, &a, (size_t)(count < lanes ? count : lanes) * sizeof(scalar));                    \
    }                                                                                               \
    FC_INLINE v v##_pick(v a, v b, int first, int pair, int second)                                 \
    {                                                                                               \
        scalar both[2 * lanes], picked[lanes];                                                      \
        v##_store(both, a);                                                                         \
        v##_store(both + lanes, b);                                                                 \
        for (int i = 0; i < lanes; i++) picked[i] = both[first + i / 2 * pair + i % 2 * second];    \
        return v##_load(picked);                                                                    \
    }                                                                                               \
    FC_INLINE v v##_pick_even(v a, v b) { return v##_pick(a, b, 0, 4, 2); }                         \
    FC_INLINE v v##_pick_odd(v a, v b) { return v##_pick(a, b, 1, 4, 2); }                          \
    FC_INLINE v v##_picked(v a) { return a; }                                                       \
    FC_INLINE v v##_even(v a, v b) { return v##_pick(a, b, 0, 4, 2); }                              \
    FC_INLINE v v##_odd(v a, v b) { return v##_pick(a, b, 1, 4, 2); }                               \
    FC_INLINE v v##_every_third(v a, v b, v c)                                                      \
    {                                                                                               \
        scalar all[3 * lanes], picked[lanes];                                                       \
        v##_store(all, a);                                                                          \
        v##_store(all + lanes, b);                                                                  \
        v##_store(all + 2 * lanes, c);                                                              \
        for (int i = 0; i < lanes; i++) picked[i] = all[3 * i];                                     \
        return v##_load(picked);                                                                    \
    }                                                                                               \
    FC_INLINE v v##_zip_low(v a, v b) { return v##_pick(a, b, 0, 1, lanes); }                       \
    FC_INLINE v v##_zip_high(v a, v b) { return v##_pick(a, b, lanes / 2, 1, lanes); }              \
    FC_INLINE void v##_store_index(int64_t *p, v a, int64_t base)                                   \
    {                                                                                               \
        scalar values[lanes];                                                                       \
        v##_store(values, a);                                                                       \
        for (int i = 0; i < lanes; i++) p[i] = base + (int64_t)values[i];                           \
    }

FC_VECTOR_OPS(v32, float, 4)
FC_VECTOR_OPS(v64, double, 2)
typedef uint32_t v32_word;
typedef uint64_t v64_word;
FC_MEMORY_OPS(v32, float, 4, 32)
#if FC_DTYPE == 64 /* load_where is no inline function; GCC warns of those that nobody calls */
FC_MEMORY_OPS(v64, double, 2, 64)
#endif

/* The value of a half's bits but its sign: exponents begin elsewhere, the mantissas are left-aligned. */
FC_INLINE float half_magnitude(uint32_t half)
{
    const uint32_t exponent = half & 0x7c00, bits = half << 13;
    const uint32_t normal = bits + ((127 - 15) << 23);
    /* Subnormal: with the exponent of the smallest normal, whose leading one, which isn't there, is taken off. */
    const uint32_t raised = exponent == 0x7c00 ? bits + ((255 - 31) << 23) : exponent ? normal : normal + (1 << 23);
    float value;
    memcpy(&value, &raised, sizeof value);
    return exponent ? value : value - 0x1p-14f;
}

FC_INLINE uint16_t half_of(uint32_t bits)
{
    const uint32_t magnitude = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    /* Subnormal halves are multiples of 2^-24: an addition rounds to those, and has the count in its lowest bits. */
    const float shifted = value + 0.5f;
    uint32_t count;
    memcpy(&count, &shifted, sizeof count);
    count -= 0x3f000000;
    const uint32_t normal = (magnitude - ((127 - 15) << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    const uint32_t nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
    const uint32_t half = magnitude > 0x7f800000 ? nan : magnitude >= 0x47800000 ? 0x7c00 : magnitude < 0x38800000 ? count : normal;
    return (uint16_t)(sign | half);
}

FC_INLINE v32 v32_from_half(const uint16_t *p)
{
    float values[LANES32];
    for (int i = 0; i < LANES32; i++) {
        const float magnitude = half_magnitude(p[i] & 0x7fff);
        values[i] = p[i] & 0x8000 ? -magnitude : magnitude;
    }
    return v32_load(values);
}

FC_INLINE void v32_to_half(uint16_t *p, v32 a)
{
    uint32_t bits[LANES32];
    memcpy(bits, &a, sizeof a);
    for (int i = 0; i < LANES32; i++) p[i] = half_of(bits[i]);
}
