/* Pooling with one window, the whole plane: global averages, and their gradient. Contracts: fc_pool in kernels.h. */
#ifndef FC_POOL_GLOBAL
#define FC_POOL_GLOBAL
/* Whether every row (column) of an image is in the only window. */
FC_INLINE int fc_is_global(const fc_pool *pool)
{
    return pool->out_h == 1 && pool->out_w == 1 && pool->row_count[0] == pool->height &&
           pool->column_count[0] == pool->width && pool->row_step == 1 && pool->column_step == 1;
}

/* The same, of an adjoint pool. */
FC_INLINE int fc_is_from_global(const fc_pool *pool)
{
    if (pool->height != 1 || pool->width != 1 || !pool->even) return 0;
    for (ptrdiff_t i = 0; i < pool->out_h; i++)
        if (pool->row_count[i] != 1) return 0;
    for (ptrdiff_t j = 0; j < pool->out_w; j++)
        if (pool->column_count[j] != 1) return 0;
    return 1;
}
#endif

/* `run` vectors are added up before their sum is added to the plane's, so that errors of large planes stay small. */
FC_INLINE VEC FC(sum_plane)(const T *x, ptrdiff_t count, ptrdiff_t run, V(mask) rest)
{
    VEC sum = V(zero)();
    while (count >= LANES) {
        if (run > count / LANES) run = count / LANES;
        VEC part = V(load)(x);
        ptrdiff_t i = 1;
        if (run > 2) { /* two sums at a time: an addition takes as long as six loads */
            VEC other = V(load)(x + LANES);
            for (i = 2; i + 1 < run; i += 2) {
                part = V(add)(part, V(load)(x + i * LANES));
                other = V(add)(other, V(load)(x + (i + 1) * LANES));
            }
            part = V(add)(part, other);
        }
        for (; i < run; i++) part = V(add)(part, V(load)(x + i * LANES));
        sum = V(add)(sum, part);
        x += run * LANES;
        count -= run * LANES;
    }
    return count ? V(add)(sum, V(load_where)(rest, x)) : sum;
}

/* The means of planes begin .. end-1. The vectors of as many planes as there are lanes are added up together. */
static void FC(global_means)(const fc_pool *pool, const T *x, T *out, ptrdiff_t begin, ptrdiff_t end)
{
    const ptrdiff_t plane = pool->height * pool->width;
    ptrdiff_t run = 8;
    while (run * run * LANES < plane) run *= 2;
    const V(mask) rest = V(range)(0, plane % LANES);
    const T *row_divisor = pool->row_divisor, *column_divisor = pool->column_divisor;
    const VEC divisor = V(set1)(row_divisor[0] * column_divisor[0]);
    for (ptrdiff_t i = begin; i < end; i += LANES) {
        const ptrdiff_t planes = end - i < LANES ? end - i : LANES;
        T sums[LANES * LANES], turned[LANES * LANES];
        for (ptrdiff_t k = 0; k < planes; k++)
            V(store)(sums + k * LANES, FC(sum_plane)(x + (i + k) * plane, plane, run, rest));
        for (ptrdiff_t k = planes; k < LANES; k++) V(store)(sums + k * LANES, V(zero)());
        V(transpose)(turned, LANES, sums, LANES);
        VEC lane[LANES];
        FC_UNROLL
        for (int k = 0; k < LANES; k++) lane[k] = V(load)(turned + k * LANES);
        FC_UNROLL
        for (int half = LANES / 2; half > 0; half /= 2)
            FC_UNROLL
            for (int k = 0; k < half; k++) lane[k] = V(add)(lane[k], lane[k + half]);
        const VEC means = V(div)(lane[0], divisor);
        if (planes == LANES) V(store)(out + i, means);
        else V(store_first)(out + i, means, planes);
    }
}

/* Output rows begin .. end-1: every pixel of a plane has the same share. */
static void FC(share_globally)(const fc_pool *pool, const T *grad_output, T *grad_x, ptrdiff_t begin, ptrdiff_t end)
{
    const T *row_divisor = pool->row_divisor, *column_divisor = pool->column_divisor;
    const T divisor = row_divisor[0] * column_divisor[0];
    for (ptrdiff_t row = begin, rows; row < end; row += rows) {
        const ptrdiff_t left = pool->out_h - row % pool->out_h; /* rows of this plane */
        const VEC share = V(set1)(grad_output[row / pool->out_h] / divisor);
        rows = left < end - row ? left : end - row;
        T *to = grad_x + row * pool->out_w;
        ptrdiff_t count = rows * pool->out_w;
        for (; count >= LANES; count -= LANES, to += LANES) V(store)(to, share);
        if (count) V(store_first)(to, share, count);
    }
}
