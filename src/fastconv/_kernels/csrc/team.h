/* A loop whose items several threads compute: who takes which item, and a processor for each thread.
 *
 * Linux may wake a sleeping thread on the processor of the one that wakes it though another is idle: those of a
 * virtual machine that idle are lent to others, and count as taken. The two then take turns on one processor, loop
 * after loop. So a thread that begins where another of its team began goes elsewhere. It must run to find that out:
 * until all have begun, the thread that opened the loop lets others run between items, by sched_yield, which returns
 * at once where nobody waits for this processor. And it stays awake while others are about to be done, lest one of
 * them wake it on its own processor.
 *
 * Which processors a thread may use is the same afterwards; what another process decides meanwhile holds, but for the
 * instant between two calls of the system. Where all processors are taken it stays. Other systems have no such calls,
 * and look after this themselves.
 */
#ifndef FASTCONV_TEAM_H
#define FASTCONV_TEAM_H

#include <stddef.h>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define FC_FETCH_ADD(where, number) ((ptrdiff_t)_InterlockedExchangeAdd64((volatile __int64 *)(where), number))
#else
#define FC_FETCH_ADD(where, number) __atomic_fetch_add(where, number, __ATOMIC_RELAXED)
#endif

#if defined(__linux__)
#include <limits.h>
#include <sched.h>
#include <time.h>

#define FC_WORD (CHAR_BIT * (int)sizeof(unsigned long))
#define FC_PROCESSOR_WORDS (CPU_SETSIZE / FC_WORD)
/* To be woken takes 25 to 100 microseconds. */
#define FC_AWAKE_NANOSECONDS 200000
#endif

/* All zero in the beginning, but for `stay`: whether threads are to be left where the system has them. */
typedef struct {
    int stay;
    ptrdiff_t next;  /* the first item that nobody has taken */
    ptrdiff_t total; /* of what items return */
#if defined(__linux__)
    ptrdiff_t begun, done;                   /* threads */
    unsigned long taken[FC_PROCESSOR_WORDS]; /* a bit for each processor on which a thread began */
#endif
} fc_team;

#if defined(__linux__)

static void fc_leave_taken_processors(const fc_team *team)
{
    cpu_set_t allowed, others, now;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return; /* more processors than CPU_SETSIZE */
    others = allowed;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (__atomic_load_n(&team->taken[i / FC_WORD], __ATOMIC_RELAXED) >> i % FC_WORD & 1) CPU_CLR(i, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return;
    if (!sched_getaffinity(0, sizeof now, &now) && CPU_EQUAL(&now, &others))
        sched_setaffinity(0, sizeof allowed, &allowed);
}

static inline void fc_begin(fc_team *team)
{
    const int here = sched_getcpu();
    if (here >= 0 && here < CPU_SETSIZE) {
        const unsigned long bit = 1ul << here % FC_WORD;
        unsigned long *word = &team->taken[here / FC_WORD];
        if (__atomic_fetch_or(word, bit, __ATOMIC_RELAXED) & bit && !team->stay) fc_leave_taken_processors(team);
    }
    FC_FETCH_ADD(&team->begun, 1);
}

static inline void fc_let_others_begin(fc_team *team, int threads)
{
    if (__atomic_load_n(&team->begun, __ATOMIC_RELAXED) < threads) sched_yield();
}

/* The caller waits for the others. */
static void fc_end(fc_team *team, int thread, int threads)
{
    struct timespec begin, now;
    FC_FETCH_ADD(&team->done, 1);
    if (thread > 0) return;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        if (__atomic_load_n(&team->done, __ATOMIC_RELAXED) >= threads) return;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000000ll + now.tv_nsec - begin.tv_nsec < FC_AWAKE_NANOSECONDS);
}

#else

static inline void fc_begin(fc_team *team) { (void)team; }
static inline void fc_let_others_begin(fc_team *team, int threads) { (void)team, (void)threads; }
static inline void fc_end(fc_team *team, int thread, int threads) { (void)team, (void)thread, (void)threads; }

#endif

typedef ptrdiff_t (*fc_body)(const void *job, ptrdiff_t item, int thread);

/* What each thread of a team does; thread 0 opened the loop. In turn, a thread that is free takes the next item;
 * otherwise each has as many neighbouring items as the others. */
static void fc_take_part(
    fc_team *team, int thread, int threads, ptrdiff_t items, int in_turn, fc_body body, const void *job)
{
    const ptrdiff_t first = in_turn ? 0 : items * thread / threads;
    const ptrdiff_t end = in_turn ? items : items * (thread + 1) / threads;
    ptrdiff_t total = 0, computed = 0;
    fc_begin(team);
    for (;;) {
        const ptrdiff_t item = in_turn ? FC_FETCH_ADD(&team->next, 1) : first + computed;
        if (item >= end) break;
        total += body(job, item, thread);
        computed++;
        /* after the first, second, fourth, eighth and so on: a call of the system is long where items are short */
        if (thread == 0 && !(computed & (computed - 1))) fc_let_others_begin(team, threads);
    }
    FC_FETCH_ADD(&team->total, total);
    fc_end(team, thread, threads);
}

#endif
