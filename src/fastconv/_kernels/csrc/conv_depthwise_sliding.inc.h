/* Depthwise convolution of planes with stride 1, 3x3 and 5x5, for instruction sets whose registers hold all taps.
 * Contract: depthwise in kernels.h.
 *
 * A vector of the input is loaded once for each tap column and meets all tap rows there and then: about a third of the
 * loads that blocks of rows need, and loads that cross a line of the cache are what bounds those.
 */
enum {
    FC(SLIDES) = TILE_ROWS >= FC_SLIDING_ROWS,
    FC(SLIDING_MOST) = 5,
    FC(SLIDING_BAND) = 8,  /* rows; more are too many streams of memory side by side */
    FC(SLIDING_ALONE) = 3, /* vectors of a row up to which a column goes down the whole plane */
};

/* Steps begin .. end-1 of a column of vectors of outputs, kernel x kernel and stride 1, from the top down: step i ends
 * output row i. A vector of the input is loaded once for each tap column, without those lanes that lie beside the image;
 * it finishes one row of outputs, begins another and continues those between. `state` keeps their sums from call to
 * call; with `all` steps in one call nothing is kept. */
FC_INLINE void FC(slide_down)(const fc_depthwise *d, const T *x, T *out, ptrdiff_t begin, ptrdiff_t end, const T *out_end,
                              const VEC *taps, VEC first, const V(mask) *inside, VEC *state, const int kernel,
                              const int all)
{
    const ptrdiff_t x_row = d->x_row, out_row = d->out_row, height = d->height, out_w = d->out_w;
    const ptrdiff_t last = kernel - 1, below = last - d->top;
    const int relu = d->relu;
    VEC sums[FC(SLIDING_MOST)];
    V(mask) seen[FC(SLIDING_MOST)];
    FC_UNROLL
    for (int j = 0; j < kernel; j++) seen[j] = inside[j];
    FC_UNROLL
    for (int i = 0; i < last; i++) sums[i] = all ? first : state[i];
    for (ptrdiff_t row = begin; row < end; row++) {
        const ptrdiff_t y = row + below;
        sums[last] = first;
        if (y >= 0 && y < height) {
            const T *from = x + y * x_row;
            FC_UNROLL
            for (int j = 0; j < kernel; j++) {
                const VEC in = V(load_where)(seen[j], from + j);
                FC_UNROLL
                for (int i = 0; i < kernel; i++) sums[i] = V(fma)(in, taps[(last - i) * kernel + j], sums[i]);
            }
        }
        if (row >= 0) {
            T *to = out + row * out_row;
            const VEC result = relu ? V(max)(V(zero)(), sums[0]) : sums[0];
            if (out_w >= LANES || to + LANES <= out_end) V(store)(to, result);
            else V(store_first)(to, result, out_w);
        }
        FC_UNROLL
        for (int i = 0; i < last; i++) sums[i] = sums[i + 1];
    }
    if (all) return;
    FC_UNROLL
    for (int i = 0; i < last; i++) state[i] = sums[i];
}

/* Bands of rows, so that memory is read and written row by row; planes of few vectors a row go down in one. */
FC_INLINE void FC(depthwise_sliding)(const fc_depthwise *d, const int kernel)
{
    enum { BLOCKS = 32, MOST = FC(SLIDING_MOST) }; /* columns of vectors that are on the way at a time */
    const ptrdiff_t out_w = d->out_w, out_h = d->out_h, area = FC(SLIDING_BAND) * LANES;
    const T *bias = d->bias;
    const int all = out_w <= FC(SLIDING_ALONE) * LANES;
    for (ptrdiff_t left = 0, blocks; left < out_w; left += blocks * LANES) {
        VEC state[BLOCKS][MOST - 1];
        V(mask) inside[BLOCKS][MOST];
        ptrdiff_t columns[BLOCKS];
        for (blocks = 0; blocks < BLOCKS && left + blocks * LANES < out_w; blocks++) {
            ptrdiff_t column = left + blocks * LANES;
            if (column + LANES > out_w && out_w >= LANES) column = out_w - LANES;
            columns[blocks] = column;
            for (int j = 0; j < kernel; j++)
                inside[blocks][j] = V(range)(d->left - column - j, d->width + d->left - column - j);
        }
        for (ptrdiff_t plane = 0; plane < d->planes; plane++) {
            const T *weight = (const T *)d->weight + plane * d->weight_plane;
            const T *x = (const T *)d->x + plane * d->x_plane;
            T *out = (T *)d->out + plane * d->out_plane;
            const T *end = out + (out_h - 1) * d->out_row + out_w;
            const VEC first = bias ? V(set1)(bias[plane]) : V(zero)();
            VEC taps[MOST * MOST];
            FC_UNROLL
            for (int i = 0; i < kernel; i++)
                FC_UNROLL
                for (int j = 0; j < kernel; j++)
                    taps[i * kernel + j] = V(set1)(weight[i * d->weight_h + j * d->weight_w]);
            if (all) {
                for (ptrdiff_t b = 0; b < blocks; b++)
                    FC(slide_down)(d, x + columns[b] - d->left, out + columns[b], 1 - kernel, out_h, end, taps, first,
                                   inside[b], NULL, kernel, 1);
                continue;
            }
            for (ptrdiff_t b = 0; b < blocks; b++)
                for (int i = 0; i < kernel - 1; i++) state[b][i] = first;
            for (ptrdiff_t row = 1 - kernel, next; row < out_h; row = next) {
                next = row + FC(SLIDING_BAND) < out_h ? row + FC(SLIDING_BAND) : out_h;
                for (ptrdiff_t b = 0; b < blocks; b++) {
                    fc_fetch(x + (next + kernel - 1 - d->top) * d->x_row + b * area, area * sizeof(T));
                    fc_fetch_to_write(out + next * d->out_row + b * area, area * sizeof(T));
                    FC(slide_down)(d, x + columns[b] - d->left, out + columns[b], row, next, end, taps, first, inside[b],
                                   state[b], kernel, 0);
                }
            }
        }
    }
}

FC_NOINLINE void FC(depthwise_threes)(const fc_depthwise *d) { FC(depthwise_sliding)(d, 3); }
FC_NOINLINE void FC(depthwise_fives)(const fc_depthwise *d) { FC(depthwise_sliding)(d, 5); }
