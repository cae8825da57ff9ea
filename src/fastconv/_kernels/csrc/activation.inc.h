/* Activations: elementwise ones, and softmax. Contracts in kernels.h. */

/* ---- rectifiers ---- */

FC_INLINE VEC FC(rectified)(VEC x, VEC ceiling)
{
    return V(select)(V(greater)(x, ceiling), ceiling, V(max)(V(zero)(), x));
}

static void FC(relu)(void *dst_, const void *x_, ptrdiff_t count, double ceiling)
{
    const VEC most = V(set1)((T)ceiling);
    FC_MAP(FC(rectified)(x, most))
}

FC_INLINE V(mask) FC(passes)(VEC x, VEC ceiling, const int capped)
{
    V(mask) inside = V(greater)(x, V(zero)());
    if (capped) inside = V(and)(inside, V(greater)(ceiling, x));
    return V(or)(inside, V(is_nan)(x));
}

static void FC(relu_backward)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double ceiling)
{
    const VEC zero = V(zero)(), most = V(set1)((T)ceiling);
    if (isinf(ceiling)) {
        FC_MAP2(V(select)(FC(passes)(y, most, 0), x, zero))
    } else {
        FC_MAP2(V(select)(FC(passes)(y, most, 1), x, zero))
    }
}

/* Bits go in groups of whole bytes, and of whole vectors. */
enum { FC(BIT_GROUP) = LANES < 8 ? 8 : LANES };

static void FC(relu_bits)(void *dst_, uint8_t *bits, const void *x_, ptrdiff_t count, double ceiling)
{
    const VEC most = V(set1)((T)ceiling);
    const int capped = !isinf(ceiling);
    T *dst = dst_;
    const T *x_first = x_;
    for (ptrdiff_t i = 0; i < count; i += FC(BIT_GROUP)) {
        unsigned set = 0;
        FC_UNROLL
        for (int j = 0; j < FC(BIT_GROUP); j += LANES)
            if (count - i > j) {
                const ptrdiff_t size = count - i - j < LANES ? count - i - j : LANES;
                const VEC x = FC(load_positions)(x_first + i + j, size);
                FC(store_positions)(dst + i + j, FC(rectified)(x, most), size);
                set |= V(bits)(capped ? FC(passes)(x, most, 1) : FC(passes)(x, most, 0)) << j;
            }
        bits[i / 8] = (uint8_t)set;
        if (FC(BIT_GROUP) > 8 && count - i > 8) bits[i / 8 + 1] = (uint8_t)(set >> 8);
    }
}

static void FC(relu_backward_bits)(void *dst_, const void *x_, const uint8_t *bits, ptrdiff_t count)
{
    const VEC zero = V(zero)();
    T *dst = dst_;
    const T *grad = x_;
    for (ptrdiff_t i = 0; i < count; i += FC(BIT_GROUP)) {
        unsigned set = bits[i / 8];
        if (FC(BIT_GROUP) > 8 && count - i > 8) set |= (unsigned)bits[i / 8 + 1] << 8;
        FC_UNROLL
        for (int j = 0; j < FC(BIT_GROUP); j += LANES)
            if (count - i > j) {
                const ptrdiff_t size = count - i - j < LANES ? count - i - j : LANES;
                const VEC g = FC(load_positions)(grad + i + j, size);
                FC(store_positions)(dst + i + j, V(select)(V(from_bits)(set >> j), g, zero), size);
            }
    }
}

static void FC(leaky_relu)(void *dst_, const void *x_, ptrdiff_t count, double slope)
{
    const VEC zero = V(zero)(), factor = V(set1)((T)slope);
    FC_MAP(V(select)(V(greater)(x, zero), x, V(mul)(factor, x)))
}

static void FC(leaky_relu_backward)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double slope)
{
    const VEC zero = V(zero)(), factor = V(set1)((T)slope);
    FC_MAP2(V(select)(V(greater)(y, zero), x, V(mul)(factor, x)))
}

/* ---- sigmoid and tanh ---- */

FC_INLINE VEC FC(negated)(VEC x) { return V(sub)(V(zero)(), x); }

/* 1 / (1 + exp(-x)), whose exponential is never above 1: nothing overflows, and the tails keep their precision. */
FC_INLINE VEC FC(sigmoid_vector)(VEC x)
{
    const VEC one = V(set1)(1), small = FC(exp_vector)(FC(negated)(V(abs)(x)));
    return V(div)(V(select)(V(greater)(V(zero)(), x), small, one), V(add)(one, small));
}

static void FC(sigmoid)(void *dst_, const void *x_, ptrdiff_t count, double unused)
{
    (void)unused;
    FC_MAP(FC(sigmoid_vector)(x))
}

static void FC(sigmoid_backward)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double unused)
{
    (void)unused;
    const VEC one = V(set1)(1);
    FC_MAP2(V(mul)(V(mul)(x, y), V(sub)(one, y)))
}

/* t / (t + 2) with t = exp(2|x|) - 1, which is precise for small x, too. From `saturated` on, the result is 1. */
FC_INLINE VEC FC(tanh_vector)(VEC x)
{
    const VEC one = V(set1)(1), saturated = V(set1)(FC_DTYPE == 32 ? 20 : 40);
    VEC twice = V(abs)(V(add)(x, x)), n;
    twice = V(select)(V(greater)(twice, saturated), saturated, twice);
    const VEC reduced = FC(exp_reduced)(twice, &n), power = V(pow2)(n);
    const VEC t = V(fma)(power, reduced, V(sub)(power, one));
    const VEC result = V(div)(t, V(add)(t, V(set1)(2)));
    /* NaN, and 0 with its sign, are their own. */
    return V(select)(V(no_order)(x, V(zero)()), x, V(negate_where)(V(greater)(V(zero)(), x), result));
}

static void FC(tanh)(void *dst_, const void *x_, ptrdiff_t count, double unused)
{
    (void)unused;
    FC_MAP(FC(tanh_vector)(x))
}

static void FC(tanh_backward)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double unused)
{
    (void)unused;
    const VEC one = V(set1)(1);
    FC_MAP2(V(mul)(x, V(mul)(V(sub)(one, y), V(add)(one, y))))
}

/* ---- softmax ---- */

FC_INLINE VEC FC(log_lanes)(VEC a)
{
    T lanes[LANES];
    V(store)(lanes, a);
    for (int i = 0; i < LANES; i++) lanes[i] = (T)log(lanes[i]);
    return V(load)(lanes);
}

FC_INLINE void FC(softmax_columns)(T *dst, const T *x, ptrdiff_t classes, ptrdiff_t inner, ptrdiff_t size,
                                   const int logarithm)
{
    VEC largest = V(set1)((T)-INFINITY), total = V(zero)();
    for (ptrdiff_t c = 0; c < classes; c++) largest = V(max_nan)(largest, FC(load_positions)(x + c * inner, size));
    for (ptrdiff_t c = 0; c < classes;) {
        VEC block = V(zero)();
        const ptrdiff_t end = classes - c < FC(SUM_BLOCK) ? classes : c + FC(SUM_BLOCK);
        for (; c < end; c++) {
            const VEC power = FC(exp_vector)(V(sub)(FC(load_positions)(x + c * inner, size), largest));
            if (!logarithm) FC(store_positions)(dst + c * inner, power, size);
            block = V(add)(block, power);
        }
        total = V(add)(total, block);
    }
    if (logarithm) total = FC(log_lanes)(total);
    for (ptrdiff_t c = 0; c < classes; c++) {
        const VEC a = FC(load_positions)((logarithm ? x : dst) + c * inner, size);
        FC(store_positions)(dst + c * inner, logarithm ? V(sub)(V(sub)(a, largest), total) : V(div)(a, total), size);
    }
}

FC_INLINE T FC(largest)(const T *x, ptrdiff_t count)
{
    const VEC lowest = V(set1)((T)-INFINITY);
    VEC best[4] = {lowest, lowest, lowest, lowest};
    T lanes[LANES];
    ptrdiff_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        FC_UNROLL
        for (int j = 0; j < 4; j++) best[j] = V(max_nan)(best[j], V(load)(x + i + j * LANES));
    for (; i + LANES <= count; i += LANES) best[0] = V(max_nan)(best[0], V(load)(x + i));
    if (i < count) {
        const V(mask) rest = V(range)(0, count - i);
        best[1] = V(max_nan)(best[1], V(select)(rest, V(load_where)(rest, x + i), lowest));
    }
    V(store)(lanes, V(max_nan)(V(max_nan)(best[0], best[1]), V(max_nan)(best[2], best[3])));
    for (int j = 1; j < LANES; j++)
        if (lanes[j] > lanes[0] || lanes[j] != lanes[j]) lanes[0] = lanes[j];
    return lanes[0];
}

FC_INLINE void FC(exp_below)(T *dst_, const T *x_, ptrdiff_t count, VEC largest)
{
    FC_MAP(FC(exp_vector)(V(sub)(x, largest)))
}

FC_INLINE void FC(divided)(T *dst_, const T *x_, ptrdiff_t count, VEC divisor) { FC_MAP(V(div)(x, divisor)) }

FC_INLINE void FC(log_below)(T *dst_, const T *x_, ptrdiff_t count, VEC largest, VEC log_sum)
{
    FC_MAP(V(sub)(V(sub)(x, largest), log_sum))
}

FC_INLINE void FC(softmax_row)(T *dst, const T *x, ptrdiff_t classes, int logarithm)
{
    const VEC largest = V(set1)(FC(largest)(x, classes));
    FC(exp_below)(dst, x, classes, largest);
    const double total = FC(sum)(dst, classes);
    if (logarithm) FC(log_below)(dst, x, classes, largest, V(set1)((T)log(total)));
    else FC(divided)(dst, dst, classes, V(set1)((T)total));
}

/* Calls a function of dst and further arrays for positions begin .. end-1: a vector of them, or as many as there are
 * up to the end of the inner axis. */
#define FC_EACH_COLUMN(at, size, call)                                   \
    for (ptrdiff_t p = begin, size; p < end; p += size) {                \
        const ptrdiff_t at = p / inner * classes * inner + p % inner;    \
        size = inner - p % inner;                                        \
        if (size > end - p) size = end - p;                              \
        if (size >= LANES) {                                             \
            size = LANES;                                                \
            call(LANES);                                                 \
        } else {                                                         \
            call(size);                                                  \
        }                                                                \
    }

static void FC(softmax)(void *dst_, const void *x_, ptrdiff_t classes, ptrdiff_t inner, ptrdiff_t begin, ptrdiff_t end,
                        int logarithm)
{
    T *dst = dst_;
    const T *x = x_;
    if (inner == 1) {
        for (ptrdiff_t p = begin; p < end; p++) FC(softmax_row)(dst + p * classes, x + p * classes, classes, logarithm);
        return;
    }
#define FC_CALL(size) FC(softmax_columns)(dst + at, x + at, classes, inner, size, 1)
    if (logarithm) {
        FC_EACH_COLUMN(at, size, FC_CALL)
        return;
    }
#undef FC_CALL
#define FC_CALL(size) FC(softmax_columns)(dst + at, x + at, classes, inner, size, 0)
    FC_EACH_COLUMN(at, size, FC_CALL)
#undef FC_CALL
}

FC_INLINE VEC FC(softmax_slope)(VEC grad, VEC output, VEC sum, const int logarithm)
{
    if (logarithm) return V(sub)(grad, V(mul)(FC(exp_vector)(output), sum));
    return V(mul)(output, V(sub)(grad, sum));
}

FC_INLINE void FC(softmax_backward_columns)(T *dst, const T *grad_output, const T *output, ptrdiff_t classes,
                                            ptrdiff_t inner, ptrdiff_t size, const int logarithm)
{
    VEC total = V(zero)();
    for (ptrdiff_t c = 0; c < classes;) {
        VEC block = V(zero)();
        const ptrdiff_t end = classes - c < FC(SUM_BLOCK) ? classes : c + FC(SUM_BLOCK);
        for (; c < end; c++) {
            const VEC grad = FC(load_positions)(grad_output + c * inner, size);
            if (logarithm) block = V(add)(block, grad);
            else block = V(fma)(grad, FC(load_positions)(output + c * inner, size), block);
        }
        total = V(add)(total, block);
    }
    for (ptrdiff_t c = 0; c < classes; c++) {
        const ptrdiff_t i = c * inner;
        const VEC grad = FC(load_positions)(grad_output + i, size), given = FC(load_positions)(output + i, size);
        FC(store_positions)(dst + i, FC(softmax_slope)(grad, given, total, logarithm), size);
    }
}

FC_INLINE void FC(softmax_backward_row)(T *dst_, const T *x_, const T *y_, ptrdiff_t count, const int logarithm)
{
    const VEC sum = V(set1)((T)(logarithm ? FC(sum)(x_, count) : FC(sum_of_products)(x_, y_, 0, count)));
    FC_MAP2(FC(softmax_slope)(x, y, sum, logarithm))
}

static void FC(softmax_backward)(void *dst_, const void *grad_output_, const void *output_, ptrdiff_t classes,
                                 ptrdiff_t inner, ptrdiff_t begin, ptrdiff_t end, int logarithm)
{
    T *dst = dst_;
    const T *grad_output = grad_output_, *output = output_;
    if (inner == 1) {
        for (ptrdiff_t p = begin; p < end; p++) {
            const ptrdiff_t at = p * classes;
            if (logarithm) FC(softmax_backward_row)(dst + at, grad_output + at, output + at, classes, 1);
            else FC(softmax_backward_row)(dst + at, grad_output + at, output + at, classes, 0);
        }
        return;
    }
#define FC_CALL(size) FC(softmax_backward_columns)(dst + at, grad_output + at, output + at, classes, inner, size, 1)
    if (logarithm) {
        FC_EACH_COLUMN(at, size, FC_CALL)
        return;
    }
#undef FC_CALL
#define FC_CALL(size) FC(softmax_backward_columns)(dst + at, grad_output + at, output + at, classes, inner, size, 0)
    FC_EACH_COLUMN(at, size, FC_CALL)
#undef FC_CALL
}
#undef FC_EACH_COLUMN
