/* AVX2 + FMA: 8 floats or 4 doubles, 16 registers. */
#include <immintrin.h>

#include "simd.h"

enum { LANES32 = 8, LANES64 = 4 };
#define TILE_ROWS 6

typedef __m256 v32;
typedef __m256d v64;

FC_INLINE v32 v32_load(const float *p) { return _mm256_loadu_ps(p); }
FC_INLINE v64 v64_load(const double *p) { return _mm256_loadu_pd(p); }
FC_INLINE void v32_store(float *p, v32 a) { _mm256_storeu_ps(p, a); }
FC_INLINE void v64_store(double *p, v64 a) { _mm256_storeu_pd(p, a); }
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
