/* The gradient of the input of a depthwise convolution with stride 2 over planes (NCHW). Contract:
 * depthwise_spread in kernels.h.
 *
 * Tap i of a window meets row i - top, so rows of one parity meet the even tap rows and the others the odd
 * ones; the same holds for columns. A vector of grad_output serves both parities of columns, which are zipped
 * when stored.
 */

/* One row of the result from `count` rows of grad_output and, for each, a row of taps. `odd`: of left. */
FC_INLINE void FC(spread_row)(const fc_depthwise *d, const T *const *rows, const VEC *const *taps, int count,
                              T *out, const int kernel, const int odd)
{
    enum { MOST = (FC(DEPTHWISE_MOST) + 1) / 2 };
    const int shifts = (kernel + 1) / 2;
    const ptrdiff_t base = (d->left + 1) / 2, width = d->width, out_w = d->out_w;
#define BLOCK(edge)                                                                           \
    VEC even_taps = V(zero)(), odd_taps = V(zero)();                                          \
    V(mask) mask[MOST];                                                                       \
    FC_UNROLL                                                                                 \
    for (int s = 0; s < shifts; s++) mask[s] = V(range)(s - base - c, width + s - base - c);  \
    for (int r = 0; r < count; r++) {                                                         \
        FC_UNROLL                                                                             \
        for (int s = 0; s < shifts; s++) {                                                    \
            const VEC g = FC(load_edge)(rows[r] + base + c - s, mask[s], edge);               \
            const int other = odd ? 2 * s - 1 : 2 * s + 1;                                    \
            even_taps = V(fma)(g, taps[r][2 * s], even_taps);                                 \
            if (other >= 0 && other < kernel) odd_taps = V(fma)(g, taps[r][other], odd_taps); \
        }                                                                                     \
    }                                                                                         \
    const VEC first = odd ? odd_taps : even_taps, second = odd ? even_taps : odd_taps;        \
    const VEC low = V(zip_low)(first, second), high = V(zip_high)(first, second)

    ptrdiff_t c = 0;
    for (; 2 * c < out_w; c += LANES) {
        const ptrdiff_t room = out_w - 2 * c;
        T *to = out + 2 * c;
        fc_fetch_to_write(to, 2 * LANES * sizeof(T));
        if (base + c >= shifts - 1 && base + c + LANES <= width && room >= 2 * LANES) {
            BLOCK(0);
            V(store)(to, low);
            V(store)(to + LANES, high);
        } else {
            BLOCK(1);
            if (room < LANES) {
                V(store_first)(to, low, room);
                continue;
            }
            V(store)(to, low);
            if (room >= 2 * LANES) V(store)(to + LANES, high);
            else V(store_first)(to + LANES, high, room - LANES);
        }
    }
#undef BLOCK
}

FC_INLINE void FC(spread_plane)(const fc_depthwise *d, const T *x, T *out, const T *weight, const int kernel)
{
    enum { MOST = FC(DEPTHWISE_MOST) };
    VEC taps[MOST * MOST];
    const T *rows[MOST];
    const VEC *row_taps[MOST];
    for (int i = 0; i < kernel; i++)
        for (int j = 0; j < kernel; j++)
            taps[i * kernel + j] = V(set1)(weight[i * d->weight_h + j * d->weight_w]);
    for (ptrdiff_t row = 0; row < d->out_h; row++) {
        const ptrdiff_t padded = row + d->top;
        int count = 0;
        for (int i = padded & 1; i < kernel && i <= padded; i += 2) {
            const ptrdiff_t y = (padded - i) / 2;
            if (y >= d->height) continue;
            rows[count] = x + y * d->x_row;
            row_taps[count++] = taps + i * kernel;
        }
        fc_fetch(x + (padded / 2 + 1) * d->x_row, d->x_row * sizeof(T) / 2);
        T *to = out + row * d->out_row;
        if (d->left & 1) FC(spread_row)(d, rows, row_taps, count, to, kernel, 1);
        else FC(spread_row)(d, rows, row_taps, count, to, kernel, 0);
    }
}

FC_NOINLINE void FC(spread_3)(const fc_depthwise *d, const T *x, T *out, const T *weight)
{
    FC(spread_plane)(d, x, out, weight, 3);
}

FC_NOINLINE void FC(spread_5)(const fc_depthwise *d, const T *x, T *out, const T *weight)
{
    FC(spread_plane)(d, x, out, weight, 5);
}

static void FC(depthwise_spread)(const fc_depthwise *d)
{
    const T *x = d->x, *weight = d->weight;
    T *out = d->out;
    for (ptrdiff_t plane = 0; plane < d->planes; plane++) {
        if (d->taps_h == 3) FC(spread_3)(d, x, out, weight);
        else FC(spread_5)(d, x, out, weight);
        x += d->x_plane;
        out += d->out_plane;
        weight += d->weight_plane;
    }
}
