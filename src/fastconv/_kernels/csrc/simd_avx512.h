/* AVX-512 F/BW/DQ/VL: 16 floats or 8 doubles, 32 registers. */
#include <immintrin.h>

#include "simd.h"

enum { LANES32 = 16, LANES64 = 8 };
#define TILE_ROWS 14
#define NARROW_ROWS 16

typedef __m512 v32;
typedef __m512d v64;

FC_INLINE v32 v32_load(const float *p) { return _mm512_loadu_ps(p); }
FC_INLINE v64 v64_load(const double *p) { return _mm512_loadu_pd(p); }
FC_INLINE void v32_store(float *p, v32 a) { _mm512_storeu_ps(p, a); }
FC_INLINE void v64_store(double *p, v64 a) { _mm512_storeu_pd(p, a); }
FC_INLINE void v32_stream(float *p, v32 a) { _mm512_stream_ps(p, a); }
FC_INLINE void v64_stream(double *p, v64 a) { _mm512_stream_pd(p, a); }
FC_INLINE v32 v32_zero(void) { return _mm512_setzero_ps(); }
FC_INLINE v64 v64_zero(void) { return _mm512_setzero_pd(); }
FC_INLINE v32 v32_set1(float a) { return _mm512_set1_ps(a); }
FC_INLINE v64 v64_set1(double a) { return _mm512_set1_pd(a); }
FC_INLINE v32 v32_add(v32 a, v32 b) { return _mm512_add_ps(a, b); }
FC_INLINE v64 v64_add(v64 a, v64 b) { return _mm512_add_pd(a, b); }
FC_INLINE v32 v32_sub(v32 a, v32 b) { return _mm512_sub_ps(a, b); }
FC_INLINE v64 v64_sub(v64 a, v64 b) { return _mm512_sub_pd(a, b); }
FC_INLINE v32 v32_mul(v32 a, v32 b) { return _mm512_mul_ps(a, b); }
FC_INLINE v64 v64_mul(v64 a, v64 b) { return _mm512_mul_pd(a, b); }
FC_INLINE v32 v32_fma(v32 a, v32 b, v32 c) { return _mm512_fmadd_ps(a, b, c); }
FC_INLINE v64 v64_fma(v64 a, v64 b, v64 c) { return _mm512_fmadd_pd(a, b, c); }
/* a > b ? a : b, so b where either is NaN. */
FC_INLINE v32 v32_max(v32 a, v32 b) { return _mm512_max_ps(a, b); }
FC_INLINE v64 v64_max(v64 a, v64 b) { return _mm512_max_pd(a, b); }
FC_INLINE v32 v32_div(v32 a, v32 b) { return _mm512_div_ps(a, b); }
FC_INLINE v64 v64_div(v64 a, v64 b) { return _mm512_div_pd(a, b); }
FC_INLINE v32 v32_sqrt(v32 a) { return _mm512_sqrt_ps(a); }
FC_INLINE v64 v64_sqrt(v64 a) { return _mm512_sqrt_pd(a); }
FC_INLINE v32 v32_round(v32 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FC_INLINE v64 v64_round(v64 a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FC_INLINE v32 v32_pow2(v32 k)
{
    const __m512i biased = _mm512_castps_si512(_mm512_add_ps(k, _mm512_set1_ps(FC_ROUNDER32 + FC_BIAS32)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, FC_MANTISSA32));
}
FC_INLINE v64 v64_pow2(v64 k)
{
    const __m512i biased = _mm512_castpd_si512(_mm512_add_pd(k, _mm512_set1_pd(FC_ROUNDER64 + FC_BIAS64)));
    return _mm512_castsi512_pd(_mm512_slli_epi64(biased, FC_MANTISSA64));
}

FC_INLINE v32 v32_from_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
FC_INLINE void v32_to_half(uint16_t *p, v32 a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

FC_INLINE v32 v32_from_bytes(const uint8_t *p)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return _mm512_maskz_mov_ps(_mm_test_epi8_mask(bytes, bytes), _mm512_set1_ps(1));
}
FC_INLINE v64 v64_from_bytes(const uint8_t *p)
{
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)p);
    return _mm512_maskz_mov_pd((__mmask8)_mm_test_epi8_mask(bytes, bytes), _mm512_set1_pd(1));
}

/* Comparisons: one bit a lane. Meanings in simd.h. */
typedef __mmask16 v32_mask;
typedef __mmask8 v64_mask;
FC_INLINE v32_mask v32_greater(v32 a, v32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
FC_INLINE v64_mask v64_greater(v64 a, v64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
FC_INLINE v32_mask v32_no_order(v32 a, v32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_UQ); }
FC_INLINE v64_mask v64_no_order(v64 a, v64 b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_UQ); }
FC_INLINE v32_mask v32_is_nan(v32 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
FC_INLINE v64_mask v64_is_nan(v64 a) { return _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q); }
FC_INLINE v32_mask v32_or(v32_mask a, v32_mask b) { return a | b; }
FC_INLINE v64_mask v64_or(v64_mask a, v64_mask b) { return a | b; }
FC_INLINE v32_mask v32_and(v32_mask a, v32_mask b) { return a & b; }
FC_INLINE v64_mask v64_and(v64_mask a, v64_mask b) { return a & b; }
FC_INLINE unsigned v32_bits(v32_mask mask) { return mask; }
FC_INLINE unsigned v64_bits(v64_mask mask) { return mask; }
FC_INLINE v32_mask v32_from_bits(unsigned set) { return (v32_mask)set; }
FC_INLINE v64_mask v64_from_bits(unsigned set) { return (v64_mask)set; }
FC_INLINE v32 v32_select(v32_mask mask, v32 a, v32 b) { return _mm512_mask_blend_ps(mask, b, a); }
FC_INLINE v64 v64_select(v64_mask mask, v64 a, v64 b) { return _mm512_mask_blend_pd(mask, b, a); }
FC_INLINE v32 v32_negate_where(v32_mask mask, v32 a) { return _mm512_mask_sub_ps(a, mask, _mm512_setzero_ps(), a); }
FC_INLINE v64 v64_negate_where(v64_mask mask, v64 a) { return _mm512_mask_sub_pd(a, mask, _mm512_setzero_pd(), a); }
FC_INLINE v32 v32_abs(v32 a) { return _mm512_abs_ps(a); }
FC_INLINE v64 v64_abs(v64 a) { return _mm512_abs_pd(a); }
FC_INLINE v32 v32_max_nan(v32 a, v32 b)
{
    return _mm512_mask_add_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q), a, b);
}
FC_INLINE v64 v64_max_nan(v64 a, v64 b)
{
    return _mm512_mask_add_pd(_mm512_max_pd(a, b), _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q), a, b);
}

/* Lanes of two vectors side by side: 0-15 (0-7) are a's, the rest b's. */
#define PICK32(a, b, ...) _mm512_permutex2var_ps(a, _mm512_setr_epi32(__VA_ARGS__), b)
#define PICK64(a, b, ...) _mm512_permutex2var_pd(a, _mm512_setr_epi64(__VA_ARGS__), b)
FC_INLINE v32 v32_even(v32 a, v32 b) { return PICK32(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30); }
FC_INLINE v64 v64_even(v64 a, v64 b) { return PICK64(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
FC_INLINE v32 v32_odd(v32 a, v32 b) { return PICK32(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31); }
FC_INLINE v64 v64_odd(v64 a, v64 b) { return PICK64(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
FC_INLINE v32 v32_zip_low(v32 a, v32 b) { return PICK32(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
FC_INLINE v64 v64_zip_low(v64 a, v64 b) { return PICK64(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
FC_INLINE v32 v32_zip_high(v32 a, v32 b) { return PICK32(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
FC_INLINE v64 v64_zip_high(v64 a, v64 b) { return PICK64(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
FC_INLINE v32 v32_every_third(v32 a, v32 b, v32 c)
{
    const __m512 two = PICK32(a, b, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0);
    return PICK32(two, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29);
}
FC_INLINE v64 v64_every_third(v64 a, v64 b, v64 c)
{
    const __m512d two = PICK64(a, b, 0, 3, 6, 9, 12, 15, 0, 0);
    return PICK64(two, c, 0, 1, 2, 3, 4, 5, 10, 13);
}
#undef PICK32
FC_INLINE v32 v32_pick_even(v32 a, v32 b) { return v32_even(a, b); }
FC_INLINE v64 v64_pick_even(v64 a, v64 b) { return v64_even(a, b); }
FC_INLINE v32 v32_pick_odd(v32 a, v32 b) { return v32_odd(a, b); }
FC_INLINE v64 v64_pick_odd(v64 a, v64 b) { return v64_odd(a, b); }
FC_INLINE v32 v32_picked(v32 a) { return a; }
FC_INLINE v64 v64_picked(v64 a) { return a; }
#undef PICK64

FC_INLINE void v32_store_index(int64_t *p, v32 a, int64_t base)
{
    const __m512i i = _mm512_cvtps_epi32(a), origin = _mm512_set1_epi64(base);
    const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(i));
    const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(i, 1));
    _mm512_storeu_si512(p, _mm512_add_epi64(low, origin));
    _mm512_storeu_si512(p + 8, _mm512_add_epi64(high, origin));
}
FC_INLINE void v64_store_index(int64_t *p, v64 a, int64_t base)
{
    _mm512_storeu_si512(p, _mm512_add_epi64(_mm512_cvtpd_epi64(a), _mm512_set1_epi64(base)));
}

#define FC_LOADS_INDICES
FC_INLINE v32 v32_load_index(const int64_t *p, int64_t base)
{
    const __m512i origin = _mm512_set1_epi64(base);
    const __m256 low = _mm512_cvtepi64_ps(_mm512_sub_epi64(_mm512_loadu_si512(p), origin));
    const __m256 high = _mm512_cvtepi64_ps(_mm512_sub_epi64(_mm512_loadu_si512(p + 8), origin));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
FC_INLINE v64 v64_load_index(const int64_t *p, int64_t base)
{
    return _mm512_cvtepi64_pd(_mm512_sub_epi64(_mm512_loadu_si512(p), _mm512_set1_epi64(base)));
}

FC_INLINE v32_mask v32_range(ptrdiff_t begin, ptrdiff_t end)
{
    return (v32_mask)(((1u << clamp_lane(end)) - 1) & ~((1u << clamp_lane(begin)) - 1));
}
FC_INLINE v64_mask v64_range(ptrdiff_t begin, ptrdiff_t end)
{
    return (v64_mask)(((1u << clamp_lane(end)) - 1) & ~((1u << clamp_lane(begin)) - 1));
}
FC_INLINE v32 v32_load_where(v32_mask mask, const float *p) { return _mm512_maskz_loadu_ps(mask, p); }
FC_INLINE v64 v64_load_where(v64_mask mask, const double *p) { return _mm512_maskz_loadu_pd(mask, p); }
FC_INLINE void v32_store_first(float *p, v32 a, ptrdiff_t count) { _mm512_mask_storeu_ps(p, v32_range(0, count), a); }
FC_INLINE void v64_store_first(double *p, v64 a, ptrdiff_t count) { _mm512_mask_storeu_pd(p, v64_range(0, count), a); }

#define FC_STORES_APART
FC_INLINE void v32_store_apart(float *p, v32 a, ptrdiff_t count)
{
    _mm512_mask_storeu_ps(p, v32_range(0, 2 * count) & 0x5555, v32_zip_low(a, a));
    _mm512_mask_storeu_ps(p + 16, v32_range(0, 2 * count - 16) & 0x5555, v32_zip_high(a, a));
}
FC_INLINE void v64_store_apart(double *p, v64 a, ptrdiff_t count)
{
    _mm512_mask_storeu_pd(p, v64_range(0, 2 * count) & 0x55, v64_zip_low(a, a));
    _mm512_mask_storeu_pd(p + 8, v64_range(0, 2 * count - 8) & 0x55, v64_zip_high(a, a));
}

/* dst[j*dst_row + i] = src[i*src_row + j] over a square of LANES x LANES. */
FC_INLINE void v32_transpose(float *dst, ptrdiff_t dst_row, const float *src, ptrdiff_t src_row)
{
    __m512 r[16], s[16];
    FC_UNROLL
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(src + i * src_row);
    FC_UNROLL
    for (int i = 0; i < 16; i += 4) {
        __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        s[i + 0] = _mm512_shuffle_ps(a, c, 0x44);
        s[i + 1] = _mm512_shuffle_ps(a, c, 0xEE);
        s[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        s[i + 3] = _mm512_shuffle_ps(b, d, 0xEE);
    }
    /* s[4q + j], quarter p: columns 4p + j of rows 4q .. 4q+3. */
    FC_UNROLL
    for (int j = 0; j < 4; j++) {
        __m512 a = _mm512_shuffle_f32x4(s[j], s[4 + j], 0x44), b = _mm512_shuffle_f32x4(s[8 + j], s[12 + j], 0x44);
        __m512 c = _mm512_shuffle_f32x4(s[j], s[4 + j], 0xEE), d = _mm512_shuffle_f32x4(s[8 + j], s[12 + j], 0xEE);
        r[0 + j] = _mm512_shuffle_f32x4(a, b, 0x88);
        r[4 + j] = _mm512_shuffle_f32x4(a, b, 0xDD);
        r[8 + j] = _mm512_shuffle_f32x4(c, d, 0x88);
        r[12 + j] = _mm512_shuffle_f32x4(c, d, 0xDD);
    }
    FC_UNROLL
    for (int i = 0; i < 16; i++) _mm512_storeu_ps(dst + i * dst_row, r[i]);
}

FC_INLINE void v64_transpose(double *dst, ptrdiff_t dst_row, const double *src, ptrdiff_t src_row)
{
    __m512d r[8], s[8];
    FC_UNROLL
    for (int i = 0; i < 8; i++) r[i] = _mm512_loadu_pd(src + i * src_row);
    FC_UNROLL
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
    }
    /* s[2q + j], quarter p: columns 2p + j of rows 2q, 2q+1. */
    FC_UNROLL
    for (int j = 0; j < 2; j++) {
        __m512d a = _mm512_shuffle_f64x2(s[j], s[2 + j], 0x44), b = _mm512_shuffle_f64x2(s[4 + j], s[6 + j], 0x44);
        __m512d c = _mm512_shuffle_f64x2(s[j], s[2 + j], 0xEE), d = _mm512_shuffle_f64x2(s[4 + j], s[6 + j], 0xEE);
        r[0 + j] = _mm512_shuffle_f64x2(a, b, 0x88);
        r[2 + j] = _mm512_shuffle_f64x2(a, b, 0xDD);
        r[4 + j] = _mm512_shuffle_f64x2(c, d, 0x88);
        r[6 + j] = _mm512_shuffle_f64x2(c, d, 0xDD);
    }
    FC_UNROLL
    for (int i = 0; i < 8; i++) _mm512_storeu_pd(dst + i * dst_row, r[i]);
}
