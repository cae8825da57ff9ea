/* Local response normalization. Contract: fc_response in kernels.h.
 *
 * What neighbours share goes through a workspace that has zeros where channels end: rows of a few pixels, one for
 * each channel, or the channels of a pixel in one row. `step` is from a channel to the next there. */

/* r^(quarters/4), or r^beta where quarters is 0. */
FC_INLINE VEC FC(power)(VEC r, double beta, const int quarters)
{
    T lanes[LANES];
    if (quarters == 4) return r;
    if (quarters) {
        const VEC root = V(sqrt)(r);
        if (quarters == 2) return root;
        return quarters == 1 ? V(sqrt)(root) : V(mul)(root, V(sqrt)(root));
    }
    V(store)(lanes, r);
    for (int i = 0; i < LANES; i++) lanes[i] = (T)pow(lanes[i], beta);
    return V(load)(lanes);
}

/* The sum of p[o*step], -before <= o <= after, in this order. */
FC_INLINE VEC FC(window_sum)(const T *p, ptrdiff_t before, ptrdiff_t after, ptrdiff_t step)
{
    VEC sum = V(load)(p - before * step);
    for (ptrdiff_t o = 1 - before; o <= after; o++) sum = V(add)(sum, V(load)(p + o * step));
    return sum;
}

/* `rows` rows of `size` elements, `stride` apart in the arrays and `step` in the workspace. */
FC_INLINE void FC(response_rows)(const fc_response *job, ptrdiff_t at, ptrdiff_t rows, ptrdiff_t stride, ptrdiff_t size,
                                 ptrdiff_t step, T *squares, T *through, const int quarters)
{
    const T *x_ = (const T *)job->x + at, *grad_ = job->grad_output ? (const T *)job->grad_output + at : NULL;
    T *dst_ = (T *)job->dst + at;
    const VEC k = V(set1)((T)job->k), scale = V(set1)((T)job->scale);
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t i = 0; i < size; i += LANES) {
            const VEC x = FC(load_positions)(x_ + row * stride + i, size - i < LANES ? size - i : LANES);
            V(store)(squares + row * step + i, V(mul)(x, x));
        }
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t i = 0; i < size; i += LANES) {
            const ptrdiff_t here = row * stride + i, there = row * step + i, left = size - i < LANES ? size - i : LANES;
            const VEC x = FC(load_positions)(x_ + here, left);
            const VEC sum = FC(window_sum)(squares + there, job->before, job->after, step);
            const VEC r = V(add)(V(mul)(scale, sum), k); /* rounded twice, as elsewhere: 0 where k takes all away */
            const VEC divisor = FC(power)(r, job->beta, quarters);
            if (!grad_) {
                FC(store_positions)(dst_ + here, V(div)(x, divisor), left);
                continue;
            }
            const VEC direct = V(div)(FC(load_positions)(grad_ + here, left), divisor);
            FC(store_positions)(dst_ + here, direct, left);
            const VEC indirect = V(div)(V(mul)(direct, x), r);
            V(store)(through + there, left == LANES ? indirect : V(select)(V(range)(0, left), indirect, V(zero)()));
        }
    if (!grad_) return;
    /* A channel is in the windows of those around it: the window mirrored. */
    const VEC slope = V(set1)((T)(-2 * job->beta * job->scale));
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t i = 0; i < size; i += LANES) {
            const ptrdiff_t here = row * stride + i, left = size - i < LANES ? size - i : LANES;
            const VEC x = FC(load_positions)(x_ + here, left), direct = FC(load_positions)(dst_ + here, left);
            const VEC sum = FC(window_sum)(through + row * step + i, job->after, job->before, step);
            FC(store_positions)(dst_ + here, V(fma)(V(mul)(slope, x), sum, direct), left);
        }
}

FC_INLINE void FC(response_units)(const fc_response *job, ptrdiff_t begin, ptrdiff_t end, T *squares, T *through,
                                  const int quarters)
{
    const ptrdiff_t channels = job->channels, plane = job->plane;
    const ptrdiff_t blocks = (plane + FC_RESPONSE_PIXELS - 1) / FC_RESPONSE_PIXELS;
    for (ptrdiff_t unit = begin; unit < end; unit++) {
        if (plane == 1) {
            FC(response_rows)(job, unit * channels, 1, 0, channels, 1, squares, through, quarters);
        } else {
            const ptrdiff_t pixel = unit % blocks * FC_RESPONSE_PIXELS, left = plane - pixel;
            FC(response_rows)(job, unit / blocks * channels * plane + pixel, channels, plane,
                              left < FC_RESPONSE_PIXELS ? left : FC_RESPONSE_PIXELS, FC_RESPONSE_PIXELS, squares, through,
                              quarters);
        }
    }
}

static void FC(response_norm)(const fc_response *job, ptrdiff_t begin, ptrdiff_t end, void *workspace)
{
    const ptrdiff_t step = job->plane == 1 ? 1 : FC_RESPONSE_PIXELS, around = job->before + job->after;
    const ptrdiff_t room = (job->channels + around) * step + FC_MAX_LANES;
    T *squares = (T *)workspace + job->before * step, *through = (T *)workspace + room + job->after * step;
    const double quarters = 4 * job->beta;
    memset(workspace, 0, (size_t)room * sizeof(T) * (job->grad_output ? 2 : 1));
    if (quarters == 1) FC(response_units)(job, begin, end, squares, through, 1);
    else if (quarters == 2) FC(response_units)(job, begin, end, squares, through, 2);
    else if (quarters == 3) FC(response_units)(job, begin, end, squares, through, 3);
    else if (quarters == 4) FC(response_units)(job, begin, end, squares, through, 4);
    else FC(response_units)(job, begin, end, squares, through, 0);
}
