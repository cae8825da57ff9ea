/* The gradient of a maximum, scattered to the positions that its indices tell. Contract: max_pool_backward in
 * kernels.h. */
/* One image of one channel. */
static int FC(scatter_plane)(T *grad_x, const T *grad_output, const int64_t *indices, ptrdiff_t pixels,
                             ptrdiff_t outputs)
{
    const volatile int64_t *once = indices;
    const uint64_t end = (uint64_t)pixels;
    ptrdiff_t i = 0, o = 0;
    /* A call of memset takes as long as so few stores. */
    if (pixels <= 16 * LANES)
        for (; i + LANES <= pixels; i += LANES) V(store)(grad_x + i, V(zero)());
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

/* Each position is read once, as volatile tells the compiler: what is used is what was checked, even where another
 * thread changes the caller's array meanwhile. */
static int FC(max_pool_backward)(void *grad_x_, const void *grad_output_, const int64_t *indices, ptrdiff_t images,
                                 ptrdiff_t pixels, ptrdiff_t outputs, ptrdiff_t channels, ptrdiff_t begin, ptrdiff_t end)
{
    T *grad_x = grad_x_;
    const T *grad_output = grad_output_;
    int outside = 0;
    for (ptrdiff_t i = 0; i < images && !outside; i++) {
        T *x = grad_x + i * pixels * channels;
        const T *grad = grad_output + i * outputs * channels;
        const int64_t *index = indices + i * outputs * channels;
        if (channels == 1) outside = FC(scatter_plane)(x, grad, index, pixels, outputs);
        else outside = FC(scatter_pixels)(x, grad, index, pixels, outputs, channels, begin, end);
    }
    return outside;
}
