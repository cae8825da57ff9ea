/* The gradient of a maximum, scattered to the positions that its indices tell. Contract: max_pool_backward in
 * kernels.h. */
/* One image of one channel. */
static int FC(scatter_plane)(T *grad_x, const T *grad_output, const int64_t *indices, ptrdiff_t pixels,
                             ptrdiff_t outputs)
{
    const volatile int64_t *once = indices;
    const uint64_t end = (uint64_t)pixels;
    ptrdiff_t i = 0, o = 0;
    VEC zero = V(zero)();
    /* A call of memset takes as long as so few stores, and what compilers make of them, too, where they see zeros. */
    FC_KEEP(zero);
    if (pixels <= 16 * LANES)
        for (; i + LANES <= pixels; i += LANES) V(store)(grad_x + i, zero);
    if (i < pixels) memset(grad_x + i, 0, (size_t)(pixels - i) * sizeof(T));
    for (; o + 4 <= outputs; o += 4) {
        const uint64_t a = (uint64_t)once[o], b = (uint64_t)once[o + 1];
        const uint64_t c = (uint64_t)once[o + 2], d = (uint64_t)once[o + 3];
        if ((a >= end) | (b >= end) | (c >= end) | (d >= end)) return 1;
        grad_x[a] += grad_output[o];
        grad_x[b] += grad_output[o + 1];
        grad_x[c] += grad_output[o + 2];
        grad_x[d] += grad_output[o + 3];
    }
    for (; o < outputs; o++) {
        const uint64_t position = (uint64_t)once[o];
        if (position >= end) return 1;
        grad_x[position] += grad_output[o];
    }
    return 0;
}

/* Channels begin .. end-1 of one image whose channels come last. */
static int FC(scatter_pixels)(T *grad_x, const T *grad_output, const int64_t *indices, ptrdiff_t pixels,
                              ptrdiff_t outputs, ptrdiff_t channels, ptrdiff_t begin, ptrdiff_t end)
{
    const volatile int64_t *once = indices;
    for (ptrdiff_t i = 0; i < pixels; i++) memset(grad_x + i * channels + begin, 0, (size_t)(end - begin) * sizeof(T));
    for (ptrdiff_t o = 0; o < outputs; o++, once += channels, grad_output += channels)
        for (ptrdiff_t c = begin; c < end; c++) {
            const uint64_t position = (uint64_t)once[c];
            if (position >= (uint64_t)pixels) return 1;
            grad_x[(ptrdiff_t)position * channels + c] += grad_output[c];
        }
    return 0;
}

#ifdef FC_LOADS_INDICES
/* The four pixels of LANES windows, upper rows and lower rows, of which the gradient goes to the one that the index
 * tells. origin + place is the position of a window's first pixel. Returns the lanes whose index is in the window. */
FC_INLINE unsigned FC(scatter_windows)(T *upper, T *lower, const T *grad_output, const int64_t *indices, int64_t origin,
                                       VEC place, T width, const int stream)
{
    const VEC zero = V(zero)(), one = V(set1)(1), down = V(set1)(width);
    const VEC grad = V(add)(zero, V(load)(grad_output)); /* -0 becomes 0, as in a sum */
    const VEC left = V(sub)(V(load_index)(indices, origin), place), right = V(sub)(left, one);
    const V(mask) a = V(no_order)(left, zero), b = V(no_order)(right, zero);
    const V(mask) c = V(no_order)(left, down), d = V(no_order)(right, down);
    const VEC upper_left = V(select)(a, grad, zero), upper_right = V(select)(b, grad, zero);
    const VEC lower_left = V(select)(c, grad, zero), lower_right = V(select)(d, grad, zero);
    const VEC rows[4] = {V(zip_low)(upper_left, upper_right), V(zip_high)(upper_left, upper_right),
                         V(zip_low)(lower_left, lower_right), V(zip_high)(lower_left, lower_right)};
    FC_UNROLL
    for (int i = 0; i < 4; i++) {
        T *to = (i < 2 ? upper : lower) + i % 2 * LANES;
        if (stream) V(stream)(to, rows[i]);
        else V(store)(to, rows[i]);
    }
    return V(bits)(V(or)(V(or)(a, b), V(or)(c, d)));
}

/* Rows of `columns` windows that fill a vector together, up to `end`; then as below. */
FC_INLINE ptrdiff_t FC(scatter_short_rows)(const fc_scatter *job, ptrdiff_t begin, ptrdiff_t end, const ptrdiff_t columns)
{
    const ptrdiff_t rows = LANES / columns, height = job->outputs / columns;
    const unsigned all = (1u << LANES) - 1;
    T *x = (T *)job->grad_x + begin * job->pixels, places[LANES], upper[2 * LANES], lower[2 * LANES];
    const T *grad = (const T *)job->grad_output + begin * job->outputs;
    const int64_t *index = job->indices + begin * job->outputs;
    if (height % rows) return begin;
    for (ptrdiff_t i = 0; i < LANES; i++) places[i] = (T)(2 * (i % columns) + i / columns * 4 * columns);
    const VEC place = V(load)(places);
    for (ptrdiff_t image = begin; image < end; image++)
        for (ptrdiff_t row = 0; row < height; row += rows, grad += LANES, index += LANES) {
            if (FC(scatter_windows)(upper, lower, grad, index, row * 4 * columns, place, (T)(2 * columns), 0) != all)
                return image;
            for (ptrdiff_t i = 0; i < rows; i++, x += 4 * columns) {
                memcpy(x, upper + i * 2 * columns, 2 * columns * sizeof(T));
                memcpy(x + 2 * columns, lower + i * 2 * columns, 2 * columns * sizeof(T));
            }
        }
    return end;
}

/* The same for rows that fill a vector, or more. */
FC_INLINE ptrdiff_t FC(scatter_long_rows)(const fc_scatter *job, ptrdiff_t begin, ptrdiff_t end, const int stream)
{
    const ptrdiff_t columns = job->out_width, width = 2 * columns;
    const VEC place = V(add)(V(load)(FC(iota)), V(load)(FC(iota)));
    const unsigned all = (1u << LANES) - 1;
    for (ptrdiff_t image = begin; image < end; image++) {
        T *x = (T *)job->grad_x + image * job->pixels;
        const T *grad = (const T *)job->grad_output + image * job->outputs;
        const int64_t *index = job->indices + image * job->outputs;
        for (ptrdiff_t row = 0; row < job->outputs; row += columns, x += 2 * width)
            for (ptrdiff_t next = 0; next < columns; next += LANES) {
                const ptrdiff_t o = next < columns - LANES ? next : columns - LANES; /* the last vector overlaps */
                const unsigned own = FC(scatter_windows)(x + 2 * o, x + width + 2 * o, grad + row + o, index + row + o,
                                                         4 * row + 2 * o, place, (T)width, stream);
                if (own != all) return image;
            }
    }
    return end;
}

/* Images begin .. end-1 of one channel, as far as each window has its maximum among the 2x2 pixels that are its own,
 * as it has where windows of 2x2 lie side by side: every pixel is written once, with no zeros beforehand. Returns the
 * first image that isn't done; nothing else is written but images that aren't either. */
static ptrdiff_t FC(scatter_tiles)(const fc_scatter *job, ptrdiff_t begin, ptrdiff_t end)
{
    const ptrdiff_t columns = job->out_width, width = 2 * columns;
    if (job->width != width || job->pixels != 4 * job->outputs || width > FC_FAR_FLOAT32 / 2) return begin;
    if (columns == LANES / 4) return FC(scatter_short_rows)(job, begin, end, LANES / 4);
    if (columns == LANES / 2) return FC(scatter_short_rows)(job, begin, end, LANES / 2);
    if (columns < LANES) return begin;
    return job->stream ? FC(scatter_long_rows)(job, begin, end, 1) : FC(scatter_long_rows)(job, begin, end, 0);
}
#else
static ptrdiff_t FC(scatter_tiles)(const fc_scatter *job, ptrdiff_t begin, ptrdiff_t end)
{
    (void)job, (void)end;
    return begin;
}
#endif

/* Each position is read once, as volatile tells the compiler: what is used is what was checked, even where another
 * thread changes the caller's array meanwhile. */
static int FC(max_pool_backward)(const fc_scatter *job, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t first_channel,
                                 ptrdiff_t last_channel)
{
    const ptrdiff_t channels = job->channels;
    ptrdiff_t image = channels == 1 ? FC(scatter_tiles)(job, begin, end) : begin;
    int outside = 0;
    for (; image < end && !outside; image++) {
        T *x = (T *)job->grad_x + image * job->pixels * channels;
        const T *grad = (const T *)job->grad_output + image * job->outputs * channels;
        const int64_t *index = job->indices + image * job->outputs * channels;
        if (channels == 1) outside = FC(scatter_plane)(x, grad, index, job->pixels, job->outputs);
        else outside = FC(scatter_pixels)(x, grad, index, job->pixels, job->outputs, channels, first_channel, last_channel);
    }
    return outside;
}
