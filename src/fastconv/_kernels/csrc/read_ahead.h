/* What is read or written soon, brought into the cache meanwhile. */
#ifndef FASTCONV_READ_AHEAD_H
#define FASTCONV_READ_AHEAD_H

#include "compiler.h"

#include <stddef.h>
#include <stdint.h>

/* Lines of memory to bring into the cache, `share` of them at a time: of `planes` planes, plane_step bytes apart, each
 * `runs` runs of `bytes` bytes, run_step apart. In the first plane that is left, run and fetched (bytes) tell how far
 * it has got. Nothing is read: addresses may lie outside of any array.
 */
typedef struct {
    const char *plane;
    ptrdiff_t planes, plane_step, runs, run_step, bytes;
    ptrdiff_t run, fetched;
    ptrdiff_t share;
} fc_ahead;

/* Fetches the next share of a list. */
FC_INLINE void fc_fetch_share(fc_ahead *ahead)
{
    for (ptrdiff_t lines = ahead->share; lines > 0 && ahead->planes > 0; lines--) {
        const char *run = ahead->plane + ahead->run * ahead->run_step;
        FC_PREFETCH(run + ahead->fetched);
        ahead->fetched += 64;
        if (ahead->fetched < ahead->bytes + (ptrdiff_t)((uintptr_t)run % 64)) continue;
        ahead->fetched = 0;
        if (++ahead->run < ahead->runs) continue;
        ahead->run = 0;
        ahead->plane += ahead->plane_step;
        ahead->planes--;
    }
}

/* Fetches `rows` rows of `bytes` bytes, step bytes apart. */
FC_INLINE void fc_fetch_rows(const char *first, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t bytes)
{
    for (ptrdiff_t i = 0; i < rows; i++, first += step) {
        for (ptrdiff_t at = 0; at < bytes; at += 64) FC_PREFETCH(first + at);
        FC_PREFETCH(first + bytes - 1);
    }
}

/* Fetches bytes that are read some thousand cycles later. */
FC_INLINE void fc_fetch_for_later(const char *first, ptrdiff_t bytes)
{
    for (ptrdiff_t at = 0; at < bytes; at += 64) FC_PREFETCH_LATER(first + at);
}

/* fc_fetch_share for so many whole planes of a list: of a few lines each, they take less time than line by line. */
FC_INLINE void fc_fetch_planes(fc_ahead *ahead, ptrdiff_t most)
{
    const ptrdiff_t planes = most < ahead->planes ? most : ahead->planes;
    for (ptrdiff_t i = 0; i < planes; i++, ahead->plane += ahead->plane_step)
        fc_fetch_rows(ahead->plane, ahead->run_step, ahead->runs, ahead->bytes);
    ahead->planes -= planes;
}

#endif
