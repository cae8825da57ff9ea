/* Depthwise convolution of planes (NCHW). Contracts: fc_depthwise in kernels.h.
 *
 * A block is some rows by one vector of outputs, all in registers; each vector of input is loaded once and
 * serves every output row of the block that it meets. Rows outside the image are rows of zeros,
 * columns outside it are lanes that are not loaded, so nothing is ever copied to make room for padding.
 * The last block of a row, and the last rows of a plane, overlap the ones before: what is computed twice is
 * the same both times, as each output's sum runs over tap columns, then tap rows, wherever the block lies (those of
 * large kernels in chains of whole columns, see FC_CHAIN).
 * Where registers are many, 3x3 and 5x5 with stride 1 have a way of their own: conv_depthwise_sliding.inc.h.
 */
enum { FC(DEPTHWISE_ROWS) = 7, FC(DEPTHWISE_MOST) = 7 };

/* p[i], or 0 for the lanes that an edge's mask leaves out. */
FC_INLINE VEC FC(load_edge)(const T *p, V(mask) mask, const int edge)
{
    return edge ? V(load_where)(mask, p) : V(load)(p);
}

/* Rows `first` and on of the image, which starts at x; rows outside it are zeros. */
FC_INLINE void FC(row_pointers)(const fc_depthwise *d, const T *x, ptrdiff_t first, const T **rows,
                                const int count)
{
    for (int k = 0; k < count; k++) {
        const int inside = first + k >= 0 && first + k < d->height;
        rows[k] = inside ? x + (first + k) * d->x_row : (const T *)d->zeros;
    }
}

/* One step of a block: tap column j, and with stride 2 column j + 1 too, which lies in the same two vectors,
 * unless j is the last. */
FC_INLINE void FC(depthwise_column)(VEC *acc, const T *const *rows, ptrdiff_t from, ptrdiff_t width,
                                    const VEC *taps, ptrdiff_t j, const int last, const int kh,
                                    const int stride, const int count, const int edge)
{
    const ptrdiff_t at = from + j;
    const V(mask) near = V(range)(-at, width - at), far = V(range)(-at - LANES, width - at - LANES);
    FC_UNROLL
    for (int k = 0; k < (count - 1) * stride + kh; k++) {
        VEC x = FC(load_edge)(rows[k] + at, near, edge), odd;
        if (stride == 2) {
            VEC next = FC(load_edge)(rows[k] + at + LANES, far, edge);
            odd = V(pick_odd)(x, next);
            x = V(pick_even)(x, next);
        }
        FC_UNROLL
        for (int r = 0; r < count; r++) {
            const int i = k - r * stride;
            if (i < 0 || i >= kh) continue;
            acc[r] = V(fma)(x, taps[j * kh + i], acc[r]);
            if (stride == 2 && !last) acc[r] = V(fma)(odd, taps[(j + 1) * kh + i], acc[r]);
        }
    }
}

/* kw is 3 or, where a loop over tap columns will do, 0. */
FC_INLINE void FC(depthwise_block)(VEC *acc, const T *const *rows, ptrdiff_t from, ptrdiff_t width,
                                   const VEC *taps, ptrdiff_t taps_w, const int kh, const int kw,
                                   const int stride, const int count, const int edge)
{
#define COLUMN(j, last) FC(depthwise_column)(acc, rows, from, width, taps, j, last, kh, stride, count, edge)
    if (kw == 3 && stride == 1) {
        COLUMN(0, 0);
        COLUMN(1, 0);
        COLUMN(2, 1);
    } else if (kw == 5 && stride == 1) {
        COLUMN(0, 0);
        COLUMN(1, 0);
        COLUMN(2, 0);
        COLUMN(3, 0);
        COLUMN(4, 1);
    } else if (kw == 3) {
        COLUMN(0, 0);
        COLUMN(2, 1);
    } else {
        ptrdiff_t j = 0;
        for (; j + stride <= taps_w; j += stride) COLUMN(j, 0);
        if (j < taps_w) COLUMN(j, 1);
    }
#undef COLUMN
}

/* `count` rows of outputs; `end` is the end of the plane, up to which rows may be overrun (later rows
 * follow). `next` are the first row of the input that none of them sees, and so on. */
FC_INLINE void FC(depthwise_rows)(const fc_depthwise *d, const T *const *rows, T *out, const T *end,
                                  const VEC *taps, VEC first, const int kh, const int kw, const int stride,
                                  const int count, const T *next)
{
    const ptrdiff_t out_w = d->out_w, out_row = d->out_row, width = d->width, left = d->left,
                    taps_w = d->taps_w;
    const ptrdiff_t reach = (taps_w - 1) / stride * stride + stride * LANES;
    const int relu = d->relu, area = count * stride * stride;
    VEC acc[FC(DEPTHWISE_ROWS)];
#define BLOCK(edge)                                                                         \
    fc_fetch(next + area * c, area * LANES * sizeof(T));                                    \
    if (stride == 1) fc_fetch_to_write(out + count * (out_row + c), count * LANES * sizeof(T)); \
    FC_UNROLL                                                                               \
    for (int r = 0; r < count; r++) acc[r] = first;                                         \
    FC(depthwise_block)(acc, rows, from, width, taps, taps_w, kh, kw, stride, count, edge); \
    FC_UNROLL                                                                               \
    for (int r = 0; r < count; r++) {                                                       \
        T *to = out + r * out_row + c;                                                      \
        VEC y = stride == 2 ? V(picked)(acc[r]) : acc[r];                                   \
        if (relu) y = V(max)(V(zero)(), y);                                                 \
        if (!edge || out_w >= LANES || to + LANES <= end) V(store)(to, y);                  \
        else V(store_first)(to, y, out_w);                                                  \
    }
    for (ptrdiff_t c = 0; c < out_w; c += LANES) {
        if (c + LANES > out_w && out_w >= LANES) c = out_w - LANES;
        ptrdiff_t from = c * stride - left;
        for (; from >= 0 && from + reach <= width && c + LANES <= out_w; c += LANES, from += stride * LANES) {
            BLOCK(0)
        }
        if (c >= out_w) break;
        if (c + LANES > out_w && out_w >= LANES) c = out_w - LANES;
        from = c * stride - left;
        BLOCK(1)
    }
#undef BLOCK
}

FC_INLINE void FC(depthwise_plane)(const fc_depthwise *d, const T *x, T *out, const T *weight, VEC first,
                                   const int kh, const int kw, const int stride, const int count)
{
    enum { MOST = FC(DEPTHWISE_MOST) };
    const T *rows[(FC(DEPTHWISE_ROWS) - 1) * 2 + MOST];
    const T *end = out + (d->out_h - 1) * d->out_row + d->out_w;
    VEC taps[MOST * MOST];
    const ptrdiff_t taps_w = kw ? kw : d->taps_w;
    for (ptrdiff_t j = 0; j < taps_w; j++)
        for (int i = 0; i < kh; i++) taps[j * kh + i] = V(set1)(weight[i * d->weight_h + j * d->weight_w]);
    for (ptrdiff_t row = 0; row < d->out_h; row += count) {
        if (row + count > d->out_h) row = d->out_h - count;
        FC(row_pointers)(d, x, row * stride - d->top, rows, (count - 1) * stride + kh);
        const T *next = x + ((row + count - 1) * stride - d->top + kh) * d->x_row;
        FC(depthwise_rows)(d, rows, out + row * d->out_row, end, taps, first, kh, kw, stride, count, next);
    }
}

#include "conv_depthwise_sliding.inc.h"

/* Images no wider than a vector: 3x3 with stride 1. A row of the input is loaded once; it finishes one row of
 * outputs, continues the next and begins the one after. */
FC_NOINLINE void FC(depthwise_narrow)(const fc_depthwise *d)
{
    const ptrdiff_t x_row = d->x_row, out_row = d->out_row, weight_h = d->weight_h, weight_w = d->weight_w;
    const ptrdiff_t rows = d->out_h, height = d->height, top = d->top;
    const V(mask) left = V(range)(d->left, d->width + d->left),
                  middle = V(range)(d->left - 1, d->width + d->left - 1);
    const V(mask) right = V(range)(d->left - 2, d->width + d->left - 2);
    for (ptrdiff_t plane = 0; plane < d->planes; plane++) {
        const T *weight = (const T *)d->weight + plane * d->weight_plane;
        const T *x = (const T *)d->x + plane * d->x_plane - d->left;
        T *out = (T *)d->out + plane * d->out_plane;
        const T *end = out + (rows - 1) * out_row + d->out_w;
        const VEC first = d->bias ? V(set1)(((const T *)d->bias)[plane]) : V(zero)();
        VEC done = first, half = first, taps[3][3];
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) taps[i][j] = V(set1)(weight[i * weight_h + j * weight_w]);
        for (ptrdiff_t row = -2; row < rows; row++) {
            const ptrdiff_t y = row - top + 2;
            VEC begun = first;
            if (y >= 0 && y < height) {
                const T *from = x + y * x_row;
                const VEC in[3] = {V(load_where)(left, from), V(load_where)(middle, from + 1),
                                   V(load_where)(right, from + 2)};
                FC_UNROLL
                for (int j = 0; j < 3; j++) {
                    done = V(fma)(in[j], taps[2][j], done);
                    half = V(fma)(in[j], taps[1][j], half);
                    begun = V(fma)(in[j], taps[0][j], begun);
                }
            }
            if (row >= 0) {
                T *to = out + row * out_row;
                const VEC result = d->relu ? V(max)(V(zero)(), done) : done;
                if (to + LANES <= end) V(store)(to, result);
                else if (d->out_w == LANES) V(store)(to, result);
                else V(store_first)(to, result, d->out_w);
            }
            done = half;
            half = begun;
        }
    }
}

/* Any other kernel, stride and dilation: LANES outputs' inputs for one tap, the first of them in column `at`.
 * stride is 1, 2 or 0 for "step", any number. */
FC_INLINE VEC FC(load_columns)(const T *row, ptrdiff_t at, ptrdiff_t width, ptrdiff_t step, ptrdiff_t lanes,
                               const int stride, const int edge)
{
    const T *p = row + at;
    if (stride == 1) {
        const ptrdiff_t end = lanes < width - at ? lanes : width - at;
        return FC(load_edge)(p, V(range)(-at, end), edge);
    }
    if (stride == 2) {
        const ptrdiff_t end = 2 * lanes < width - at ? 2 * lanes : width - at;
        VEC near = FC(load_edge)(p, V(range)(-at, end), edge);
        return V(even)(near, FC(load_edge)(p + LANES, V(range)(-at - LANES, end - LANES), edge));
    }
    T values[LANES];
    for (ptrdiff_t l = 0; l < LANES; l++) {
        const ptrdiff_t column = at + l * step;
        values[l] = l < lanes && column >= 0 && column < width ? p[l * step] : 0;
    }
    return V(load)(values);
}

FC_INLINE void FC(depthwise_any_block)(const fc_depthwise *d, VEC *acc, const T *x, ptrdiff_t top,
                                       ptrdiff_t from, const T *weight, const int stride, const int vectors,
                                       const int edge)
{
    const ptrdiff_t taps_h = d->taps_h, taps_w = d->taps_w, columns = taps_h < FC_CHAIN ? FC_CHAIN / taps_h : 1;
    for (ptrdiff_t begin = 0, j = 0; j < taps_w; begin = j) {
        VEC chain[4];
        FC_UNROLL
        for (int b = 0; b < vectors; b++) chain[b] = begin ? V(zero)() : acc[b];
        for (; j < taps_w && j < begin + columns; j++) {
            for (ptrdiff_t i = 0; i < taps_h; i++) {
                const ptrdiff_t y = top + i * d->dilation_h;
                if (y < 0 || y >= d->height) continue;
                const VEC tap = V(set1)(weight[i * d->weight_h + j * d->weight_w]);
                FC_UNROLL
                for (int b = 0; b < vectors; b++) {
                    const ptrdiff_t at = from + j * d->dilation_w + b * LANES * d->stride_w;
                    VEC in = FC(load_columns)(x + y * d->x_row, at, d->width, d->stride_w, LANES, stride, edge);
                    chain[b] = V(fma)(in, tap, chain[b]);
                }
            }
        }
        FC_UNROLL
        for (int b = 0; b < vectors; b++) acc[b] = begin ? V(add)(acc[b], chain[b]) : chain[b];
    }
}

FC_INLINE void FC(depthwise_any_plane)(const fc_depthwise *d, const T *x, T *out, const T *weight, VEC first,
                                       const int stride)
{
    const ptrdiff_t out_w = d->out_w, step = d->stride_w;
    const ptrdiff_t reach = (d->taps_w - 1) * d->dilation_w;
    const T *end = out + (d->out_h - 1) * d->out_row + out_w;
    VEC acc[4];
    for (ptrdiff_t row = 0; row < d->out_h; row++) {
        const ptrdiff_t top = row * d->stride_h - d->top;
        T *out_row = out + row * d->out_row;
        for (ptrdiff_t c = 0, vectors; c < out_w; c += vectors * LANES) {
            if (c + LANES > out_w && out_w >= LANES) c = out_w - LANES;
            const ptrdiff_t from = c * step - d->left, room = d->width - from - reach;
            vectors = from >= 0 && 4 * LANES * step <= room && c + 4 * LANES <= out_w ? 4 : 1;
            acc[0] = acc[1] = acc[2] = acc[3] = first;
            if (vectors == 4) FC(depthwise_any_block)(d, acc, x, top, from, weight, stride, 4, 0);
            else if (from >= 0 && LANES * step <= room)
                FC(depthwise_any_block)(d, acc, x, top, from, weight, stride, 1, 0);
            else FC(depthwise_any_block)(d, acc, x, top, from, weight, stride, 1, 1);
            for (ptrdiff_t b = 0; b < vectors; b++) {
                T *to = out_row + c + b * LANES;
                VEC y = d->relu ? V(max)(V(zero)(), acc[b]) : acc[b];
                if (out_w >= LANES || to + LANES <= end) V(store)(to, y);
                else V(store_first)(to, y, out_w);
            }
        }
    }
}

/* Bodies by taps_h, taps_w (0: any up to DEPTHWISE_MOST), stride and rows of a block; each is a function, as one
 * of all takes compilers minutes. The first that fits is taken. */
#define DEPTHWISE_BODIES(BODY) \
    BODY(3, 3, 1, 7) BODY(3, 3, 1, 4) BODY(3, 3, 2, 4) BODY(5, 5, 1, 7) BODY(7, 0, 1, 7) BODY(5, 0, 2, 7) \
    BODY(1, 0, 1, 4) BODY(2, 0, 1, 4) BODY(3, 0, 1, 4) BODY(5, 0, 1, 4) BODY(7, 0, 1, 4) BODY(5, 0, 2, 4)
#define BODY_NAME(kh, kw, stride, rows) FC(depthwise_##kh##x##kw##_stride_##stride##_rows_##rows)

#define BODY(kh, kw, stride, rows)                                                                 \
    FC_NOINLINE void BODY_NAME(kh, kw, stride, rows)(const fc_depthwise *d, const T *x, T *out,    \
                                                     const T *weight, VEC first)                   \
    {                                                                                              \
        FC(depthwise_plane)(d, x, out, weight, first, kh, kw, stride, rows);                       \
    }
DEPTHWISE_BODIES(BODY)
#undef BODY

#define BODY(stride)                                                                              \
    FC_NOINLINE void FC(depthwise_any_stride_##stride)(const fc_depthwise *d, const T *x, T *out, \
                                                       const T *weight, VEC first)                \
    {                                                                                             \
        FC(depthwise_any_plane)(d, x, out, weight, first, stride);                                \
    }
BODY(0)
BODY(1)
BODY(2)
#undef BODY

typedef void (*FC(depthwise_body))(const fc_depthwise *, const T *, T *, const T *, VEC);

static FC(depthwise_body) FC(depthwise_body_for)(const fc_depthwise *d)
{
    const int dense = d->stride_h == d->stride_w && (d->taps_h == 1 || d->dilation_h == 1) &&
                      (d->taps_w == 1 || d->dilation_w == 1);
    /* Memory decides about 3x3 with long rows: fewer of them at a time are fewer streams. */
    const int narrow = d->out_w <= 2 * LANES;
#define BODY(kh, kw, stride, rows)                                                              \
    if (dense && d->taps_h == kh && (kw ? d->taps_w == kw : d->taps_w <= FC(DEPTHWISE_MOST)) && \
        d->stride_w == stride && d->out_h >= rows && (rows == 4 || kh > 3 || narrow))           \
        return BODY_NAME(kh, kw, stride, rows);
    DEPTHWISE_BODIES(BODY)
#undef BODY
    return d->stride_w == 1   ? FC(depthwise_any_stride_1)
           : d->stride_w == 2 ? FC(depthwise_any_stride_2)
                              : FC(depthwise_any_stride_0);
}
#undef DEPTHWISE_BODIES
#undef BODY_NAME

static void FC(depthwise)(const fc_depthwise *d)
{
    const int dense = d->stride_h == 1 && d->stride_w == 1 && d->dilation_h == 1 && d->dilation_w == 1;
    const int kernel = dense && d->taps_h == d->taps_w ? (int)d->taps_h : 0;
    if (kernel == 3 && d->out_w <= LANES) {
        FC(depthwise_narrow)(d);
        return;
    }
    if (FC(SLIDES) && (kernel == 3 || kernel == 5)) {
        if (kernel == 3) FC(depthwise_threes)(d);
        else FC(depthwise_fives)(d);
        return;
    }
    const FC(depthwise_body) body = FC(depthwise_body_for)(d);
    const T *x = d->x, *weight = d->weight, *bias = d->bias;
    T *out = d->out;
    for (ptrdiff_t plane = 0; plane < d->planes; plane++) {
        body(d, x, out, weight, bias ? V(set1)(bias[plane]) : V(zero)());
        x += d->x_plane;
        out += d->out_plane;
        weight += d->weight_plane;
    }
}

static void FC(zip)(void *dst_, const void *even_, const void *odd_, ptrdiff_t count)
{
    T *dst = dst_;
    const T *even = even_, *odd = odd_;
    ptrdiff_t i = 0;
    for (; 2 * (i + LANES) <= count; i += LANES) {
        VEC a = V(load)(even + i), b = V(load)(odd + i);
        V(store)(dst + 2 * i, V(zip_low)(a, b));
        V(store)(dst + 2 * i + LANES, V(zip_high)(a, b));
    }
    for (; 2 * i < count; i++) {
        dst[2 * i] = even[i];
        if (2 * i + 1 < count) dst[2 * i + 1] = odd[i];
    }
}
