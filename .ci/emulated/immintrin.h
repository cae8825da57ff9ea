/* AVX-512 for a processor with AVX2: `.ci/emulate` compiles isa_avx512.c with this instead of GCC's own header.
 *
 * What simd_avx512.h uses is here under its own name, each vector as two halves; Intel's manual has what each does.
 * A mask is a number. As on a processor, lanes that are masked off are neither read nor written, stream stores end the
 * program where the address isn't aligned, and a*b + c is rounded once.
 */
#ifndef _IMMINTRIN_H_INCLUDED
#define _IMMINTRIN_H_INCLUDED /* GCC's parts of it want to see this; those of AVX-512 are left out */
#include <x86gprintrin.h>

#include <smmintrin.h>

#include <avxintrin.h>

#include <avx2intrin.h>

#include <f16cintrin.h>
#include <fmaintrin.h>
#include <stdint.h>

#define __m512 emulated_m512
#define __m512d emulated_m512d
#define __m512i emulated_m512i
#define INLINE static inline __attribute__((always_inline))

typedef struct { __m256 low, high; } __m512;
typedef struct { __m256d low, high; } __m512d;
typedef struct { __m256i low, high; } __m512i;
typedef uint8_t __mmask8;
typedef uint16_t __mmask16;

/* ---- the same in both halves ---- */

#define OF_TWO(type, name)                                                     \
    INLINE type _mm512_##name(type a, type b)                                  \
    {                                                                          \
        return (type){_mm256_##name(a.low, b.low), _mm256_##name(a.high, b.high)}; \
    }
OF_TWO(__m512, add_ps) OF_TWO(__m512d, add_pd) OF_TWO(__m512i, add_epi64)
OF_TWO(__m512, sub_ps) OF_TWO(__m512d, sub_pd) OF_TWO(__m512i, sub_epi64)
OF_TWO(__m512, mul_ps) OF_TWO(__m512d, mul_pd)
OF_TWO(__m512, div_ps) OF_TWO(__m512d, div_pd)
OF_TWO(__m512, max_ps) OF_TWO(__m512d, max_pd)
OF_TWO(__m512, unpacklo_ps) OF_TWO(__m512d, unpacklo_pd)
OF_TWO(__m512, unpackhi_ps) OF_TWO(__m512d, unpackhi_pd)

#define OF_ONE(type, to, name, half) \
    INLINE to _mm512_##name(type a) { return (to){half(a.low), half(a.high)}; }
OF_ONE(__m512, __m512, sqrt_ps, _mm256_sqrt_ps)
OF_ONE(__m512d, __m512d, sqrt_pd, _mm256_sqrt_pd)
OF_ONE(__m512, __m512i, castps_si512, _mm256_castps_si256)
OF_ONE(__m512d, __m512i, castpd_si512, _mm256_castpd_si256)
OF_ONE(__m512i, __m512, castsi512_ps, _mm256_castsi256_ps)
OF_ONE(__m512i, __m512d, castsi512_pd, _mm256_castsi256_pd)
OF_ONE(__m512, __m512i, cvtps_epi32, _mm256_cvtps_epi32)

#define OF_NUMBER(type, number, name, half) \
    INLINE type _mm512_##name(number a) { return (type){half(a), half(a)}; }
OF_NUMBER(__m512, float, set1_ps, _mm256_set1_ps)
OF_NUMBER(__m512d, double, set1_pd, _mm256_set1_pd)
OF_NUMBER(__m512i, long long, set1_epi64, _mm256_set1_epi64x)
INLINE __m512 _mm512_setzero_ps(void) { return _mm512_set1_ps(0); }
INLINE __m512d _mm512_setzero_pd(void) { return _mm512_set1_pd(0); }

INLINE __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c)
{
    return (__m512){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
INLINE __m512d _mm512_fmadd_pd(__m512d a, __m512d b, __m512d c)
{
    return (__m512d){_mm256_fmadd_pd(a.low, b.low, c.low), _mm256_fmadd_pd(a.high, b.high, c.high)};
}
INLINE __m512 _mm512_abs_ps(__m512 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (__m512){_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
INLINE __m512d _mm512_abs_pd(__m512d a)
{
    const __m256d sign = _mm256_set1_pd(-0.0);
    return (__m512d){_mm256_andnot_pd(sign, a.low), _mm256_andnot_pd(sign, a.high)};
}

/* Macros where an operand is part of the instruction. */
#define _mm512_roundscale_ps(a, how) ((__m512){_mm256_round_ps((a).low, how), _mm256_round_ps((a).high, how)})
#define _mm512_roundscale_pd(a, how) ((__m512d){_mm256_round_pd((a).low, how), _mm256_round_pd((a).high, how)})
#define _mm512_slli_epi32(a, bits) ((__m512i){_mm256_slli_epi32((a).low, bits), _mm256_slli_epi32((a).high, bits)})
#define _mm512_slli_epi64(a, bits) ((__m512i){_mm256_slli_epi64((a).low, bits), _mm256_slli_epi64((a).high, bits)})
#define _mm512_shuffle_ps(a, b, lanes) \
    ((__m512){_mm256_shuffle_ps((a).low, (b).low, lanes), _mm256_shuffle_ps((a).high, (b).high, lanes)})

/* ---- memory ---- */

INLINE __m512 _mm512_loadu_ps(const float *p) { return (__m512){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE __m512d _mm512_loadu_pd(const double *p) { return (__m512d){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
INLINE __m512i _mm512_loadu_si512(const void *p)
{
    return (__m512i){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
INLINE void _mm512_storeu_ps(float *p, __m512 a) { _mm256_storeu_ps(p, a.low), _mm256_storeu_ps(p + 8, a.high); }
INLINE void _mm512_storeu_pd(double *p, __m512d a) { _mm256_storeu_pd(p, a.low), _mm256_storeu_pd(p + 4, a.high); }
INLINE void _mm512_storeu_si512(void *p, __m512i a)
{
    _mm256_storeu_si256((__m256i *)p, a.low);
    _mm256_storeu_si256((__m256i *)p + 1, a.high);
}
INLINE void must_be_aligned(const void *p)
{
    if ((uintptr_t)p % 64) __builtin_trap();
}
INLINE void _mm512_stream_ps(float *p, __m512 a)
{
    must_be_aligned(p);
    _mm256_stream_ps(p, a.low), _mm256_stream_ps(p + 8, a.high);
}
INLINE void _mm512_stream_pd(double *p, __m512d a)
{
    must_be_aligned(p);
    _mm256_stream_pd(p, a.low), _mm256_stream_pd(p + 4, a.high);
}

/* ---- masks ---- */

/* Lanes of 32 (64) bits, all ones where the bit is set. */
INLINE __m256i lanes32(unsigned bits)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), bit), bit);
}
INLINE __m256i lanes64(unsigned bits)
{
    const __m256i bit = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits), bit), bit);
}

#define _mm512_cmp_ps_mask(a, b, how)                                           \
    ((__mmask16)(_mm256_movemask_ps(_mm256_cmp_ps((a).low, (b).low, how)) |     \
                 _mm256_movemask_ps(_mm256_cmp_ps((a).high, (b).high, how)) << 8))
#define _mm512_cmp_pd_mask(a, b, how)                                           \
    ((__mmask8)(_mm256_movemask_pd(_mm256_cmp_pd((a).low, (b).low, how)) |      \
                _mm256_movemask_pd(_mm256_cmp_pd((a).high, (b).high, how)) << 4))
INLINE __mmask16 _mm_test_epi8_mask(__m128i a, __m128i b)
{
    return (__mmask16)~_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(a, b), _mm_setzero_si128()));
}

INLINE __m512 _mm512_mask_blend_ps(__mmask16 mask, __m512 a, __m512 b)
{
    return (__m512){_mm256_blendv_ps(a.low, b.low, _mm256_castsi256_ps(lanes32(mask))),
                    _mm256_blendv_ps(a.high, b.high, _mm256_castsi256_ps(lanes32(mask >> 8)))};
}
INLINE __m512d _mm512_mask_blend_pd(__mmask8 mask, __m512d a, __m512d b)
{
    return (__m512d){_mm256_blendv_pd(a.low, b.low, _mm256_castsi256_pd(lanes64(mask))),
                     _mm256_blendv_pd(a.high, b.high, _mm256_castsi256_pd(lanes64(mask >> 4)))};
}
#define _mm512_maskz_mov_ps(mask, a) _mm512_mask_blend_ps(mask, _mm512_setzero_ps(), a)
#define _mm512_maskz_mov_pd(mask, a) _mm512_mask_blend_pd(mask, _mm512_setzero_pd(), a)
#define _mm512_mask_add_ps(other, mask, a, b) _mm512_mask_blend_ps(mask, other, _mm512_add_ps(a, b))
#define _mm512_mask_add_pd(other, mask, a, b) _mm512_mask_blend_pd(mask, other, _mm512_add_pd(a, b))
#define _mm512_mask_sub_ps(other, mask, a, b) _mm512_mask_blend_ps(mask, other, _mm512_sub_ps(a, b))
#define _mm512_mask_sub_pd(other, mask, a, b) _mm512_mask_blend_pd(mask, other, _mm512_sub_pd(a, b))

INLINE __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const float *p)
{
    return (__m512){_mm256_maskload_ps(p, lanes32(mask)), _mm256_maskload_ps(p + 8, lanes32(mask >> 8))};
}
INLINE __m512d _mm512_maskz_loadu_pd(__mmask8 mask, const double *p)
{
    return (__m512d){_mm256_maskload_pd(p, lanes64(mask)), _mm256_maskload_pd(p + 4, lanes64(mask >> 4))};
}
INLINE void _mm512_mask_storeu_ps(float *p, __mmask16 mask, __m512 a)
{
    _mm256_maskstore_ps(p, lanes32(mask), a.low), _mm256_maskstore_ps(p + 8, lanes32(mask >> 8), a.high);
}
INLINE void _mm512_mask_storeu_pd(double *p, __mmask8 mask, __m512d a)
{
    _mm256_maskstore_pd(p, lanes64(mask), a.low), _mm256_maskstore_pd(p + 4, lanes64(mask >> 4), a.high);
}

/* ---- from half to half ---- */

/* Lanes of a, then those of b, by their numbers. */
INLINE __m512 _mm512_permutex2var_ps(__m512 a, __m512i numbers, __m512 b)
{
    float from[32], to[16];
    int32_t number[16];
    _mm512_storeu_ps(from, a), _mm512_storeu_ps(from + 16, b), _mm512_storeu_si512(number, numbers);
    for (int i = 0; i < 16; i++) to[i] = from[number[i] & 31];
    return _mm512_loadu_ps(to);
}
INLINE __m512d _mm512_permutex2var_pd(__m512d a, __m512i numbers, __m512d b)
{
    double from[16], to[8];
    int64_t number[8];
    _mm512_storeu_pd(from, a), _mm512_storeu_pd(from + 8, b), _mm512_storeu_si512(number, numbers);
    for (int i = 0; i < 8; i++) to[i] = from[number[i] & 15];
    return _mm512_loadu_pd(to);
}
#define _mm512_setr_epi32(...) _mm512_loadu_si512(((const int32_t[16]){__VA_ARGS__}))
#define _mm512_setr_epi64(...) _mm512_loadu_si512(((const int64_t[8]){__VA_ARGS__}))

/* Quarters: two of a and two of b, a pair of bits for each. */
INLINE __m512d _mm512_shuffle_f64x2(__m512d a, __m512d b, const int quarters)
{
    double from[16];
    _mm512_storeu_pd(from, a), _mm512_storeu_pd(from + 8, b);
#define QUARTER(i) _mm_loadu_pd(from + (i) / 2 * 8 + (quarters >> 2 * (i) & 3) * 2)
    return (__m512d){_mm256_set_m128d(QUARTER(1), QUARTER(0)), _mm256_set_m128d(QUARTER(3), QUARTER(2))};
#undef QUARTER
}
INLINE __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, const int quarters)
{
    const __m512d left = _mm512_castsi512_pd(_mm512_castps_si512(a));
    const __m512d right = _mm512_castsi512_pd(_mm512_castps_si512(b));
    return _mm512_castsi512_ps(_mm512_castpd_si512(_mm512_shuffle_f64x2(left, right, quarters)));
}

INLINE __m256i _mm512_castsi512_si256(__m512i a) { return a.low; }
#define _mm512_extracti64x4_epi64(a, half) ((half) ? (a).high : (a).low)
INLINE __m512 _mm512_castps256_ps512(__m256 a) { return (__m512){a, a}; }
#define _mm512_insertf32x8(a, b, half) ((half) ? (__m512){(a).low, b} : (__m512){b, (a).high})

/* ---- conversions ---- */

INLINE __m512i _mm512_cvtepi32_epi64(__m256i a)
{
    return (__m512i){_mm256_cvtepi32_epi64(_mm256_castsi256_si128(a)),
                     _mm256_cvtepi32_epi64(_mm256_extracti128_si256(a, 1))};
}
#define PD_OF_FOUR(a) __builtin_convertvector((__v4di)(a), __v4df)
#define PS_OF_FOUR(a) __builtin_convertvector((__v4di)(a), __v4sf)
OF_ONE(__m512i, __m512d, cvtepi64_pd, PD_OF_FOUR)
INLINE __m256 _mm512_cvtepi64_ps(__m512i a) { return _mm256_set_m128(PS_OF_FOUR(a.high), PS_OF_FOUR(a.low)); }
INLINE __m512i _mm512_cvtpd_epi64(__m512d a)
{
    double from[8];
    int64_t to[8];
    _mm512_storeu_pd(from, a);
    for (int i = 0; i < 8; i++) to[i] = _mm_cvtsd_si64(_mm_set_sd(from[i]));
    return _mm512_loadu_si512(to);
}
INLINE __m512 _mm512_cvtph_ps(__m256i a)
{
    return (__m512){_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
}
#define _mm512_cvtps_ph(a, how) _mm256_set_m128i(_mm256_cvtps_ph((a).high, how), _mm256_cvtps_ph((a).low, how))

#undef INLINE
#undef OF_ONE
#undef OF_TWO
#undef OF_NUMBER
#undef PD_OF_FOUR
#undef PS_OF_FOUR
#endif
