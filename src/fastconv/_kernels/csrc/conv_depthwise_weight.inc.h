/* The gradient of a depthwise weight over planes (NCHW). Contract: depthwise_weight in kernels.h.
 *
 * One vector of partial sums a tap. Blocks are those of conv_depthwise.inc.h with the parts exchanged: a
 * block of grad_output stays in registers, a vector of x is loaded once and meets every row of the block.
 * Lanes past the end of a row of outputs are zero in both factors, so that no infinity outside meets a zero
 * inside.
 */

/* Tap columns j .. j + columns - 1 over `count` rows of outputs; sums are [tap column][tap row], from column
 * j on. `next` as in depthwise_rows. */
FC_INLINE void FC(weight_sweep)(const fc_depthwise *d, const T *const *rows, const T *grad, VEC *sums,
                                ptrdiff_t j, const int columns, const int kh, const int stride,
                                const int count, const T *next)
{
    const ptrdiff_t out_w = d->out_w, width = d->width;
    const int area = count * stride * stride;
    VEC acc[3 * FC(DEPTHWISE_MOST)], g[FC(DEPTHWISE_ROWS)];
    FC_UNROLL
    for (int t = 0; t < columns * kh; t++) acc[t] = sums[t];
    for (ptrdiff_t c = 0; c < out_w; c += LANES) {
        const ptrdiff_t from = c * stride - d->left + j, lanes = out_w - c;
#define BLOCK(edge)                                                                                     \
    if (j == 0) {                                                                                       \
        fc_fetch(next + area * c, area * LANES * sizeof(T));                                            \
        fc_fetch(grad + count * (d->out_row + c), count * LANES * sizeof(T));                           \
    }                                                                                                   \
    FC_UNROLL                                                                                           \
    for (int r = 0; r < count; r++) {                                                                   \
        g[r] = FC(load_edge)(grad + r * d->out_row + c, V(range)(0, lanes), edge);                      \
        if (stride == 2) g[r] = V(picked)(g[r]);                                                        \
    }                                                                                                   \
    FC_UNROLL                                                                                           \
    for (int s = 0; s < columns; s += stride) {                                                         \
        const ptrdiff_t at = from + s, end = stride * lanes < width - at ? stride * lanes : width - at; \
        const V(mask) near = V(range)(-at, end), far = V(range)(-at - LANES, end - LANES);              \
        FC_UNROLL                                                                                       \
        for (int k = 0; k < (count - 1) * stride + kh; k++) {                                           \
            VEC x = FC(load_edge)(rows[k] + at, near, edge), odd;                                       \
            if (stride == 2) {                                                                          \
                VEC next = FC(load_edge)(rows[k] + at + LANES, far, edge);                              \
                odd = V(pick_odd)(x, next);                                                             \
                x = V(pick_even)(x, next);                                                              \
            }                                                                                           \
            FC_UNROLL                                                                                   \
            for (int r = 0; r < count; r++) {                                                           \
                const int i = k - r * stride;                                                           \
                if (i < 0 || i >= kh) continue;                                                         \
                acc[s * kh + i] = V(fma)(x, g[r], acc[s * kh + i]);                                     \
                if (stride == 2 && s + 1 < columns)                                                     \
                    acc[(s + 1) * kh + i] = V(fma)(odd, g[r], acc[(s + 1) * kh + i]);                   \
            }                                                                                           \
        }                                                                                               \
    }
        if (from >= 0 && from + (columns - 1) / stride * stride + stride * LANES <= width && LANES <= lanes) {
            BLOCK(0)
        } else {
            BLOCK(1)
        }
#undef BLOCK
    }
    FC_UNROLL
    for (int t = 0; t < columns * kh; t++) sums[t] = acc[t];
}

/* Any kernel, stride and dilation: `columns` taps of one tap row over one row of outputs. */
FC_INLINE void FC(weight_any_sweep)(const fc_depthwise *d, const T *row, const T *grad, VEC *sums,
                                    ptrdiff_t j, const int columns, const int stride)
{
    VEC acc[3];
    FC_UNROLL
    for (int s = 0; s < columns; s++) acc[s] = sums[s * d->taps_h];
    for (ptrdiff_t c = 0; c < d->out_w; c += LANES) {
        const ptrdiff_t from = c * d->stride_w - d->left + j * d->dilation_w, lanes = d->out_w - c;
        const int edge = from < 0 || from + (columns - 1) * d->dilation_w + LANES * d->stride_w > d->width ||
                         lanes < LANES;
#define BLOCK(edge)                                                                                        \
    const VEC g = FC(load_edge)(grad + c, V(range)(0, lanes), edge);                                       \
    FC_UNROLL                                                                                              \
    for (int s = 0; s < columns; s++) {                                                                    \
        const ptrdiff_t at = from + s * d->dilation_w;                                                     \
        acc[s] = V(fma)(FC(load_columns)(row, at, d->width, d->stride_w, lanes, stride, edge), g, acc[s]); \
    }
        if (edge) {
            BLOCK(1)
        } else {
            BLOCK(0)
        }
#undef BLOCK
    }
    FC_UNROLL
    for (int s = 0; s < columns; s++) sums[s * d->taps_h] = acc[s];
}

FC_INLINE void FC(weight_any_rows)(const fc_depthwise *d, const T *x, const T *grad, VEC *sums, ptrdiff_t row,
                                   const int stride)
{
    for (; row < d->out_h; row++)
        for (ptrdiff_t i = 0; i < d->taps_h; i++) {
            const ptrdiff_t y = row * d->stride_h - d->top + i * d->dilation_h;
            if (y < 0 || y >= d->height) continue;
            const T *from = x + y * d->x_row, *g = grad + row * d->out_row;
            ptrdiff_t j = 0;
            for (; j + 3 <= d->taps_w; j += 3)
                FC(weight_any_sweep)(d, from, g, sums + j * d->taps_h + i, j, 3, stride);
            for (; j < d->taps_w; j++)
                FC(weight_any_sweep)(d, from, g, sums + j * d->taps_h + i, j, 1, stride);
        }
}

FC_INLINE void FC(weight_rows)(const fc_depthwise *d, const T *x, const T *grad, VEC *sums, const int kernel,
                               const int stride)
{
    const int count = kernel == 3 ? 4 : FC(DEPTHWISE_ROWS); /* memory decides about 3x3 */
    const T *rows[(FC(DEPTHWISE_ROWS) - 1) * 2 + FC(DEPTHWISE_MOST)];
    ptrdiff_t row = 0;
    for (; row + count <= d->out_h; row += count) {
        const T *g = grad + row * d->out_row;
        FC(row_pointers)(d, x, row * stride - d->top, rows, (count - 1) * stride + kernel);
        const T *next = x + ((row + count - 1) * stride - d->top + kernel) * d->x_row;
        if (kernel == 3) {
            FC(weight_sweep)(d, rows, g, sums, 0, 3, kernel, stride, count, next);
            continue;
        }
        ptrdiff_t j = 0;
        for (; j + stride <= kernel; j += stride)
            FC(weight_sweep)(d, rows, g, sums + j * kernel, j, stride, kernel, stride, count, next);
        if (stride == 2) FC(weight_sweep)(d, rows, g, sums + j * kernel, j, 1, kernel, stride, count, next);
    }
    if (kernel == 3) {
        for (int rest = 2; rest > 0; rest--)
            for (; row + rest <= d->out_h; row += rest) {
                const T *next = x + ((row + rest - 1) * stride - d->top + kernel) * d->x_row;
                FC(row_pointers)(d, x, row * stride - d->top, rows, (rest - 1) * stride + kernel);
                if (rest == 2)
                    FC(weight_sweep)(d, rows, grad + row * d->out_row, sums, 0, 3, kernel, stride, 2, next);
                else FC(weight_sweep)(d, rows, grad + row * d->out_row, sums, 0, 3, kernel, stride, 1, next);
            }
        return;
    }
    FC(weight_any_rows)(d, x, grad, sums, row, stride);
}

/* With stride 1, down columns of vectors as in conv_depthwise_sliding.inc.h, for tap columns j .. j + columns - 1. Step t
 * is input row t - top, which meets output rows t, t-1, ... by tap rows 0, 1, ... */
FC_INLINE void FC(weight_slide)(const fc_depthwise *d, const T *x, const T *grad, VEC *sums, const int j,
                                const int columns, const int kernel)
{
    enum { MOST = FC(SLIDING_MOST) };
    const ptrdiff_t out_w = d->out_w, out_h = d->out_h, out_row = d->out_row, x_row = d->x_row, top = d->top;
    const ptrdiff_t width = d->width, height = d->height, last = kernel - 1;
    const T *zeros = d->zeros;
    VEC acc[3 * MOST], g[MOST];
    FC_UNROLL
    for (int tap = 0; tap < columns * kernel; tap++) acc[tap] = sums[tap];
    for (ptrdiff_t c = 0; c < out_w; c += LANES) {
        const ptrdiff_t at = c - d->left + j, lanes = out_w - c;
        const V(mask) here = V(range)(0, lanes);
        V(mask) seen[3];
        FC_UNROLL
        for (int s = 0; s < columns; s++)
            seen[s] = V(range)(-at - s, lanes < width - at - s ? lanes : width - at - s);
        FC_UNROLL
        for (int i = 0; i < kernel; i++) g[i] = V(zero)();
        for (ptrdiff_t t = 0; t < out_h + last; t++) {
            const ptrdiff_t y = t - top;
            const T *from = (y >= 0 && y < height ? x + y * x_row : zeros) + at;
            FC_UNROLL
            for (int i = kernel - 1; i > 0; i--) g[i] = g[i - 1];
            g[0] = t < out_h ? V(load_where)(here, grad + t * out_row + c) : V(zero)();
#define STEP(all)                                                                                              \
    FC_UNROLL                                                                                                  \
    for (int s = 0; s < columns; s++) {                                                                        \
        const VEC in = V(load_where)(seen[s], from + s);                                                       \
        FC_UNROLL                                                                                              \
        for (int i = 0; i < kernel; i++)                                                                       \
            if (all || (t >= i && t - i < out_h)) acc[s * kernel + i] = V(fma)(in, g[i], acc[s * kernel + i]); \
    }
            if (t >= last && t < out_h) {
                STEP(1)
            } else {
                STEP(0) /* no infinity meets the zeros of rows that do not exist */
            }
#undef STEP
        }
    }
    FC_UNROLL
    for (int tap = 0; tap < columns * kernel; tap++) sums[tap] = acc[tap];
}

FC_NOINLINE void FC(weight_sliding_3)(const fc_depthwise *d, const T *x, const T *grad, VEC *sums)
{
    FC(weight_slide)(d, x, grad, sums, 0, 3, 3);
}

/* In two goes: not all taps' sums have a register. */
FC_NOINLINE void FC(weight_sliding_5)(const fc_depthwise *d, const T *x, const T *grad, VEC *sums)
{
    FC(weight_slide)(d, x, grad, sums, 0, 3, 5);
    FC(weight_slide)(d, x, grad, sums + 3 * 5, 3, 2, 5);
}

#define WEIGHT_BODIES(BODY) \
    BODY(3, 1)              \
    BODY(3, 2)              \
    BODY(5, 1)              \
    BODY(5, 2)              \
    BODY(7, 1)
#define BODY(kernel, stride)                                                                                 \
    FC_NOINLINE void FC(weight_##kernel##_stride_##stride)(const fc_depthwise *d, const T *x, const T *grad, \
                                                           VEC *sums)                                        \
    {                                                                                                        \
        FC(weight_rows)(d, x, grad, sums, kernel, stride);                                                   \
    }
WEIGHT_BODIES(BODY)
#undef BODY

#define BODY(stride)                                                                                  \
    FC_NOINLINE void FC(weight_any_stride_##stride)(const fc_depthwise *d, const T *x, const T *grad, \
                                                    VEC *sums)                                        \
    {                                                                                                 \
        FC(weight_any_rows)(d, x, grad, sums, 0, stride);                                             \
    }
BODY(0)
BODY(1)
BODY(2)
#undef BODY

typedef void (*FC(weight_body))(const fc_depthwise *, const T *, const T *, VEC *);

static FC(weight_body) FC(weight_body_for)(const fc_depthwise *d)
{
    const int dense =
        d->stride_h == d->stride_w && d->dilation_h == 1 && d->dilation_w == 1 && d->taps_h == d->taps_w;
    const int slides = FC(SLIDES) && dense && d->stride_w == 1 && d->out_w <= FC(SLIDING_ALONE) * LANES;
    if (slides && d->taps_h == 3) return FC(weight_sliding_3);
    if (slides && d->taps_h == 5) return FC(weight_sliding_5);
#define BODY(kernel, stride) \
    if (dense && d->taps_h == kernel && d->stride_w == stride) return FC(weight_##kernel##_stride_##stride);
    WEIGHT_BODIES(BODY)
#undef BODY
    return d->stride_w == 1   ? FC(weight_any_stride_1)
           : d->stride_w == 2 ? FC(weight_any_stride_2)
                              : FC(weight_any_stride_0);
}
#undef WEIGHT_BODIES

static void FC(depthwise_weight)(const fc_depthwise *d, void *sums_)
{
    const FC(weight_body) body = FC(weight_body_for)(d);
    const T *x = d->x, *grad = d->out;
    VEC *sums = sums_;
    for (ptrdiff_t plane = 0; plane < d->planes; plane++) {
        body(d, x, grad, sums);
        x += d->x_plane;
        grad += d->out_plane;
        sums += d->taps_h * d->taps_w;
    }
}

static void FC(depthwise_weight_finish)(void *weight_, const void *sums_, ptrdiff_t taps_h, ptrdiff_t taps_w)
{
    T *weight = weight_;
    const T *sums = sums_;
    for (ptrdiff_t j = 0; j < taps_w; j++)
        for (ptrdiff_t i = 0; i < taps_h; i++, sums += LANES) {
            T total[LANES];
            memcpy(total, sums, sizeof total);
            for (int half = LANES / 2; half > 0; half /= 2)
                for (int l = 0; l < half; l++) total[l] += total[l + half];
            weight[i * taps_w + j] = total[0];
        }
}
