/* Depthwise convolution of pixels (NHWC) and the gradient of its weight: lanes are channels. Contracts:
 * fc_depthwise in kernels.h.
 *
 * A run of neighbouring outputs shares loads: each pixel of the input serves all outputs that it meets, each
 * tap serves them all. Rows of taps outside the image are left out; pixels outside are left out, or zeros in
 * a shared run.
 */
enum {
    FC(DEPTHWISE_RUN) = TILE_ROWS >= 7 ? 7 : 4, /* outputs of a run, at most: as many as there are registers for */
    FC(DEPTHWISE_SHORT_RUN) = 4,                /* where memory decides */
    FC(DEPTHWISE_RUN_PIXELS) = (FC(DEPTHWISE_RUN) - 1) * 2 + 7
};

/* The first and last + 1 of `count` positions, `step` apart from `start` on, that lie in [0, size). */
FC_INLINE void FC(inside)(ptrdiff_t start, ptrdiff_t step, ptrdiff_t size, ptrdiff_t count, ptrdiff_t *first,
                          ptrdiff_t *last)
{
    const ptrdiff_t from = start < 0 ? (-start + step - 1) / step : 0;
    const ptrdiff_t to = start < size ? (size - start + step - 1) / step : 0;
    *last = to < count ? to : count;
    *first = from < *last ? from : *last;
}

/* Outputs next to each other. The first one's taps begin at x, which may lie outside; of them rows [i0, i1)
 * and, if it is the only output, columns [j0, j1) lie inside, and so do x's neighbours [k0, k1). */
typedef struct {
    const T *x;
    T *out;
    ptrdiff_t i0, i1, j0, j1, k0, k1;
} FC(run);

/* What a run is computed by; constants, each combination a body of its own. */
typedef struct {
    int kernel, stride; /* taps side by side, kernel x kernel, same stride both ways; or 0, 0: any */
    int narrow;         /* fewer channels than lanes */
} FC(run_kind);

/* A row ahead, while channels c .. c + LANES - 1 are computed: as much of `pixels` neighbours from p on, in
 * the order in which they lie in memory, so that machines see them as one stream. */
FC_INLINE void FC(prefetch_run)(const T *p, ptrdiff_t c, const int pixels)
{
    FC_UNROLL
    for (int at = 0; at < pixels * LANES; at += 64 / (int)sizeof(T)) FC_PREFETCH(p + c * pixels + at);
}

FC_INLINE void FC(prefetch_next_row)(const fc_depthwise *d, const FC(run) * run, ptrdiff_t c,
                                     const FC(run_kind) kind, const int count)
{
    for (int row = 0; row < kind.stride; row++)
        FC(prefetch_run)(run->x + (kind.kernel + row) * d->x_row, c, count * kind.stride);
    FC(prefetch_run)(run->out + d->out_row, c, count);
}

/* The pixels of one row of taps that `count` outputs share; with an edge, zeros for those outside. */
FC_INLINE void FC(load_run)(VEC *in, const fc_depthwise *d, const FC(run) * run, const T *x, V(mask) mask,
                            const FC(run_kind) kind, const int count, const int edge, const int partial)
{
    FC_UNROLL
    for (int k = 0; k < (count - 1) * kind.stride + kind.kernel; k++) {
        if (edge && (k < run->k0 || k >= run->k1)) in[k] = V(zero)();
        else in[k] = FC(load_edge)(x + k * d->x_pixel, mask, partial);
    }
}

FC_INLINE void FC(run_shared)(const fc_depthwise *d, const FC(run) * run, const FC(run_kind) kind,
                              const int count, const int edge)
{
    const ptrdiff_t channels = d->planes;
    const T *bias = d->bias;
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        if (c + LANES > channels) c = channels - LANES;
        VEC acc[FC(DEPTHWISE_RUN)], in[FC(DEPTHWISE_RUN_PIXELS)];
        const VEC first = bias ? V(load)(bias + c) : V(zero)();
        FC_UNROLL
        for (int q = 0; q < count; q++) acc[q] = first;
        FC(prefetch_next_row)(d, run, c, kind, count);
        for (ptrdiff_t i = run->i0; i < run->i1; i++) {
            const T *weight = (const T *)d->weight + i * kind.kernel * channels + c;
            FC(load_run)(in, d, run, run->x + i * d->x_row + c, V(range)(0, 0), kind, count, edge, 0);
            FC_UNROLL
            for (int j = 0; j < kind.kernel; j++) {
                const VEC tap = V(load)(weight + j * channels);
                FC_UNROLL
                for (int q = 0; q < count; q++) acc[q] = V(fma)(in[q * kind.stride + j], tap, acc[q]);
            }
        }
        FC_UNROLL
        for (int q = 0; q < count; q++)
            V(store)(run->out + q * d->out_pixel + c, d->relu ? V(max)(V(zero)(), acc[q]) : acc[q]);
    }
}

FC_INLINE void FC(run_any)(const fc_depthwise *d, const FC(run) * run, const int count, const int narrow)
{
    const ptrdiff_t channels = d->planes, next = d->stride_w * d->x_pixel,
                    column = d->dilation_w * d->x_pixel;
    const T *bias = d->bias;
    const V(mask) mask = V(range)(0, channels);
    const ptrdiff_t rows = d->taps_w < FC_CHAIN ? FC_CHAIN / d->taps_w : 1; /* of taps, in a chain */
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        if (!narrow && c + LANES > channels) c = channels - LANES;
        VEC acc[FC(DEPTHWISE_RUN)];
        const VEC first = bias ? FC(load_edge)(bias + c, mask, narrow) : V(zero)();
        FC_UNROLL
        for (int q = 0; q < count; q++) acc[q] = first;
        for (ptrdiff_t i = run->i0; i < run->i1;) {
            const int goes_on = i >= rows;
            const ptrdiff_t end = (i / rows + 1) * rows;
            VEC chain[FC(DEPTHWISE_RUN)];
            FC_UNROLL
            for (int q = 0; q < count; q++) chain[q] = goes_on ? V(zero)() : acc[q];
            for (; i < run->i1 && i < end; i++) {
                const T *x = run->x + i * d->dilation_h * d->x_row + run->j0 * column + c;
                const T *weight = (const T *)d->weight + (i * d->taps_w + run->j0) * channels + c;
                for (ptrdiff_t j = run->j0; j < run->j1; j++, x += column, weight += channels) {
                    const VEC tap = FC(load_edge)(weight, mask, narrow);
                    FC_UNROLL
                    for (int q = 0; q < count; q++)
                        chain[q] = V(fma)(FC(load_edge)(x + q * next, mask, narrow), tap, chain[q]);
                }
            }
            FC_UNROLL
            for (int q = 0; q < count; q++) acc[q] = goes_on ? V(add)(acc[q], chain[q]) : chain[q];
        }
        FC_UNROLL
        for (int q = 0; q < count; q++) {
            T *to = run->out + q * d->out_pixel + c;
            const VEC y = d->relu ? V(max)(V(zero)(), acc[q]) : acc[q];
            if (narrow) V(store_first)(to, y, channels);
            else V(store)(to, y);
        }
    }
}

/* sums[i][j][c ..] of the taps that the run meets += its grad_output (run->out) times its input; `partial`
 * where channels end within the vector. */
FC_INLINE void FC(run_weight_shared)(const fc_depthwise *d, const FC(run) * run, T *sums, ptrdiff_t sums_step,
                                     ptrdiff_t c, const FC(run_kind) kind, const int count, const int edge,
                                     const int partial)
{
    const V(mask) mask = V(range)(0, d->planes - c);
    VEC g[FC(DEPTHWISE_RUN)], in[FC(DEPTHWISE_RUN_PIXELS)];
    FC_UNROLL
    for (int q = 0; q < count; q++) g[q] = FC(load_edge)(run->out + q * d->out_pixel + c, mask, partial);
    FC(prefetch_next_row)(d, run, c, kind, count);
    for (ptrdiff_t i = run->i0; i < run->i1; i++) {
        T *sum = sums + i * kind.kernel * sums_step + c;
        FC(load_run)(in, d, run, run->x + i * d->x_row + c, mask, kind, count, edge, partial);
        FC_UNROLL
        for (int j = 0; j < kind.kernel; j++) {
            VEC acc = V(zero)();
            FC_UNROLL
            for (int q = 0; q < count; q++) acc = V(fma)(in[q * kind.stride + j], g[q], acc);
            V(store)(sum + j * sums_step, V(add)(V(load)(sum + j * sums_step), acc));
        }
    }
}

FC_INLINE void FC(run_weight_any)(const fc_depthwise *d, const FC(run) * run, T *sums, ptrdiff_t sums_step,
                                  ptrdiff_t c, const int count, const int partial)
{
    const ptrdiff_t next = d->stride_w * d->x_pixel, column = d->dilation_w * d->x_pixel;
    const V(mask) mask = V(range)(0, d->planes - c);
    VEC g[FC(DEPTHWISE_RUN)];
    FC_UNROLL
    for (int q = 0; q < count; q++) g[q] = FC(load_edge)(run->out + q * d->out_pixel + c, mask, partial);
    for (ptrdiff_t i = run->i0; i < run->i1; i++) {
        const T *x = run->x + i * d->dilation_h * d->x_row + run->j0 * column + c;
        T *sum = sums + (i * d->taps_w + run->j0) * sums_step + c;
        for (ptrdiff_t j = run->j0; j < run->j1; j++, x += column, sum += sums_step) {
            VEC acc = V(zero)();
            FC_UNROLL
            for (int q = 0; q < count; q++)
                acc = V(fma)(FC(load_edge)(x + q * next, mask, partial), g[q], acc);
            V(store)(sum, V(add)(V(load)(sum), acc));
        }
    }
}

/* Computes a run, or, with sums, its share of the weight's gradient. */
FC_INLINE void FC(do_run)(const fc_depthwise *d, const FC(run) * run, T *sums, ptrdiff_t sums_step,
                          const FC(run_kind) kind, const int of_weight, const int count, const int edge)
{
    if (!of_weight) {
        if (kind.kernel) FC(run_shared)(d, run, kind, count, edge);
        else FC(run_any)(d, run, count, kind.narrow);
        return;
    }
    ptrdiff_t c = 0;
    for (; c + LANES <= d->planes; c += LANES) {
        if (kind.kernel) FC(run_weight_shared)(d, run, sums, sums_step, c, kind, count, edge, 0);
        else FC(run_weight_any)(d, run, sums, sums_step, c, count, 0);
    }
    if (c == d->planes) return;
    if (kind.kernel) FC(run_weight_shared)(d, run, sums, sums_step, c, kind, count, edge, 1);
    else FC(run_weight_any)(d, run, sums, sums_step, c, count, 1);
}

/* All outputs, in runs. The last run of a row goes back over outputs done before where that is harmless. */
FC_INLINE void FC(all_runs)(const fc_depthwise *d, T *sums, ptrdiff_t sums_step, const FC(run_kind) kind,
                            const int of_weight)
{
    const int length = kind.kernel >= 5 || kind.stride == 1 ? FC(DEPTHWISE_RUN) : FC(DEPTHWISE_SHORT_RUN);
    const ptrdiff_t reach = (length - 1) * d->stride_w + (d->taps_w - 1) * d->dilation_w;
    for (ptrdiff_t row = 0; row < d->out_h; row++) {
        const ptrdiff_t top = row * d->stride_h - d->top;
        FC(run) run;
        FC(inside)(top, d->dilation_h, d->height, d->taps_h, &run.i0, &run.i1);
        for (ptrdiff_t p = 0, count; p < d->out_w; p += count) {
            if (kind.kernel && !of_weight && p + length > d->out_w && d->out_w >= length) p = d->out_w - length;
            const ptrdiff_t from = p * d->stride_w - d->left;
            const int edge = from < 0 || from + reach >= d->width;
            run.x = (const T *)d->x + top * d->x_row + from * d->x_pixel;
            run.out = (T *)d->out + row * d->out_row + p * d->out_pixel;
            run.k0 = -from;
            run.k1 = d->width - from;
            FC(inside)(from, d->dilation_w, d->width, d->taps_w, &run.j0, &run.j1);
            count = p + length <= d->out_w && (kind.kernel || !edge) ? length : 1;
            if (count == 1) FC(do_run)(d, &run, sums, sums_step, kind, of_weight, 1, 1);
            else if (edge && kind.kernel) FC(do_run)(d, &run, sums, sums_step, kind, of_weight, length, 1);
            else FC(do_run)(d, &run, sums, sums_step, kind, of_weight, length, 0);
        }
    }
}

#define RUN_KINDS(KIND) \
    KIND(3, 1)          \
    KIND(3, 2)          \
    KIND(5, 1)          \
    KIND(5, 2)          \
    KIND(7, 1)

#define KIND(kernel, stride)                                                                      \
    FC_NOINLINE void FC(pixels_##kernel##_stride_##stride)(const fc_depthwise *d)                 \
    {                                                                                             \
        FC(all_runs)(d, NULL, 0, (FC(run_kind)){kernel, stride, 0}, 0);                           \
    }                                                                                             \
    FC_NOINLINE void FC(pixels_weight_##kernel##_stride_##stride)(const fc_depthwise *d, T *sums, \
                                                                  ptrdiff_t step)                 \
    {                                                                                             \
        FC(all_runs)(d, sums, step, (FC(run_kind)){kernel, stride, 0}, 1);                        \
    }
RUN_KINDS(KIND)
#undef KIND

FC_INLINE int FC(is_kind)(const fc_depthwise *d, ptrdiff_t kernel, ptrdiff_t stride)
{
    return d->taps_h == kernel && d->taps_w == kernel && d->stride_h == stride && d->stride_w == stride &&
           d->dilation_h == 1 && d->dilation_w == 1;
}

static void FC(depthwise_pixels)(const fc_depthwise *d)
{
    if (d->planes < LANES) {
        FC(all_runs)(d, NULL, 0, (FC(run_kind)){0, 0, 1}, 0);
        return;
    }
#define KIND(kernel, stride)                      \
    if (FC(is_kind)(d, kernel, stride)) {         \
        FC(pixels_##kernel##_stride_##stride)(d); \
        return;                                   \
    }
    RUN_KINDS(KIND)
#undef KIND
    FC(all_runs)(d, NULL, 0, (FC(run_kind)){0, 0, 0}, 0);
}

static void FC(depthwise_pixels_weight)(const fc_depthwise *d, void *sums, ptrdiff_t sums_step)
{
#define KIND(kernel, stride)                                              \
    if (FC(is_kind)(d, kernel, stride)) {                                 \
        FC(pixels_weight_##kernel##_stride_##stride)(d, sums, sums_step); \
        return;                                                           \
    }
    RUN_KINDS(KIND)
#undef KIND
    FC(all_runs)(d, sums, sums_step, (FC(run_kind)){0, 0, 0}, 1);
}
#undef RUN_KINDS
