/* Vector operations under one name for both dtypes and all instruction sets.
 *
 * A simd_<isa>.h defines, for f32 and f64: the type v32/v64, LANES32/LANES64 and
 * v32_load, v32_store (both unaligned), v32_set1, v32_fma(a, b, c) = a*b + c, ...
 * stream stores to a multiple of a vector's bytes, past the cache; fc_streamed() of kernels.h must follow in the end.
 * Comparisons give a v32_mask: greater(a, b) where a > b, no_order(a, b) where neither a > b nor a < b (equal,
 * or a NaN among them), is_nan(a); select(mask, a, b) is a where the mask is set, else b.
 * max_nan(a, b) is NaN where a or b is. even(a, b), odd(a, b) are the even and odd lanes of a followed by b;
 * pick_even and pick_odd are the same lanes in an order of the machine's own, which picked(v) sorts, and makes.
 * every_third(a, b, c) are the lanes 0, 3, 6, ... of the three side by side.
 * zip_low(a, b), zip_high(a, b) the halves of a[0], b[0], a[1], b[1], ...
 * store_index(p, a, base) stores base + a[i], integers of absolute value below 2^24 (float) or 2^31 (double).
 * round(a) is the integer nearest to a, |a| < 2^22 (float) or 2^51 (double); pow2(k) is 2^k for an integer k whose
 * power is a normal number.
 * range(begin, end) is the mask of the lanes begin <= i < end (any integers); load_where(mask, p) is p[i] where
 * the mask is set and 0 in the other lanes, for which it reads nothing; store_first(p, a, count) stores the
 * first count < LANES lanes. Where FC_STORES_APART is defined, store_apart(p, a, count) stores the first count <= LANES
 * lanes into every other element, and leaves those between them alone.
 * Where FC_LOADS_INDICES is defined, load_index(p, base) is p[i] - base, rounded.
 * bits(mask) has bit i set where lane i is, and from_bits(set) is the mask of a number's lowest bits.
 * from_bytes(p) is 1 in the lanes whose byte isn't 0, else 0.
 * transpose(dst, dst_row, src, src_row) writes dst's rows from the first to the last, so that of rows that overlap the
 * next one stays.
 * v32_from_half and v32_to_half convert a vector of halves in memory.
 * Each file is compiled twice, with FC_DTYPE defined as 32 and as 64: bodies say T, VEC, LANES, V(load)(p) and FC(name)
 * and so serve both.
 */
#ifndef FASTCONV_SIMD_H
#define FASTCONV_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "compiler.h"

/* Bytes between what is read or written and what is fetched for later. */
enum { FC_AHEAD = 2048 };

/* Ask for lines in the order in which they lie in memory. Several rows that are read or written side by side are no
 * stream that the processor's own prefetching follows; what runs before them line after line is. */
FC_INLINE void fc_fetch(const void *from, const ptrdiff_t bytes)
{
    for (ptrdiff_t at = 0; at < bytes; at += 64) FC_PREFETCH((const char *)from + FC_AHEAD + at);
}

FC_INLINE void fc_fetch_to_write(const void *from, const ptrdiff_t bytes)
{
    for (ptrdiff_t at = 0; at < bytes; at += 64) FC_PREFETCH_WRITE((const char *)from + FC_AHEAD + at);
}

#define FC_PASTE_(a, b) a##b
#define FC_PASTE(a, b) FC_PASTE_(a, b)
#define FC_PASTE3(a, b, c) FC_PASTE(FC_PASTE(a, b), c)

#define VEC FC_PASTE(v, FC_DTYPE)
#define V(op) FC_PASTE3(VEC, _, op)
#define LANES FC_PASTE(LANES, FC_DTYPE)
#define T FC_PASTE(scalar, FC_DTYPE)
#define FC(name) FC_PASTE3(name, _f, FC_DTYPE)

typedef float scalar32;
typedef double scalar64;

/* Keeps a vector in a register: compilers would rather load it again for each use, and loads are what a tile of few
 * rows has too many of. */
#if (defined(__GNUC__) || defined(__clang__)) && defined(__AVX__) && !defined(FC_EMULATED)
#define FC_KEEP(vector) __asm__("" : "+v"(vector))
#else
#define FC_KEEP(vector) ((void)0)
#endif

/* Keeps a pointer in a register: compilers would rather compute it again from others. */
#if defined(__GNUC__) || defined(__clang__)
#define FC_KEEP_POINTER(pointer) __asm__("" : "+r"(pointer))
#else
#define FC_KEEP_POINTER(pointer) ((void)0)
#endif

/* Elements. Rows so far apart are more streams than the processor's own prefetching follows. */
enum { FC_FAR = 1024 };

/* Added to a number and taken away again, these round it to an integer, which stands in the lowest bits meanwhile. */
#define FC_ROUNDER32 0x1.8p23f
#define FC_ROUNDER64 0x1.8p52
enum { FC_BIAS32 = 127, FC_BIAS64 = 1023, FC_MANTISSA32 = 23, FC_MANTISSA64 = 52 };

/* Into 0 .. 16, the lanes that any vector has. */
FC_INLINE int clamp_lane(ptrdiff_t i) { return i < 0 ? 0 : i > 16 ? 16 : (int)i; }

#endif
