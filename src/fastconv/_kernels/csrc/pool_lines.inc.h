/* The two steps of pool.inc.h: rows reduced to a line, and the columns of a line.
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

/* The same for two rows each, which fill half a vector and follow each other: two lines at a time. */
FC_INLINE void FC(reduce_half_rows)(T *line, const T *src, ptrdiff_t count, const int op)
{
    enum { WIDTH = LANES / 2 };
    const V(mask) low = V(range)(0, WIDTH);
    FC(candidate) upper, lower;
    upper.position = lower.position = V(zero)();
    for (; count >= 2; count -= 2, line += LANES, src += 2 * LANES) {
        const VEC middle = V(load)(src + WIDTH);
        upper.value = V(select)(low, V(load)(src), middle);
        lower.value = V(select)(low, middle, V(load)(src + 2 * WIDTH));
        V(store)(line, FC(reduce)(upper, lower, op, 1).value);
    }
    if (count) {
        upper.value = V(load)(src);
        lower.value = V(load_where)(low, src + WIDTH);
        V(store)(line, FC(reduce)(upper, lower, op, 1).value);
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
    const int half_rows = rows == 2 && 2 * width == LANES && step == width && advance == 2 * step && pitch == width;
    if (half_rows && (op == FC_MAX || op == FC_SUM)) FC(reduce_half_rows)(line, src, count, op);
    else if (end - src - (count - 1) * advance - (rows - 1) * step < reach) ROWS(rows, 0, fresh);
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
    if (stride == 3) return FC(every)(p + offset, 3, NULL);
    if (stride == 4) return FC(every)(p + offset, 4, NULL);
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
    else if (stride == 3 && taps == 3 && step == 1) COLUMNS(3, 3, 1);
    else if (stride == 3) COLUMNS(taps, 3, step);
    else if (stride == 4) COLUMNS(taps, 4, step);
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
