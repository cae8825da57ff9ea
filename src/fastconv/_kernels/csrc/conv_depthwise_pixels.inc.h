/* Depthwise convolution of pixels (NHWC) and the gradient of its weight: lanes are channels. Contracts: fc_depthwise
 * in kernels.h.
 *
 * Taps that lie outside the image are left out. Up to PIXELS neighbours share each load of a weight.
 */
enum { FC(DEPTHWISE_PIXELS) = 4 };

/* The first and last + 1 of `count` positions, `step` apart from `start` on, that lie in [0, size). */
FC_INLINE void FC(inside)(ptrdiff_t start, ptrdiff_t step, ptrdiff_t size, ptrdiff_t count, ptrdiff_t *first,
                          ptrdiff_t *last)
{
    const ptrdiff_t from = start < 0 ? (-start + step - 1) / step : 0;
    const ptrdiff_t to = start < size ? (size - start + step - 1) / step : 0;
    *last = to < count ? to : count;
    *first = from < *last ? from : *last;
}

/* `pixels` outputs next to each other, of which the tap rows [i0, i1) and the tap columns [j0, j1) lie inside;
 * x points to where the first one's first tap would be. */
FC_INLINE void FC(depthwise_run)(const fc_depthwise *d, const T *x, T *out, ptrdiff_t i0, ptrdiff_t i1, ptrdiff_t j0,
                                 ptrdiff_t j1, const int pixels, const int narrow)
{
    const ptrdiff_t channels = d->planes, next = d->stride_w * d->x_pixel, column = d->dilation_w * d->x_pixel;
    const T *weights = d->weight, *bias = d->bias;
#define LOAD(p) (narrow ? V(load_range)(p, 0, channels) : V(load)(p))
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        if (!narrow && c + LANES > channels) c = channels - LANES;
        VEC acc[FC(DEPTHWISE_PIXELS)];
        const VEC first = bias ? LOAD(bias + c) : V(zero)();
        FC_UNROLL
        for (int q = 0; q < pixels; q++) acc[q] = first;
        for (ptrdiff_t i = i0; i < i1; i++) {
            const T *from = x + i * d->dilation_h * d->x_row + j0 * column + c;
            const T *weight = weights + (i * d->taps_w + j0) * channels + c;
            for (ptrdiff_t j = j0; j < j1; j++) {
                const VEC tap = LOAD(weight);
                FC_UNROLL
                for (int q = 0; q < pixels; q++) acc[q] = V(fma)(LOAD(from + q * next), tap, acc[q]);
                from += column;
                weight += channels;
            }
        }
        FC_UNROLL
        for (int q = 0; q < pixels; q++) {
            T *to = out + q * d->out_pixel + c;
            VEC y = d->relu ? V(max)(V(zero)(), acc[q]) : acc[q];
            if (narrow) V(store_first)(to, y, channels);
            else V(store)(to, y);
        }
    }
#undef LOAD
}

static void FC(depthwise_pixels)(const fc_depthwise *d)
{
    enum { PIXELS = FC(DEPTHWISE_PIXELS) };
    const int narrow = d->planes < LANES;
    for (ptrdiff_t row = 0; row < d->out_h; row++) {
        const ptrdiff_t top = row * d->stride_h - d->top;
        ptrdiff_t i0, i1, j0, j1, pixels;
        FC(inside)(top, d->dilation_h, d->height, d->taps_h, &i0, &i1);
        for (ptrdiff_t p = 0; p < d->out_w; p += pixels) {
            const ptrdiff_t from = p * d->stride_w - d->left;
            const ptrdiff_t reach = from + (PIXELS - 1) * d->stride_w + (d->taps_w - 1) * d->dilation_w;
            const T *x = (const T *)d->x + top * d->x_row + from * d->x_pixel;
            T *out = (T *)d->out + row * d->out_row + p * d->out_pixel;
            FC(inside)(from, d->dilation_w, d->width, d->taps_w, &j0, &j1);
            pixels = from >= 0 && reach < d->width && p + PIXELS <= d->out_w ? PIXELS : 1;
            if (narrow) {
                if (pixels > 1) FC(depthwise_run)(d, x, out, i0, i1, j0, j1, PIXELS, 1);
                else FC(depthwise_run)(d, x, out, i0, i1, j0, j1, 1, 1);
            } else {
                if (pixels > 1) FC(depthwise_run)(d, x, out, i0, i1, j0, j1, PIXELS, 0);
                else FC(depthwise_run)(d, x, out, i0, i1, j0, j1, 1, 0);
            }
        }
    }
}

/* Tap columns j .. j + columns - 1 of tap row i over one row of outputs, for `lanes` channels. Even and odd pixels
 * have sums of their own, as one chain of additions would wait for itself. */
FC_INLINE void FC(pixels_weight_sweep)(const fc_depthwise *d, const T *x, const T *grad, T *sums, ptrdiff_t sums_step,
                                       ptrdiff_t j, ptrdiff_t lanes, const int columns, const int narrow)
{
    const ptrdiff_t next = d->stride_w * d->x_pixel, column = d->dilation_w * d->x_pixel;
    ptrdiff_t first, last, begin[4], end[4];
    VEC acc[4], other[4];
#define LOAD(p) (narrow ? V(load_range)(p, 0, lanes) : V(load)(p))
    for (int s = 0; s < columns; s++) {
        FC(inside)((j + s) * d->dilation_w - d->left, d->stride_w, d->width, d->out_w, &begin[s], &end[s]);
        first = s == 0 || begin[s] > first ? begin[s] : first;
        last = s == 0 || end[s] < last ? end[s] : last;
    }
    if (last < first) last = first;
    FC_UNROLL
    for (int s = 0; s < columns; s++) {
        acc[s] = V(load)(sums + s * sums_step);
        other[s] = V(zero)();
        /* The pixels that not all of these taps reach. */
        for (ptrdiff_t p = begin[s]; p < end[s]; p++) {
            if (p == first) p = last;
            if (p >= end[s]) break;
            acc[s] = V(fma)(LOAD(x + p * next + s * column), LOAD(grad + p * d->out_pixel), acc[s]);
        }
    }
    ptrdiff_t p = first;
    for (; p + 2 <= last; p += 2) {
        const VEC g = LOAD(grad + p * d->out_pixel), h = LOAD(grad + (p + 1) * d->out_pixel);
        FC_UNROLL
        for (int s = 0; s < columns; s++) {
            acc[s] = V(fma)(LOAD(x + p * next + s * column), g, acc[s]);
            other[s] = V(fma)(LOAD(x + (p + 1) * next + s * column), h, other[s]);
        }
    }
    if (p < last) {
        const VEC g = LOAD(grad + p * d->out_pixel);
        FC_UNROLL
        for (int s = 0; s < columns; s++) acc[s] = V(fma)(LOAD(x + p * next + s * column), g, acc[s]);
    }
    FC_UNROLL
    for (int s = 0; s < columns; s++) V(store)(sums + s * sums_step, V(add)(acc[s], other[s]));
#undef LOAD
}

static void FC(depthwise_pixels_weight)(const fc_depthwise *d, void *sums_, ptrdiff_t sums_step)
{
    for (ptrdiff_t row = 0; row < d->out_h; row++)
        for (ptrdiff_t c = 0; c < d->planes; c += LANES) {
            const ptrdiff_t lanes = d->planes - c;
            const T *grad = (const T *)d->out + row * d->out_row + c;
            for (ptrdiff_t i = 0; i < d->taps_h; i++) {
                const ptrdiff_t y = row * d->stride_h - d->top + i * d->dilation_h;
                if (y < 0 || y >= d->height) continue;
                for (ptrdiff_t j = 0; j < d->taps_w;) {
                    const T *x = (const T *)d->x + y * d->x_row + (j * d->dilation_w - d->left) * d->x_pixel + c;
                    T *sums = (T *)sums_ + (i * d->taps_w + j) * sums_step + c;
#define SWEEP(columns)                                                                              \
    if (lanes < LANES) FC(pixels_weight_sweep)(d, x, grad, sums, sums_step, j, lanes, columns, 1);  \
    else FC(pixels_weight_sweep)(d, x, grad, sums, sums_step, j, lanes, columns, 0);                \
    j += columns
                    if (d->taps_w - j >= 3) {
                        SWEEP(3);
                    } else {
                        SWEEP(1);
                    }
#undef SWEEP
                }
            }
        }
}
