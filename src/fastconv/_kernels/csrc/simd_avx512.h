/* AVX-512 F/BW/DQ/VL: 16 floats or 8 doubles, 32 registers. */
#include <immintrin.h>

#include "simd.h"

enum { LANES32 = 16, LANES64 = 8 };
#define TILE_ROWS 12

typedef __m512 v32;
typedef __m512d v64;

FC_INLINE v32 v32_load(const float *p) { return _mm512_loadu_ps(p); }
FC_INLINE v64 v64_load(const double *p) { return _mm512_loadu_pd(p); }
FC_INLINE void v32_store(float *p, v32 a) { _mm512_storeu_ps(p, a); }
FC_INLINE void v64_store(double *p, v64 a) { _mm512_storeu_pd(p, a); }
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
        _mm512_storeu_ps(dst + (0 + j) * dst_row, _mm512_shuffle_f32x4(a, b, 0x88));
        _mm512_storeu_ps(dst + (4 + j) * dst_row, _mm512_shuffle_f32x4(a, b, 0xDD));
        _mm512_storeu_ps(dst + (8 + j) * dst_row, _mm512_shuffle_f32x4(c, d, 0x88));
        _mm512_storeu_ps(dst + (12 + j) * dst_row, _mm512_shuffle_f32x4(c, d, 0xDD));
    }
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
        _mm512_storeu_pd(dst + (0 + j) * dst_row, _mm512_shuffle_f64x2(a, b, 0x88));
        _mm512_storeu_pd(dst + (2 + j) * dst_row, _mm512_shuffle_f64x2(a, b, 0xDD));
        _mm512_storeu_pd(dst + (4 + j) * dst_row, _mm512_shuffle_f64x2(c, d, 0x88));
        _mm512_storeu_pd(dst + (6 + j) * dst_row, _mm512_shuffle_f64x2(c, d, 0xDD));
    }
}
