/* Maxima and means of 3x3 windows one pixel apart, and the gradient of such means, over planes of one channel.
 * Contracts: fc_pool in kernels.h.
 *
 * A block is some rows by one vector of results, all in registers: each row of the image is reduced to the windows'
 * three columns once and serves every row of the block that sees it. Rows outside the image are rows of what never
 * wins (or adds zero), columns outside it are lanes that are not loaded. The last block of a row, and the last rows
 * that a call has to write of a plane, overlap the ones before. Processors' maxima forget NaNs, and to remember them
 * takes two operations a maximum: so they are noticed here, and rows with one are computed by pool_lines.
 */
enum { FC(THREES_ROWS) = 4 };

/* Whether windows are so; rows of the image that are missing above the first: 3 - row_count[0]. */
FC_INLINE int FC(has_threes)(const fc_pool *pool)
{
    if (pool->stride != 1 || pool->kernel_w != 3 || pool->column_step != 1 || pool->row_step != 1) return 0;
    const ptrdiff_t top = 3 - pool->row_count[0];
    for (ptrdiff_t o = 0; o < pool->out_h; o++) {
        const ptrdiff_t first = o < top ? 0 : o - top, end = o - top + 3 < pool->height ? o - top + 3 : pool->height;
        if (pool->row_first[o] != first || pool->row_count[o] != end - first) return 0;
    }
    return 1;
}

/* FC(reduce) of numbers. */
FC_INLINE VEC FC(join)(VEC a, VEC b, const int op) { return op == FC_MAX ? V(max)(b, a) : V(add)(a, b); }

/* `count` rows of results; divisors: of the means, a row's each. `next`: the first row that none of them sees.
 * Returns whether a maximum met a NaN, which must be looked for with more care then. */
FC_INLINE int FC(three_rows)(const fc_pool *pool, const T *const *rows, T *out, const T *divisors, const T *next,
                              const int op, const int count)
{
    const ptrdiff_t out_w = pool->out_w, width = pool->width;
    const T *column_divisor = pool->column_divisor;
    const VEC neutral = V(set1)(FC(neutral)(op)), even_divisor = V(set1)(divisors[0] * column_divisor[0]);
    const ptrdiff_t before = op == FC_SHARE_EVENLY ? 2 - pool->left : pool->left; /* columns missing at the left */
#define BLOCK(LOAD)                                                                                               \
    FC_UNROLL                                                                                                     \
    for (int k = 0; k < count + 2; k++) {                                                                         \
        const T *p = rows[k] + from;                                                                              \
        const VEC left = LOAD(p, 0), middle = LOAD(p, 1), right = LOAD(p, 2);                                     \
        across[k] = FC(join)(FC(join)(left, middle, op), right, op);                                              \
        if (op == FC_MAX)                                                                                         \
            nan = V(or)(V(or)(nan, V(is_nan)(left)), V(or)(V(is_nan)(middle), V(is_nan)(right)));                 \
    }
#define LOAD_ALL(p, j) V(load)(p + j)
#define LOAD_INSIDE(p, j) V(select)(inside[j], V(load_where)(inside[j], p + j), neutral)
    for (ptrdiff_t c = 0; c < out_w; c += LANES) {
        VEC across[FC(THREES_ROWS) + 2];
        V(mask) nan = V(range)(0, 0);
        if (c + LANES > out_w && out_w >= LANES) c = out_w - LANES;
        const ptrdiff_t from = c - before;
        fc_fetch(next + count * c, count * LANES * sizeof(T));
        fc_fetch_to_write(out + count * (out_w + c), count * LANES * sizeof(T));
        if (from >= 0 && from + 2 + LANES <= width) {
            BLOCK(LOAD_ALL)
        } else {
            V(mask) inside[3];
            FC_UNROLL
            for (int j = 0; j < 3; j++) inside[j] = V(range)(-from - j, width - from - j);
            BLOCK(LOAD_INSIDE)
        }
        if (op == FC_MAX && V(bits)(nan)) return 1;
        FC_UNROLL
        for (int r = 0; r < count; r++) {
            VEC result = FC(join)(FC(join)(across[r], across[r + 1], op), across[r + 2], op);
            if (op == FC_SUM) result = V(div)(result, V(mul)(V(set1)(divisors[r]), V(load)(column_divisor + c)));
            if (op == FC_SHARE_EVENLY) result = V(div)(result, even_divisor);
            if (out_w >= LANES) V(store)(out + r * out_w + c, result);
            else V(store_first)(out + r * out_w, result, out_w);
        }
    }
    return 0;
#undef BLOCK
#undef LOAD_ALL
#undef LOAD_INSIDE
}

/* Output rows from `begin` on, up to `end` or a block with a NaN; returns how far it came. */
FC_INLINE ptrdiff_t FC(pool_threes)(const fc_pool *pool, const T *x, T *out, ptrdiff_t begin, ptrdiff_t end,
                                    T *workspace, const int op)
{
    enum { MOST = FC(THREES_ROWS) };
    const ptrdiff_t width = pool->width, height = pool->height, top = 3 - pool->row_count[0];
    const T *rows[MOST + 2], *row_divisor = pool->row_divisor, neutral = FC(neutral)(op);
    FC(fill)(workspace, neutral, width);
    for (ptrdiff_t row = begin, last; row < end; row = last) {
        const T *plane = x + row / pool->out_h * height * width;
        const ptrdiff_t first = row - row % pool->out_h; /* of this plane */
        last = first + pool->out_h < end ? first + pool->out_h : end;
        const ptrdiff_t count = last - row < MOST ? 1 : MOST;
        for (; row < last; row += count) {
            if (row + count > last) row = last - count;
            const ptrdiff_t y = row - first - top;
            for (ptrdiff_t k = 0; k < count + 2; k++)
                rows[k] = y + k >= 0 && y + k < height ? plane + (y + k) * width : workspace;
            const T *next = plane + (y + count + 2) * width;
            const T *divisors = row_divisor + (op == FC_SUM ? row - first : 0);
            T *to = out + row * pool->out_w;
            const int nan = count == MOST ? FC(three_rows)(pool, rows, to, divisors, next, op, MOST)
                                          : FC(three_rows)(pool, rows, to, divisors, next, op, 1);
            if (nan) return row;
        }
    }
    return end;
}
