/* The gradient of maxima, shared among all pixels of a window that are the largest. Contract: fc_ties in kernels.h. */

/* A row of windows. */
FC_INLINE void FC(share_windows)(const fc_ties *job, ptrdiff_t row, const ptrdiff_t size)
{
    const ptrdiff_t out_w = job->out_w, width = out_w * size;
    const T *grad = (const T *)job->grad_output + row * out_w, *maxima = (const T *)job->maxima + row * out_w;
    for (ptrdiff_t q = 0; q < out_w; q++) {
        const ptrdiff_t at = row * size * width + q * size;
        const T *x = (const T *)job->x + at, largest = maxima[q];
        T *grad_x = (T *)job->grad_x + at;
        ptrdiff_t ties = 0;
        for (ptrdiff_t i = 0; i < size; i++)
            for (ptrdiff_t j = 0; j < size; j++) ties += x[i * width + j] == largest;
        const T shares[2] = {0, ties ? grad[q] / (T)ties : 0}; /* instead of branches, which nobody can foretell */
        for (ptrdiff_t i = 0; i < size; i++)
            for (ptrdiff_t j = 0; j < size; j++) grad_x[i * width + j] = shares[x[i * width + j] == largest];
    }
}

/* `count` windows of 2x2, at most a vector of them, whose pixels are in two rows at x and x + width. */
FC_INLINE void FC(share_pairs)(T *grad_x, const T *x, ptrdiff_t width, const T *grad, const T *maxima, ptrdiff_t count)
{
    const VEC zero = V(zero)(), one = V(set1)(1), largest = FC(load_positions)(maxima, count);
    const ptrdiff_t left = 2 * count < LANES ? 2 * count : LANES, right = 2 * count - left;
    V(mask) ties[2][2]; /* or all pixels of a window with a NaN */
    VEC number = zero;
    FC_UNROLL
    for (int i = 0; i < 2; i++) {
        const VEC a = FC(load_positions)(x + i * width, left);
        const VEC b = right ? FC(load_positions)(x + i * width + LANES, right) : zero;
        ties[i][0] = V(no_order)(V(even)(a, b), largest);
        ties[i][1] = V(no_order)(V(odd)(a, b), largest);
        FC_UNROLL
        for (int j = 0; j < 2; j++) number = V(add)(number, V(select)(ties[i][j], one, zero));
    }
    const VEC share = V(select)(V(is_nan)(largest), zero, V(div)(FC(load_positions)(grad, count), number));
    FC_UNROLL
    for (int i = 0; i < 2; i++) {
        const VEC even = V(select)(ties[i][0], share, zero), odd = V(select)(ties[i][1], share, zero);
        FC(store_positions)(grad_x + i * width, V(zip_low)(even, odd), left);
        if (right) FC(store_positions)(grad_x + i * width + LANES, V(zip_high)(even, odd), right);
    }
}

static void FC(share_maxima)(const fc_ties *job, ptrdiff_t begin, ptrdiff_t end)
{
    const ptrdiff_t out_w = job->out_w, width = 2 * out_w;
    if (job->size != 2) {
        for (ptrdiff_t row = begin; row < end; row++)
            if (job->size == 3) FC(share_windows)(job, row, 3);
            else FC(share_windows)(job, row, job->size);
        return;
    }
    for (ptrdiff_t row = begin; row < end; row++) {
        const T *grad = (const T *)job->grad_output + row * out_w, *maxima = (const T *)job->maxima + row * out_w;
        const T *x = (const T *)job->x + row * 2 * width;
        T *grad_x = (T *)job->grad_x + row * 2 * width;
        ptrdiff_t q = 0;
        for (; q + LANES <= out_w; q += LANES)
            FC(share_pairs)(grad_x + 2 * q, x + 2 * q, width, grad + q, maxima + q, LANES);
        if (q < out_w) FC(share_pairs)(grad_x + 2 * q, x + 2 * q, width, grad + q, maxima + q, out_w - q);
    }
}
