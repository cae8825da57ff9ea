/* Pooling: windows reduced to their maximum, its position, or their sum; and the gradient of the mean.
 * Contracts: fc_pool in kernels.h.
 *
 * Where a plane is one channel, an output row takes two steps. The rows that its windows see are reduced to one
 * line in the workspace, vector by vector along the width, whatever stride and padding are. Then the columns of
 * that line are reduced; its ends hold what never wins (or adds zero), so that borders need no code of their own.
 * pool_lines.inc.h has both steps. Windows that are common have ways of their own: 2x2 side by side here, 3x3 in
 * pool_threes.inc.h, the whole plane in pool_global.inc.h. Where channels come last, pool_pixels.inc.h has the loops.
 */
#include "pool_lines.inc.h"

FC_INLINE void FC(fill)(T *dst, T value, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i++) dst[i] = value;
}

/* Windows of 2x2 pixels, side by side, in rows of a vector of results at least: rows and columns in one step, without
 * a line between them, so that memory is read all the time. Rows that share a line begin with the image. */
FC_INLINE int FC(has_pairs)(const fc_pool *pool)
{
    const ptrdiff_t last = pool->out_h - 1;
    return pool->lines > 1 && pool->row_count[0] == 2 && pool->row_count[last] == 2 &&
           pool->row_first[last] == 2 * last && pool->row_step == 1 && pool->stride == 2 && pool->kernel_w == 2 &&
           pool->column_step == 1 && pool->out_w >= LANES;
}

FC_INLINE void FC(pool_pairs)(const fc_pool *pool, const T *x, T *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                              const int op)
{
    const ptrdiff_t width = pool->width, out_w = pool->out_w;
    const T *row_divisor = pool->row_divisor, *column_divisor = pool->column_divisor;
    const VEC divisor = V(set1)(row_divisor[0] * column_divisor[0]);
    const ptrdiff_t left_over = pool->height - 2 * pool->out_h; /* rows of an image */
    const T *src = x + (2 * begin + begin / pool->out_h * left_over) * width;
    ptrdiff_t image_row = begin % pool->out_h;
    for (ptrdiff_t row = begin; row < end; row++) {
        const T origin = (T)(2 * image_row * width);
        for (ptrdiff_t next = 0; next < out_w; next += LANES) {
            const ptrdiff_t o = next < out_w - LANES ? next : out_w - LANES; /* the last vector overlaps */
            FC(candidate) part[2], below, even, odd;
            FC_UNROLL
            for (int i = 0; i < 2; i++) {
                const T *p = src + 2 * o + i * LANES;
                fc_fetch(src + 2 * (width + 2 * o + i * LANES), 2 * LANES * sizeof(T));
                part[i].value = V(load)(p);
                below.value = V(load)(p + width);
                part[i].position = V(add)(V(set1)(1 + origin + (T)(2 * o + i * LANES)), V(load)(FC(iota)));
                below.position = V(add)(part[i].position, V(set1)((T)width));
                part[i] = FC(reduce)(part[i], below, op, 1);
                if (op == FC_ARGMAX) part[i].position = V(negate_where)(V(is_nan)(part[i].value), part[i].position);
            }
            even.value = V(even)(part[0].value, part[1].value);
            odd.value = V(odd)(part[0].value, part[1].value);
            even.position = V(even)(part[0].position, part[1].position);
            odd.position = V(odd)(part[0].position, part[1].position);
            even = FC(reduce)(even, odd, op, 0);
            if (op == FC_SUM) even.value = V(div)(even.value, divisor);
            V(store)(out + row * out_w + o, even.value);
            if (op == FC_ARGMAX) V(store_index)(indices + row * out_w + o, V(abs)(even.position), -1);
        }
        src += 2 * width;
        if (++image_row == pool->out_h) {
            image_row = 0;
            src += left_over * width;
        }
    }
}

/* The columns of the line of `rows` output rows, from `row` on. */
FC_INLINE void FC(finish_line)(const fc_pool *pool, T *out, int64_t *indices, ptrdiff_t row, ptrdiff_t rows,
                               const T *line, const T *positions, int64_t base, T divisor, const T *end,
                               const int64_t *indices_end, const int op)
{
    const ptrdiff_t out_w = pool->out_w;
    if (op == FC_SHARE || op == FC_SHARE_EVENLY)
        FC(spread_columns)(out + row * out_w, pool, rows * out_w, line + pool->line_before, end);
    else
        FC(reduce_columns)(out + row * out_w, op == FC_ARGMAX ? indices + row * out_w : NULL, pool, rows * out_w, line,
                           positions, base, divisor, end, indices_end, op);
}

/* Rows by way of lines of the workspace: FC_POOL_LINES rows with a line each, or pool->lines rows that share one.
 * Some lines are written before the first is read: to read across two vectors that have only just been written takes
 * long. */
FC_INLINE void FC(pool_lines)(const fc_pool *pool, const T *x, T *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                              T *workspace, const int op)
{
    const int shared = pool->lines > 1, together = shared && pool->row_stride && (op == FC_SUM || op == FC_MAX);
    const ptrdiff_t width = pool->width, out_w = pool->out_w, plane = pool->height * width;
    const ptrdiff_t down = pool->row_step * width, before = pool->line_before, after = pool->line_after;
    const ptrdiff_t fresh = FC(fresh_rows)(pool), advance = pool->row_stride * width;
    const ptrdiff_t elements = pool->line_elements, most = shared ? pool->lines : FC_POOL_LINES;
    const ptrdiff_t apart = shared ? pool->pitch : op == FC_ARGMAX ? 2 * elements : elements;
    const ptrdiff_t used = shared && pool->pitch < width ? pool->pitch : width;
    const T *x_end = x + pool->images * plane, *row_divisor = pool->row_divisor, *out_end = out + end * out_w;
    const int64_t *indices_end = op == FC_ARGMAX ? indices + end * out_w : NULL;
    const T neutral = FC(neutral)(op);
    int64_t base[FC_POOL_LINES];
    T divisor[FC_POOL_LINES];
    for (int i = 0; i < FC_POOL_LINES && before; i++) {
        FC(fill)(workspace + i * apart, neutral, before);
        if (op == FC_ARGMAX) FC(fill)(workspace + i * apart + elements, (T)INFINITY, before);
    }
    ptrdiff_t image = begin / pool->out_h, o = begin % pool->out_h;
    for (ptrdiff_t row = begin, rows; row < end; row += rows) {
        rows = end - row < most ? end - row : most;
        for (ptrdiff_t i = 0, count; i < rows; i += count) {
            const ptrdiff_t first = pool->row_first[o], seen = pool->row_count[o], at = shared ? 0 : i;
            const T *src = together ? x + row * advance : x + image * plane + first * width;
            T *line = workspace + i * apart + before, *positions = line + elements;
            count = together ? rows : 1;
            base[at] = shared ? -1 : (int64_t)first * width - 1;
            divisor[at] = op == FC_SUM ? row_divisor[o] : 1;
            if (seen > 0)
                FC(reduce_rows)(line, positions, apart, src, advance, count, down, seen, used,
                                (T)(shared ? 1 + first * width : 1), x_end, row_divisor + (op == FC_SHARE ? first : 0),
                                pool->column_divisor, op, fresh);
            else FC(fill)(line, neutral, used);
            if (after) {
                FC(fill)(line + width, neutral, after);
                if (op == FC_ARGMAX) FC(fill)(positions + width, (T)INFINITY, after);
            }
            if (++o == pool->out_h) o = 0, image++;
        }
        const ptrdiff_t each = shared ? rows : 1;
        for (ptrdiff_t i = 0; i < rows; i += each) {
            const T *line = workspace + i * apart;
            FC(finish_line)(pool, out, indices, row + i, each, line, line + elements, base[i], divisor[i], out_end,
                            indices_end, op);
        }
    }
}

#include "pool_threes.inc.h"

/* Output rows begin .. end-1 of planes of one channel. */
FC_INLINE void FC(pool_planes)(const fc_pool *pool, const T *x, T *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                               T *workspace, const int op)
{
    if ((op == FC_SUM || op == FC_MAX || op == FC_ARGMAX) && FC(has_pairs)(pool)) {
        FC(pool_pairs)(pool, x, out, indices, begin, end, op);
        return;
    }
    const int threes = (op == FC_SUM || op == FC_SHARE_EVENLY || op == FC_MAX) && FC(has_threes)(pool);
    while (begin < end) {
        ptrdiff_t stop = end;
        if (threes) {
            begin = FC(pool_threes)(pool, x, out, begin, end, workspace, op);
            if (end - begin > FC(THREES_ROWS)) stop = begin + FC(THREES_ROWS);
        }
        if (begin < stop) FC(pool_lines)(pool, x, out, indices, begin, stop, workspace, op);
        begin = stop;
    }
}

/* Writes each of `rows` rows `times` times. */
static void FC(repeat_rows)(T *to, const T *from, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t times, const T *end)
{
    for (ptrdiff_t i = 0; i < rows; i++, from += width) {
        const int inside = end - to >= times * width + LANES;
        for (ptrdiff_t k = 0; k < times; k++, to += width)
            for (ptrdiff_t j = 0; j < width; j += LANES)
                if (inside) V(store)(to + j, V(load)(from + j));
                else FC(store_before)(to + j, V(load)(from + j), end);
    }
}

/* FC_SHARE_EVENLY where windows tile the image: input row i is what output rows i*tile .. i*tile + tile-1 all get,
 * with tile = pool->row_stride, of which begin and end are multiples. */
static void FC(spread_tiles)(const fc_pool *pool, const T *x, T *out, ptrdiff_t begin, ptrdiff_t end, T *workspace)
{
    const ptrdiff_t width = pool->width, out_w = pool->out_w, tile = pool->row_stride;
    const T *x_end = x + pool->images * pool->height * width, *out_end = out + end * out_w;
    T *spread = workspace + pool->line_elements;
    for (ptrdiff_t row = begin / tile, rows; row < end / tile; row += rows) {
        rows = end / tile - row < pool->lines ? end / tile - row : pool->lines;
        FC(reduce_rows)(workspace, NULL, 0, x + row * width, 0, 1, 0, 1, rows * width, 0, x_end, pool->row_divisor,
                        pool->column_divisor, FC_SHARE_EVENLY, 1);
        FC(spread_columns)(spread, pool, rows * out_w, workspace, spread + pool->line_elements);
        FC(repeat_rows)(out + row * tile * out_w, spread, rows, out_w, tile, out_end);
    }
}

#include "pool_pixels.inc.h"

/* ---- slots ---- */

/* Windows that span more elements than a position can count: one by one. */
static void FC(argmax_far)(const fc_pool *pool, const T *x, T *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end)
{
    const ptrdiff_t channels = pool->channels, row_elements = pool->out_w * channels;
    for (ptrdiff_t row = begin; row < end; row++) {
        const ptrdiff_t o = row % pool->out_h;
        const T *image = x + row / pool->out_h * pool->height * pool->width * channels;
        for (ptrdiff_t j = 0; j < row_elements; j++) {
            const ptrdiff_t column = j / channels, channel = j % channels;
            ptrdiff_t best = pool->row_first[o] * pool->width + pool->column_first[column];
            for (ptrdiff_t r = 0; r < pool->row_count[o]; r++)
                for (ptrdiff_t c = 0; c < pool->column_count[column]; c++) {
                    const ptrdiff_t at = (pool->row_first[o] + r * pool->row_step) * pool->width +
                                         pool->column_first[column] + c * pool->column_step;
                    const T a = image[best * channels + channel], b = image[at * channels + channel];
                    if (b > a || b != b) best = at;
                }
            out[row * row_elements + j] = image[best * channels + channel];
            indices[row * row_elements + j] = best;
        }
    }
}

static void FC(max_pool)(const fc_pool *pool, const void *x, void *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                         void *workspace)
{
    if (indices && pool->far_positions) FC(argmax_far)(pool, x, out, indices, begin, end);
    else if (pool->channels_last && indices) FC(pool_pixels)(pool, x, out, indices, begin, end, FC_ARGMAX);
    else if (pool->channels_last) FC(pool_pixels)(pool, x, out, NULL, begin, end, FC_MAX);
    else if (indices) FC(pool_planes)(pool, x, out, indices, begin, end, workspace, FC_ARGMAX);
    else FC(pool_planes)(pool, x, out, NULL, begin, end, workspace, FC_MAX);
}

static void FC(avg_pool)(const fc_pool *pool, const void *x, void *out, ptrdiff_t begin, ptrdiff_t end, void *workspace)
{
    if (pool->channels_last) FC(pool_pixels)(pool, x, out, NULL, begin, end, FC_SUM);
    else if (fc_is_global(pool)) FC(global_means)(pool, x, out, begin, end);
    else FC(pool_planes)(pool, x, out, NULL, begin, end, workspace, FC_SUM);
}

static void FC(avg_pool_backward)(const fc_pool *pool, const void *grad_output, void *grad_x, ptrdiff_t begin,
                                  ptrdiff_t end, void *workspace)
{
    if (pool->channels_last && pool->even) FC(pool_pixels)(pool, grad_output, grad_x, NULL, begin, end, FC_SHARE_EVENLY);
    else if (pool->channels_last) FC(pool_pixels)(pool, grad_output, grad_x, NULL, begin, end, FC_SHARE);
    else if (fc_is_from_global(pool)) FC(share_globally)(pool, grad_output, grad_x, begin, end);
    else if (pool->row_stride) FC(spread_tiles)(pool, grad_output, grad_x, begin, end, workspace);
    else if (pool->even) FC(pool_planes)(pool, grad_output, grad_x, NULL, begin, end, workspace, FC_SHARE_EVENLY);
    else FC(pool_planes)(pool, grad_output, grad_x, NULL, begin, end, workspace, FC_SHARE);
}
