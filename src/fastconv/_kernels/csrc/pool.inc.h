/* Pooling: windows reduced to their maximum, its position, or their sum; and the gradient of the mean.
 * Contracts: fc_pool in kernels.h.
 *
 * Where a plane is one channel, an output row takes two steps. The rows that its windows see are reduced to one
 * line in the workspace, vector by vector along the width, whatever stride and padding are. Then the columns of
 * that line are reduced; its ends hold what never wins (or adds zero), so that borders need no code of their own.
 * Windows that are common have ways of their own: 2x2 side by side here, 3x3 in pool_threes.inc.h, the whole plane in
 * pool_global.inc.h. Where channels come last, pool_pixels.inc.h has the loops.
 *
 * Tails are whole vectors too: what they read past the end of a row lies in the next row, and what they write
 * there is overwritten when its turn comes. Only at the end of an array (of what a call has to write) are
 * elements moved one by one.
 *
 * Positions travel as floating-point numbers, exact within the limits of store_index, and of equal values the
 * smaller position wins. Of NaNs the larger one does, as in PyTorch: its position is negative in a line, and so
 * is smaller, too.
 */
#ifndef FC_POOL_OPERATIONS
#define FC_POOL_OPERATIONS
/* FC_SUM is divided once it is complete. FC_SHARE, the gradient of means, divides each number; FC_SHARE_EVENLY their
 * sum, since all divisors are equal. */
enum { FC_SUM, FC_SHARE, FC_SHARE_EVENLY, FC_MAX, FC_ARGMAX };
#endif

static const T FC(iota)[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* A vector of values and, for FC_ARGMAX, of their positions. */
typedef struct {
    VEC value, position;
} FC(candidate);

/* ---- vectors at the end of an array ---- */

static VEC FC(load_part)(const T *p, ptrdiff_t count)
{
    T lanes[LANES] = {0};
    for (ptrdiff_t i = 0; i < count; i++) lanes[i] = p[i];
    return V(load)(lanes);
}

FC_INLINE VEC FC(load_before)(const T *p, const T *end)
{
    return end - p >= LANES ? V(load)(p) : FC(load_part)(p, end - p);
}

FC_INLINE void FC(store_before)(T *p, VEC a, const T *end)
{
    if (end - p >= LANES) {
        V(store)(p, a);
        return;
    }
    T lanes[LANES];
    V(store)(lanes, a);
    for (ptrdiff_t i = 0; i < end - p; i++) p[i] = lanes[i];
}

FC_INLINE void FC(store_index_before)(int64_t *p, VEC a, int64_t base, const int64_t *end)
{
    if (end - p >= LANES) {
        V(store_index)(p, a, base);
        return;
    }
    int64_t lanes[LANES];
    V(store_index)(lanes, a, base);
    for (ptrdiff_t i = 0; i < end - p; i++) p[i] = lanes[i];
}

/* ---- reductions ---- */

/* What never wins, or adds nothing. */
FC_INLINE T FC(neutral)(const int op) { return op == FC_MAX || op == FC_ARGMAX ? -(T)INFINITY : 0; }

/* in_order: every position of b is greater than the one of a, and none is negative yet. */
FC_INLINE FC(candidate) FC(reduce)(FC(candidate) a, FC(candidate) b, const int op, const int in_order)
{
    if (op == FC_MAX) {
        a.value = V(max_nan)(b.value, a.value);
    } else if (op == FC_ARGMAX) {
        V(mask) wins = V(greater)(b.value, a.value);
        if (in_order) wins = V(or)(wins, V(is_nan)(b.value));
        else wins = V(or)(wins, V(and)(V(no_order)(b.value, a.value), V(greater)(a.position, b.position)));
        a.value = V(select)(wins, b.value, a.value);
        a.position = V(select)(wins, b.position, a.position);
    } else {
        a.value = V(add)(a.value, b.value);
    }
    return a;
}

/* How many rows an output row sees that the one above does not. */
FC_INLINE ptrdiff_t FC(fresh_rows)(const fc_pool *pool)
{
    return pool->out_h < pool->height ? pool->height / pool->out_h : 1;
}

/* For `count` lines, `pitch` apart, whose sources are `advance` apart:
 * line[i] = the reduction over r < rows of src[r*step + i], i < width; whole vectors are written.
 * FC_ARGMAX: positions[i] = origin + i + r*step of the winner.
 * FC_SHARE: each value is divided by row_divisor[r] * column_divisor[i]; FC_SHARE_EVENLY: the sum, with r = i = 0. */
FC_INLINE void FC(reduce_rows_of)(T *line, T *positions, ptrdiff_t pitch, const T *src, ptrdiff_t advance,
                                  ptrdiff_t count, ptrdiff_t step, const ptrdiff_t rows, ptrdiff_t width, T origin,
                                  const T *end, const T *row_divisor, const T *column_divisor, const int op,
                                  const int inside, const ptrdiff_t fresh)
{
    for (ptrdiff_t n = 0; n < count; n++, line += pitch, src += advance)
        for (ptrdiff_t i = 0; i < width; i += LANES) {
            const T *p = src + i;
            fc_fetch(src + rows * step + fresh * i, fresh * LANES * (ptrdiff_t)sizeof(T));
            FC(candidate) best, next;
            best.value = inside ? V(load)(p) : FC(load_before)(p, end);
            best.position = next.position = V(add)(V(set1)(origin + (T)i), V(load)(FC(iota)));
            VEC divisor = op == FC_SHARE ? V(load)(column_divisor + i) : V(zero)();
            if (op == FC_SHARE) best.value = V(div)(best.value, V(mul)(divisor, V(set1)(row_divisor[0])));
            for (ptrdiff_t r = 1; r < rows; r++) {
                p += step;
                next.value = inside ? V(load)(p) : FC(load_before)(p, end);
                next.position = V(add)(next.position, V(set1)((T)step));
                if (op == FC_SHARE) next.value = V(div)(next.value, V(mul)(divisor, V(set1)(row_divisor[r])));
                best = FC(reduce)(best, next, op, 1);
            }
            if (op == FC_SHARE_EVENLY) best.value = V(div)(best.value, V(set1)(row_divisor[0] * column_divisor[0]));
            V(store)(line + i, best.value);
            if (op == FC_ARGMAX)
                V(store)(positions + i, V(negate_where)(V(is_nan)(best.value), best.position));
        }
}

FC_INLINE void FC(reduce_rows)(T *line, T *positions, ptrdiff_t pitch, const T *src, ptrdiff_t advance, ptrdiff_t count,
                               ptrdiff_t step, ptrdiff_t rows, ptrdiff_t width, T origin, const T *end,
                               const T *row_divisor, const T *column_divisor, const int op, const ptrdiff_t fresh)
{
#define ROWS(n, inside, fresh)                                                                                   \
    FC(reduce_rows_of)(line, positions, pitch, src, advance, count, step, n, width, origin, end, row_divisor,    \
                       column_divisor, op, inside, fresh)
    const ptrdiff_t reach = (width + LANES - 1) / LANES * LANES;
    if (end - src - (count - 1) * advance - (rows - 1) * step < reach) ROWS(rows, 0, fresh);
    else if (rows == 1) ROWS(1, 1, 1);
    else if (rows == 2 && fresh == 2) ROWS(2, 1, 2);
    else if (rows == 3 && fresh == 2) ROWS(3, 1, 2);
    else if (rows == 3 && fresh == 1) ROWS(3, 1, 1);
    else ROWS(rows, 1, fresh);
#undef ROWS
}

/* The elements p[offset + i*stride] of a line, i < LANES. */
FC_INLINE VEC FC(load_column)(const T *p, ptrdiff_t offset, const ptrdiff_t stride)
{
    if (stride == 1) return V(load)(p + offset);
    if (stride == 2) {
        const T *pairs = p + (offset & ~(ptrdiff_t)1);
        VEC a = V(load)(pairs), b = V(load)(pairs + LANES);
        return offset & 1 ? V(odd)(a, b) : V(even)(a, b);
    }
    T lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = p[offset + i * stride];
    return V(load)(lanes);
}

/* out[o] = the reduction over k < taps of line[o*stride + k*step], o < count. */
FC_INLINE void FC(reduce_columns_of)(T *out, int64_t *indices, ptrdiff_t count, const T *line, const T *positions,
                                     const ptrdiff_t taps, const ptrdiff_t stride, const ptrdiff_t step, int64_t base,
                                     T row_divisor, const T *column_divisor, const T *end, const int64_t *indices_end,
                                     const int op)
{
    for (ptrdiff_t o = 0; o < count; o += LANES) {
        const T *p = line + o * stride, *q = op == FC_ARGMAX ? positions + o * stride : p;
        FC(candidate) best, next;
        best.value = FC(load_column)(p, 0, stride);
        best.position = FC(load_column)(q, 0, stride);
        for (ptrdiff_t k = 1; k < taps; k++) {
            next.value = FC(load_column)(p, k * step, stride);
            next.position = FC(load_column)(q, k * step, stride);
            best = FC(reduce)(best, next, op, 0);
        }
        if (op == FC_SUM)
            best.value = V(div)(best.value, V(mul)(V(set1)(row_divisor), V(load)(column_divisor + o)));
        FC(store_before)(out + o, best.value, end);
        if (op == FC_ARGMAX) FC(store_index_before)(indices + o, V(abs)(best.position), base, indices_end);
    }
}

/* The same where windows differ: output o sees line[first[o] + k], k < count[o]. */
FC_INLINE void FC(reduce_bins)(T *out, int64_t *indices, const fc_pool *pool, const T *line, const T *positions,
                               int64_t base, T row_divisor, const int op)
{
    const T *column_divisor = pool->column_divisor;
    for (ptrdiff_t o = 0; o < pool->out_w; o++) {
        const ptrdiff_t first = pool->column_first[o], last = first + pool->column_count[o];
        ptrdiff_t best = first;
        T sum = line[first];
        for (ptrdiff_t k = first + 1; k < last; k++) {
            const T a = line[best], b = line[k];
            if (op == FC_SUM) sum += b;
            else if (op == FC_MAX) best = b > a || b != b ? k : best;
            else best = b > a || (!(b < a) && positions[k] < positions[best]) ? k : best;
        }
        out[o] = op == FC_SUM ? sum / (row_divisor * column_divisor[o]) : line[best];
        if (op == FC_ARGMAX) indices[o] = base + (int64_t)fabs(positions[best]);
    }
}

FC_INLINE void FC(reduce_columns)(T *out, int64_t *indices, const fc_pool *pool, ptrdiff_t count, const T *line,
                                  const T *positions, int64_t base, T row_divisor, const T *end,
                                  const int64_t *indices_end, const int op)
{
#define COLUMNS(taps, stride, step)                                                                     \
    FC(reduce_columns_of)(out, indices, count, line, positions, taps, stride, step, base, row_divisor,  \
                          pool->column_divisor, end, indices_end, op)
    const ptrdiff_t taps = pool->kernel_w, stride = pool->stride, step = pool->column_step;
    if (stride == 0) FC(reduce_bins)(out, indices, pool, line, positions, base, row_divisor, op);
    else if (stride == 2 && taps == 2 && step == 1) COLUMNS(2, 2, 1);
    else if (stride == 2 && taps == 3 && step == 1) COLUMNS(3, 2, 1);
    else if (stride == 2) COLUMNS(taps, 2, step);
    else if (stride == 1 && taps == 3) COLUMNS(3, 1, step);
    else if (stride == 1) COLUMNS(taps, 1, step);
    else COLUMNS(taps, stride, step);
#undef COLUMNS
}

/* The gradient of a sum over columns: out[o] = the sum of line[j] over the windows j that see column o < count.
 * Those are j = m - t, t = 0, 1, ..., where o + left = m*stride + phase and phase + t*stride < taps. */
FC_INLINE void FC(spread_columns_of)(T *out, ptrdiff_t count, const T *line, const ptrdiff_t taps,
                                     const ptrdiff_t stride, ptrdiff_t left, const T *end)
{
    for (ptrdiff_t m = 0; m * stride < count; m += LANES) {
        VEC even = V(zero)();
        for (ptrdiff_t r = 0; r < stride; r++) {
            const T *p = line + m + (r + left) / stride;
            VEC sum = V(zero)();
            for (ptrdiff_t k = (r + left) % stride; k < taps; k += stride) sum = V(add)(sum, V(load)(p--));
            T *to = out + m * stride + r;
            if (stride == 1) {
                FC(store_before)(to, sum, end);
            } else if (stride > 2) {
                T lanes[LANES];
                V(store)(lanes, sum);
                for (ptrdiff_t i = 0; i < LANES && (m + i) * stride + r < count; i++) to[i * stride] = lanes[i];
            } else if (r == 0) {
                even = sum;
            } else {
                FC(store_before)(to - 1, V(zip_low)(even, sum), end);
                if (end - (to - 1) > LANES) FC(store_before)(to - 1 + LANES, V(zip_high)(even, sum), end);
            }
        }
    }
}

FC_INLINE void FC(spread_columns)(T *out, const fc_pool *pool, ptrdiff_t count, const T *line, const T *end)
{
    const ptrdiff_t taps = pool->kernel_w, stride = pool->stride, left = pool->left;
    if (stride == 2 && taps == 2 && left == 0) FC(spread_columns_of)(out, count, line, 2, 2, 0, end);
    else if (stride == 2 && taps == 3 && left == 0) FC(spread_columns_of)(out, count, line, 3, 2, 0, end);
    else if (stride == 2 && taps == 3 && left == 1) FC(spread_columns_of)(out, count, line, 3, 2, 1, end);
    else if (stride == 2) FC(spread_columns_of)(out, count, line, taps, 2, left, end);
    else if (stride == 1) FC(spread_columns_of)(out, count, line, taps, 1, left, end);
    else if (stride > 2) FC(spread_columns_of)(out, count, line, taps, stride, left, end);
    else
        for (ptrdiff_t o = 0; o < count; o++) {
            T sum = 0;
            for (ptrdiff_t k = 0; k < pool->column_count[o]; k++) sum += line[pool->column_first[o] + k];
            out[o] = sum;
        }
}

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

/* Rows with a line each. Some lines are written before the first is read: to read across two vectors that have only
 * just been written takes long. */
FC_INLINE void FC(pool_lines)(const fc_pool *pool, const T *x, T *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                              T *workspace, const int op)
{
    const ptrdiff_t width = pool->width, out_w = pool->out_w, plane = pool->height * width;
    const ptrdiff_t down = pool->row_step * width, before = pool->line_before, after = pool->line_after;
    const ptrdiff_t fresh = FC(fresh_rows)(pool);
    const ptrdiff_t elements = pool->line_elements, apart = op == FC_ARGMAX ? 2 * elements : elements;
    const T *x_end = x + pool->images * plane, *row_divisor = pool->row_divisor, *out_end = out + end * out_w;
    const int64_t *indices_end = op == FC_ARGMAX ? indices + end * out_w : NULL;
    const T neutral = FC(neutral)(op);
    int64_t base[FC_POOL_LINES];
    T divisor[FC_POOL_LINES];
    for (int i = 0; i < FC_POOL_LINES; i++) {
        FC(fill)(workspace + i * apart, neutral, before);
        if (op == FC_ARGMAX) FC(fill)(workspace + i * apart + elements, (T)INFINITY, before);
    }
    ptrdiff_t image = begin / pool->out_h, o = begin % pool->out_h;
    for (ptrdiff_t row = begin, rows; row < end; row += rows) {
        rows = end - row < FC_POOL_LINES ? end - row : FC_POOL_LINES;
        for (ptrdiff_t i = 0; i < rows; i++) {
            const ptrdiff_t first = pool->row_first[o], count = pool->row_count[o];
            T *line = workspace + i * apart + before, *positions = line + elements;
            base[i] = (int64_t)first * width - 1;
            divisor[i] = op == FC_SUM ? row_divisor[o] : 1;
            if (count > 0)
                FC(reduce_rows)(line, positions, 0, x + image * plane + first * width, 0, 1, down, count, width, 1, x_end,
                                row_divisor + (op == FC_SHARE ? first : 0), pool->column_divisor, op, fresh);
            else FC(fill)(line, neutral, width);
            if (after) {
                FC(fill)(line + width, neutral, after);
                if (op == FC_ARGMAX) FC(fill)(positions + width, (T)INFINITY, after);
            }
            if (++o == pool->out_h) o = 0, image++;
        }
        for (ptrdiff_t i = 0; i < rows; i++) {
            const T *line = workspace + i * apart;
            FC(finish_line)(pool, out, indices, row + i, 1, line, line + elements, base[i], divisor[i], out_end,
                            indices_end, op);
        }
    }
}

#include "pool_threes.inc.h"

/* Output rows begin .. end-1 of planes of one channel. */
FC_INLINE void FC(pool_planes)(const fc_pool *pool, const T *x, T *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                               T *workspace, const int op)
{
    const ptrdiff_t width = pool->width, out_w = pool->out_w, plane = pool->height * width;
    const ptrdiff_t down = pool->row_step * width, used = pool->pitch < width ? pool->pitch : width;
    const ptrdiff_t fresh = FC(fresh_rows)(pool);
    const T *x_end = x + pool->images * plane, *row_divisor = pool->row_divisor, *out_end = out + end * out_w;
    const int64_t *indices_end = op == FC_ARGMAX ? indices + end * out_w : NULL;
    const T neutral = FC(neutral)(op);
    if ((op == FC_SUM || op == FC_MAX || op == FC_ARGMAX) && FC(has_pairs)(pool)) {
        FC(pool_pairs)(pool, x, out, indices, begin, end, op);
        return;
    }
    if ((op == FC_SUM || op == FC_MAX) && FC(has_threes)(pool)) {
        FC(pool_threes)(pool, x, out, begin, end, workspace, op);
        return;
    }
    if (pool->lines == 1) {
        FC(pool_lines)(pool, x, out, indices, begin, end, workspace, op);
        return;
    }
    T *positions = workspace + pool->line_elements; /* no padding: lines begin with the image */
    ptrdiff_t image = begin / pool->out_h, o = begin % pool->out_h;
    for (ptrdiff_t row = begin, rows; row < end; row += rows) {
        rows = end - row < pool->lines ? end - row : pool->lines;
        T divisor = 1;
        if (pool->row_stride && (op == FC_SUM || op == FC_MAX)) {
            const T *src = x + row * pool->row_stride * width;
            FC(reduce_rows)(workspace, NULL, pool->pitch, src, pool->row_stride * width, rows, down, pool->row_count[0],
                            used, 0, x_end, NULL, NULL, op, fresh);
            if (op == FC_SUM) divisor = row_divisor[0];
        } else for (ptrdiff_t i = 0; i < rows; i++) {
            const ptrdiff_t first = pool->row_first[o], count = pool->row_count[o], at = i * pool->pitch;
            if (op == FC_SUM) divisor = row_divisor[o];
            if (count > 0)
                FC(reduce_rows)(workspace + at, positions + at, 0, x + image * plane + first * width, 0, 1, down, count,
                                used, (T)(1 + first * width), x_end, row_divisor + (op == FC_SHARE ? first : 0),
                                pool->column_divisor, op, fresh);
            else FC(fill)(workspace + at, neutral, used);
            if (++o == pool->out_h) o = 0, image++;
        }
        FC(finish_line)(pool, out, indices, row, rows, workspace, positions, -1, divisor, out_end, indices_end, op);
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
