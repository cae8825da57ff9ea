/* AVX2 + FMA + F16C: 8 floats or 4 doubles, 16 registers. */
#include <immintrin.h>

#include "simd.h"

enum { LANES32 = 8, LANES64 = 4 };
#define TILE_ROWS 6
#define NARROW_ROWS 12

typedef __m256 v32;
typedef __m256d v64;

FC_INLINE v32 v32_load(const float *p) { return _mm256_loadu_ps(p); }
FC_INLINE v64 v64_load(const double *p) { return _mm256_loadu_pd(p); }
FC_INLINE void v32_store(float *p, v32 a) { _mm256_storeu_ps(p, a); }
FC_INLINE void v64_store(double *p, v64 a) { _mm256_storeu_pd(p, a); }
FC_INLINE void v32_stream(float *p, v32 a) { _mm256_stream_ps(p, a); }
FC_INLINE void v64_stream(double *p, v64 a) { _mm256_stream_pd(p, a); }
FC_INLINE v32 v32_zero(void) { return _mm256_setzero_ps(); }
FC_INLINE v64 v64_zero(void) { return _mm256_setzero_pd(); }
FC_INLINE v32 v32_set1(float a) { return _mm256_set1_ps(a); }
FC_INLINE v64 v64_set1(double a) { return _mm256_set1_pd(a); }
FC_INLINE v32 v32_add(v32 a, v32 b) { return _mm256_add_ps(a, b); }
FC_INLINE v64 v64_add(v64 a, v64 b) { return _mm256_add_pd(a, b); }
FC_INLINE v32 v32_sub(v32 a, v32 b) { return _mm256_sub_ps(a, b); }
FC_INLINE v64 v64_sub(v64 a, v64 b) { return _mm256_sub_pd(a, b); }
FC_INLINE v32 v32_mul(v32 a, v32 b) { return _mm256_mul_ps(a, b); }
FC_INLINE v64 v64_mul(v64 a, v64 b) { return _mm256_mul_pd(a, b); }
FC_INLINE v32 v32_fma(v32 a, v32 b, v32 c) { return _mm256_fmadd_ps(a, b, c); }
FC_INLINE v64 v64_fma(v64 a, v64 b, v64 c) { return _mm256_fmadd_pd(a, b, c); }
/* a > b ? a : b, so b where either is NaN. */
FC_INLINE v32 v32_max(v32 a, v32 b) { return _mm256_max_ps(a, b); }
FC_INLINE v64 v64_max(v64 a, v64 b) { return _mm256_max_pd(a, b); }
FC_INLINE v32 v32_div(v32 a, v32 b) { return _mm256_div_ps(a, b); }
FC_INLINE v64 v64_div(v64 a, v64 b) { return _mm256_div_pd(a, b); }
FC_INLINE v32 v32_sqrt(v32 a) { return _mm256_sqrt_ps(a); }
FC_INLINE v64 v64_sqrt(v64 a) { return _mm256_sqrt_pd(a); }
FC_INLINE v32 v32_round(v32 a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FC_INLINE v64 v64_round(v64 a) { return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FC_INLINE v32 v32_pow2(v32 k)
{
    const __m256i biased = _mm256_castps_si256(_mm256_add_ps(k, _mm256_set1_ps(FC_ROUNDER32 + FC_BIAS32)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, FC_MANTISSA32));
}
FC_INLINE v64 v64_pow2(v64 k)
{
    const __m256i biased = _mm256_castpd_si256(_mm256_add_pd(k, _mm256_set1_pd(FC_ROUNDER64 + FC_BIAS64)));
    return _mm256_castsi256_pd(_mm256_slli_epi64(biased, FC_MANTISSA64));
}

FC_INLINE v32 v32_from_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
FC_INLINE void v32_to_half(uint16_t *p, v32 a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

FC_INLINE v32 v32_from_bytes(const uint8_t *p)
{
    const __m128i bytes = _mm_min_epu8(_mm_loadl_epi64((const __m128i *)p), _mm_set1_epi8(1));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}
FC_INLINE v64 v64_from_bytes(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_min_epu8(_mm_cvtsi32_si128(four), _mm_set1_epi8(1))));
}

/* Comparisons: all bits of a lane, or none. Meanings in simd.h. */
typedef __m256 v32_mask;
typedef __m256d v64_mask;
FC_INLINE v32_mask v32_greater(v32 a, v32 b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
FC_INLINE v64_mask v64_greater(v64 a, v64 b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }
FC_INLINE v32_mask v32_no_order(v32 a, v32 b) { return _mm256_cmp_ps(a, b, _CMP_EQ_UQ); }
FC_INLINE v64_mask v64_no_order(v64 a, v64 b) { return _mm256_cmp_pd(a, b, _CMP_EQ_UQ); }
FC_INLINE v32_mask v32_is_nan(v32 a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
FC_INLINE v64_mask v64_is_nan(v64 a) { return _mm256_cmp_pd(a, a, _CMP_UNORD_Q); }
FC_INLINE v32_mask v32_or(v32_mask a, v32_mask b) { return _mm256_or_ps(a, b); }
FC_INLINE v64_mask v64_or(v64_mask a, v64_mask b) { return _mm256_or_pd(a, b); }
FC_INLINE v32_mask v32_and(v32_mask a, v32_mask b) { return _mm256_and_ps(a, b); }
FC_INLINE v64_mask v64_and(v64_mask a, v64_mask b) { return _mm256_and_pd(a, b); }
FC_INLINE unsigned v32_bits(v32_mask mask) { return (unsigned)_mm256_movemask_ps(mask); }
FC_INLINE unsigned v64_bits(v64_mask mask) { return (unsigned)_mm256_movemask_pd(mask); }
FC_INLINE v32_mask v32_from_bits(unsigned set)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), all = _mm256_set1_epi32((int)set);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, bit), bit));
}
FC_INLINE v64_mask v64_from_bits(unsigned set)
{
    const __m256i bit = _mm256_setr_epi64x(1, 2, 4, 8), all = _mm256_set1_epi64x((long long)set);
    return _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(all, bit), bit));
}
FC_INLINE v32 v32_select(v32_mask mask, v32 a, v32 b) { return _mm256_blendv_ps(b, a, mask); }
FC_INLINE v64 v64_select(v64_mask mask, v64 a, v64 b) { return _mm256_blendv_pd(b, a, mask); }
FC_INLINE v32 v32_negate_where(v32_mask mask, v32 a)
{
    return _mm256_xor_ps(a, _mm256_and_ps(mask, _mm256_set1_ps(-0.0f)));
}
FC_INLINE v64 v64_negate_where(v64_mask mask, v64 a)
{
    return _mm256_xor_pd(a, _mm256_and_pd(mask, _mm256_set1_pd(-0.0)));
}
FC_INLINE v32 v32_abs(v32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
FC_INLINE v64 v64_abs(v64 a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
FC_INLINE v32 v32_max_nan(v32 a, v32 b) { return _mm256_or_ps(_mm256_max_ps(a, b), _mm256_cmp_ps(a, b, _CMP_UNORD_Q)); }
FC_INLINE v64 v64_max_nan(v64 a, v64 b) { return _mm256_or_pd(_mm256_max_pd(a, b), _mm256_cmp_pd(a, b, _CMP_UNORD_Q)); }

FC_INLINE v32 v32_quarters_0213(v32 a)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(a), 0xD8));
}
FC_INLINE v32 v32_pick_even(v32 a, v32 b) { return _mm256_shuffle_ps(a, b, 0x88); }
FC_INLINE v64 v64_pick_even(v64 a, v64 b) { return _mm256_unpacklo_pd(a, b); }
FC_INLINE v32 v32_pick_odd(v32 a, v32 b) { return _mm256_shuffle_ps(a, b, 0xDD); }
FC_INLINE v64 v64_pick_odd(v64 a, v64 b) { return _mm256_unpackhi_pd(a, b); }
FC_INLINE v32 v32_picked(v32 a) { return v32_quarters_0213(a); }
FC_INLINE v64 v64_picked(v64 a) { return _mm256_permute4x64_pd(a, 0xD8); }
FC_INLINE v32 v32_even(v32 a, v32 b) { return v32_picked(v32_pick_even(a, b)); }
FC_INLINE v64 v64_even(v64 a, v64 b) { return v64_picked(v64_pick_even(a, b)); }
FC_INLINE v32 v32_odd(v32 a, v32 b) { return v32_picked(v32_pick_odd(a, b)); }
FC_INLINE v64 v64_odd(v64 a, v64 b) { return v64_picked(v64_pick_odd(a, b)); }
FC_INLINE v32 v32_every_third(v32 a, v32 b, v32 c)
{
    /* a's lanes 0, 3, 6, b's 1, 4, 7 and c's 2, 5 meet nowhere. */
    const __m256 mixed = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x92), c, 0x24);
    return _mm256_permutevar8x32_ps(mixed, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
}
FC_INLINE v64 v64_every_third(v64 a, v64 b, v64 c)
{
    /* Nor do a's lanes 0, 3, b's 2 and c's 1. */
    const __m256d mixed = _mm256_blend_pd(_mm256_blend_pd(a, b, 0x4), c, 0x2);
    return _mm256_permute4x64_pd(mixed, 0x6C);
}
FC_INLINE v32 v32_zip_low(v32 a, v32 b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}
FC_INLINE v64 v64_zip_low(v64 a, v64 b)
{
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x20);
}
FC_INLINE v32 v32_zip_high(v32 a, v32 b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}
FC_INLINE v64 v64_zip_high(v64 a, v64 b)
{
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x31);
}

FC_INLINE void v32_store_index(int64_t *p, v32 a, int64_t base)
{
    const __m256i i = _mm256_cvtps_epi32(a), origin = _mm256_set1_epi64x(base);
    const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(i));
    const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(i, 1));
    _mm256_storeu_si256((__m256i *)p, _mm256_add_epi64(low, origin));
    _mm256_storeu_si256((__m256i *)(p + 4), _mm256_add_epi64(high, origin));
}
FC_INLINE void v64_store_index(int64_t *p, v64 a, int64_t base)
{
    const __m256i i = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(a));
    _mm256_storeu_si256((__m256i *)p, _mm256_add_epi64(i, _mm256_set1_epi64x(base)));
}

FC_INLINE v32_mask v32_range(ptrdiff_t begin, ptrdiff_t end)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(clamp_lane(begin)), lane);
    const __m256i until = _mm256_cmpgt_epi32(_mm256_set1_epi32(clamp_lane(end)), lane);
    return _mm256_castsi256_ps(_mm256_andnot_si256(before, until));
}
FC_INLINE v64_mask v64_range(ptrdiff_t begin, ptrdiff_t end)
{
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    const __m256i before = _mm256_cmpgt_epi64(_mm256_set1_epi64x(begin), lane);
    const __m256i until = _mm256_cmpgt_epi64(_mm256_set1_epi64x(end), lane);
    return _mm256_castsi256_pd(_mm256_andnot_si256(before, until));
}
FC_INLINE v32 v32_load_where(v32_mask mask, const float *p) { return _mm256_maskload_ps(p, _mm256_castps_si256(mask)); }
FC_INLINE v64 v64_load_where(v64_mask mask, const double *p) { return _mm256_maskload_pd(p, _mm256_castpd_si256(mask)); }
/* In pieces: masked stores of AVX2 take a dozen cycles on some processors. */
FC_INLINE void v32_store_first(float *p, v32 a, ptrdiff_t count)
{
    __m128 rest = _mm256_castps256_ps128(a);
    if (count & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps(a, 1);
        p += 4;
    }
    if (count & 2) {
        _mm_storel_pi((__m64 *)p, rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (count & 1) _mm_store_ss(p, rest);
}
FC_INLINE void v64_store_first(double *p, v64 a, ptrdiff_t count)
{
    __m128d rest = _mm256_castpd256_pd128(a);
    if (count & 2) {
        _mm_storeu_pd(p, rest);
        rest = _mm256_extractf128_pd(a, 1);
        p += 2;
    }
    if (count & 1) _mm_store_sd(p, rest);
}

/* dst[j*dst_row + i] = src[i*src_row + j] over a square of LANES x LANES. */
FC_INLINE void v32_transpose(float *dst, ptrdiff_t dst_row, const float *src, ptrdiff_t src_row)
{
    __m256 r[8], s[8];
    FC_UNROLL
    for (int i = 0; i < 4; i++) {
        /* Halves of rows i and i+4 side by side, so that no step crosses lanes. */
        const float *low = src + i * src_row, *high = src + (i + 4) * src_row;
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
        r[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low + 4)), _mm_loadu_ps(high + 4), 1);
    }
    FC_UNROLL
    for (int h = 0; h < 8; h += 4) {
        s[h + 0] = _mm256_unpacklo_ps(r[h], r[h + 1]);
        s[h + 1] = _mm256_unpackhi_ps(r[h], r[h + 1]);
        s[h + 2] = _mm256_unpacklo_ps(r[h + 2], r[h + 3]);
        s[h + 3] = _mm256_unpackhi_ps(r[h + 2], r[h + 3]);
        _mm256_storeu_ps(dst + (h + 0) * dst_row, _mm256_shuffle_ps(s[h], s[h + 2], 0x44));
        _mm256_storeu_ps(dst + (h + 1) * dst_row, _mm256_shuffle_ps(s[h], s[h + 2], 0xEE));
        _mm256_storeu_ps(dst + (h + 2) * dst_row, _mm256_shuffle_ps(s[h + 1], s[h + 3], 0x44));
        _mm256_storeu_ps(dst + (h + 3) * dst_row, _mm256_shuffle_ps(s[h + 1], s[h + 3], 0xEE));
    }
}

FC_INLINE void v64_transpose(double *dst, ptrdiff_t dst_row, const double *src, ptrdiff_t src_row)
{
    __m256d r[4];
    FC_UNROLL
    for (int i = 0; i < 2; i++) {
        const double *low = src + i * src_row, *high = src + (i + 2) * src_row;
        r[i] = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(low)), _mm_loadu_pd(high), 1);
        r[i + 2] = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(low + 2)), _mm_loadu_pd(high + 2), 1);
    }
    _mm256_storeu_pd(dst, _mm256_unpacklo_pd(r[0], r[1]));
    _mm256_storeu_pd(dst + dst_row, _mm256_unpackhi_pd(r[0], r[1]));
    _mm256_storeu_pd(dst + 2 * dst_row, _mm256_unpacklo_pd(r[2], r[3]));
    _mm256_storeu_pd(dst + 3 * dst_row, _mm256_unpackhi_pd(r[2], r[3]));
}
