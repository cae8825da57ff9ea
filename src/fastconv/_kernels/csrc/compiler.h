/* What compilers call by names of their own. */
#ifndef FASTCONV_COMPILER_H
#define FASTCONV_COMPILER_H

#if defined(FC_CALLS)
/* For tests: functions are called and loops are loops, which takes a fifth of the time to compile. */
#define FC_INLINE static inline
#define FC_UNROLL
#define FC_BY_FOUR
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" /* it cannot see any more which of them run */
#endif
#elif defined(__clang__)
#define FC_INLINE static inline __attribute__((always_inline))
#define FC_UNROLL _Pragma("clang loop unroll(full)")
#define FC_BY_FOUR _Pragma("clang loop unroll_count(4)")
#elif defined(_MSC_VER)
#define FC_INLINE static __forceinline
#define FC_UNROLL
#define FC_BY_FOUR
#else
#define FC_INLINE static inline __attribute__((always_inline))
#define FC_UNROLL _Pragma("GCC unroll 16")
#define FC_BY_FOUR _Pragma("GCC unroll 4")
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define FC_NOINLINE static __declspec(noinline)
#else
#define FC_NOINLINE static __attribute__((noinline))
#endif

/* Asks for the line at an address that may lie outside of any array: soon, to be written, or some thousand cycles
 * later, for which the second cache is near enough. */
#if defined(__GNUC__) || defined(__clang__)
#define FC_PREFETCH(p) __builtin_prefetch(p)
#define FC_PREFETCH_WRITE(p) __builtin_prefetch(p, 1)
#define FC_PREFETCH_LATER(p) __builtin_prefetch(p, 0, 2)
#else
#define FC_PREFETCH(p) ((void)(p))
#define FC_PREFETCH_WRITE(p) ((void)(p))
#define FC_PREFETCH_LATER(p) ((void)(p))
#endif

#endif
