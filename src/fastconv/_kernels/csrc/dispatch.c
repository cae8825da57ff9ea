/* Which instruction sets may run here: the processor's word (CPUID) and the operating system's (XCR0). */
#include "kernels.h"

#include <string.h>

extern const fc_kernels fc_kernels_generic_f32, fc_kernels_generic_f64;
#if defined(FC_WITH_AVX2)
extern const fc_kernels fc_kernels_avx2_f32, fc_kernels_avx2_f64;
#endif
#if defined(FC_WITH_AVX512)
extern const fc_kernels fc_kernels_avx512_f32, fc_kernels_avx512_f64;
#endif

#if defined(FC_WITH_AVX2) || defined(FC_WITH_AVX512)
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
static void cpuid(unsigned leaf, unsigned subleaf, unsigned r[4]) { __cpuidex((int *)r, (int)leaf, (int)subleaf); }
static unsigned long long xcr0(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(unsigned leaf, unsigned subleaf, unsigned r[4])
{
    __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
}
static unsigned long long xcr0(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (unsigned long long)high << 32;
}
#endif

enum { OSXSAVE = 1 << 27, FMA = 1 << 12, AVX = 1 << 28, F16C = 1 << 29, AVX2 = 1 << 5 };
#define AVX512_FDQBWVL (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31)

static int machine_has(int with_avx512)
{
    unsigned r[4];
#if defined(FC_EMULATED)
    with_avx512 = 0; /* it is made of AVX2 */
#endif
    cpuid(0, 0, r);
    if (r[0] < 7) return 0;
    cpuid(1, 0, r);
    if ((r[2] & (OSXSAVE | FMA | AVX | F16C)) != (OSXSAVE | FMA | AVX | F16C)) return 0;
    const unsigned long long state = with_avx512 ? 0xE6 : 0x6; /* XMM, YMM; opmask, ZMM low and high */
    if ((xcr0() & state) != state) return 0;
    cpuid(7, 0, r);
    if (!(r[1] & AVX2)) return 0;
    return !with_avx512 || (r[1] & AVX512_FDQBWVL) == AVX512_FDQBWVL;
}
#endif

static const struct {
    const char *name;
    const fc_kernels *kernels[FC_DTYPES];
    int needs_avx2, needs_avx512;
} compiled[] = {
#if defined(FC_WITH_AVX512)
    {"avx512", {&fc_kernels_avx512_f32, &fc_kernels_avx512_f64}, 1, 1},
#endif
#if defined(FC_WITH_AVX2)
    {"avx2", {&fc_kernels_avx2_f32, &fc_kernels_avx2_f64}, 1, 0},
#endif
    {"generic", {&fc_kernels_generic_f32, &fc_kernels_generic_f64}, 0, 0},
};
enum { COMPILED = sizeof compiled / sizeof *compiled };

static int runs_here(int i)
{
#if defined(FC_WITH_AVX2) || defined(FC_WITH_AVX512)
    return !compiled[i].needs_avx2 || machine_has(compiled[i].needs_avx512);
#else
    return (void)i, 1;
#endif
}

const char *fc_isa_compiled(int number) { return number < COMPILED ? compiled[number].name : NULL; }

const char *fc_isa_available(int number)
{
    for (int i = 0; i < COMPILED; i++)
        if (runs_here(i) && number-- == 0) return compiled[i].name;
    return NULL;
}

const fc_kernels *fc_isa_kernels(const char *isa, int dtype)
{
    for (int i = 0; i < COMPILED; i++)
        if (!strcmp(compiled[i].name, isa)) return compiled[i].kernels[dtype];
    return NULL;
}
