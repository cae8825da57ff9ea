#ifndef FC_FLOAT_MODE_H
#define FC_FLOAT_MODE_H

/* Denormals as zeros, for as long as a thread computes products.
 *
 * A multiplication that reads or makes a denormal takes a hundred times as long on many processors. Between
 * fc_flush_denormals and fc_restore_float_mode, operands and results below the least normal number (2^-126 for
 * float32, 2^-1022 for float64) count as zeros of their sign. The mode belongs to a thread, so each thread of a
 * parallel region switches for itself, and it gets back what it had, exception flags included: rounding,
 * traps and the threads of others never see a change. Both calls together take about ten nanoseconds.
 *
 * Where neither SSE nor AArch64 is known, nothing happens.
 */

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>

typedef unsigned int fc_float_mode;

static inline fc_float_mode fc_flush_denormals(void)
{
    fc_float_mode before = _mm_getcsr();
    _mm_setcsr(before | 0x8040u); /* flush to zero, denormals are zeros */
    return before;
}

static inline void fc_restore_float_mode(fc_float_mode before)
{
    _mm_setcsr(before);
}

#elif defined(__aarch64__)
#include <stdint.h>

typedef uint64_t fc_float_mode;

static inline fc_float_mode fc_flush_denormals(void)
{
    fc_float_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | ((uint64_t)1 << 24)) : "memory"); /* FZ */
    return before;
}

static inline void fc_restore_float_mode(fc_float_mode before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory");
}

#else

typedef int fc_float_mode;

static inline fc_float_mode fc_flush_denormals(void) { return 0; }
static inline void fc_restore_float_mode(fc_float_mode before) { (void)before; }

#endif

#endif
