/* Losses with their gradients. Contracts in kernels.h. */

static double FC(squared_error)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double factor_)
{
    const VEC factor = V(set1)((T)factor_);
    T *dst = dst_;
    const T *x = x_, *y = y_;
    double total = 0;
    for (ptrdiff_t i = 0; i < count;) {
        const ptrdiff_t end = count - i < FC(SUM_BLOCK) * LANES ? count : i + FC(SUM_BLOCK) * LANES;
        VEC sum[2] = {V(zero)(), V(zero)()};
        for (; i < end; i += 2 * LANES)
            FC_UNROLL
            for (int j = 0; j < 2; j++) {
                const ptrdiff_t at = i + j * LANES, size = end - at < LANES ? end - at : LANES;
                if (size > 0) {
                    const VEC d = V(sub)(FC(load_positions)(x + at, size), FC(load_positions)(y + at, size));
                    sum[j] = V(fma)(d, d, sum[j]);
                    FC(store_positions)(dst + at, V(mul)(d, factor), size);
                }
            }
        i = end;
        total += FC(add_lanes)(V(add)(sum[0], sum[1]));
    }
    return total;
}

/* ---- cross entropy ---- */

/* What the target wants of a class: its share of the weight. */
FC_INLINE VEC FC(wanted)(const fc_cross_entropy *job, VEC probability, VEC weight)
{
    const VEC own = V(set1)((T)(1 - job->smoothing)), even = V(set1)((T)(job->smoothing / (double)job->classes));
    return V(mul)(weight, V(fma)(own, probability, even));
}

/* The sums over a row of what is wanted, and of its products with x - largest. */
FC_INLINE void FC(wanted_sums)(const fc_cross_entropy *job, const T *x, const T *probability, T largest_, double *plain,
                               double *products)
{
    const VEC largest = V(set1)(largest_);
    const T *weight = job->weight;
    *plain = *products = 0;
    for (ptrdiff_t c = 0; c < job->classes;) {
        const ptrdiff_t end = job->classes - c < FC(SUM_BLOCK) * LANES ? job->classes : c + FC(SUM_BLOCK) * LANES;
        VEC sum = V(zero)(), sum_of_products = V(zero)();
        for (; c < end; c += LANES) {
            const ptrdiff_t size = end - c < LANES ? end - c : LANES;
            const VEC below = V(sub)(FC(load_positions)(x + c, size), largest);
            const VEC wanted = FC(wanted)(job, FC(load_positions)(probability + c, size),
                                          FC(load_positions)(weight + c, size)); /* 0 past the end */
            const VEC product = V(mul)(wanted, below);
            sum = V(add)(sum, wanted);
            sum_of_products = V(add)(sum_of_products, size == LANES ? product : V(select)(V(range)(0, size), product, V(zero)()));
        }
        c = end;
        *plain += FC(add_lanes)(sum);
        *products += FC(add_lanes)(sum_of_products);
    }
}

/* grad = powers * factor - wanted * scale, over a row. */
FC_INLINE void FC(towards_probability)(const fc_cross_entropy *job, T *grad, const T *probability, T factor_)
{
    const VEC factor = V(set1)(factor_), scale = V(set1)((T)-job->scale);
    const T *weight = job->weight;
    for (ptrdiff_t c = 0; c < job->classes; c += LANES) {
        const ptrdiff_t size = job->classes - c < LANES ? job->classes - c : LANES;
        const VEC wanted = FC(wanted)(job, FC(load_positions)(probability + c, size), FC(load_positions)(weight + c, size));
        const VEC power = V(mul)(FC(load_positions)(grad + c, size), factor);
        FC(store_positions)(grad + c, V(fma)(wanted, scale, power), size);
    }
}

FC_INLINE void FC(multiplied)(T *dst_, const T *x_, ptrdiff_t count, VEC factor) { FC_MAP(V(mul)(x, factor)) }

FC_INLINE void FC(multiplied_less)(T *dst_, const T *x_, const T *y_, ptrdiff_t count, VEC factor, VEC less)
{
    FC_MAP2(V(fma)(less, y, V(mul)(x, factor)))
}

FC_INLINE double FC(cross_entropy_row)(const fc_cross_entropy *job, ptrdiff_t p)
{
    const ptrdiff_t classes = job->classes, own = job->target ? job->target[p] : 0;
    const T *x = (const T *)job->logits + p * classes, *weight = job->weight;
    T *grad = (T *)job->grad + p * classes;
    if (own < 0) {
        memset(grad, 0, (size_t)classes * sizeof(T));
        return 0;
    }
    const T largest = FC(largest)(x, classes);
    FC(exp_below)(grad, x, classes, V(set1)(largest));
    const double total = FC(sum)(grad, classes), log_total = log(total);
    if (!job->target) {
        double sum, products;
        const T *probability = (const T *)job->probability + p * classes;
        FC(wanted_sums)(job, x, probability, largest, &sum, &products);
        FC(towards_probability)(job, grad, probability, (T)(sum * job->scale / total));
        return sum * log_total - products;
    }
    const double share = weight[own] * (1 - job->smoothing), even = job->smoothing / (double)classes;
    const double all = even * job->total_weight;
    double loss = share * (log_total - ((double)x[own] - (double)largest));
    const VEC factor = V(set1)((T)((share + all) * job->scale / total));
    if (job->smoothing != 0) {
        loss += all * log_total - even * FC(sum_of_products)(weight, x, largest, classes);
        FC(multiplied_less)(grad, grad, weight, classes, factor, V(set1)((T)(-even * job->scale)));
    } else {
        FC(multiplied)(grad, grad, classes, factor);
    }
    grad[own] -= (T)(share * job->scale);
    return loss;
}

/* `size` positions, p and those that follow it, whose classes are `inner` apart. */
FC_INLINE double FC(cross_entropy_columns)(const fc_cross_entropy *job, ptrdiff_t p, ptrdiff_t at, ptrdiff_t size)
{
    const ptrdiff_t classes = job->classes, inner = job->inner;
    const T *x = (const T *)job->logits + at, *weight = job->weight;
    const T *probability = job->target ? NULL : (const T *)job->probability + at;
    const double even = job->smoothing / (double)classes, all = even * job->total_weight;
    const int spread = probability || even != 0; /* do other classes than a position's own want something? */
    T *grad = (T *)job->grad + at;
    T highest[LANES], totals[LANES], sums[LANES], products[LANES], factors[LANES] = {0}, less[LANES] = {0};
    VEC largest = V(set1)((T)-INFINITY), total = V(zero)(), sum = V(zero)(), sum_of_products = V(zero)();
    double loss = 0;
    for (ptrdiff_t c = 0; c < classes; c++) largest = V(max_nan)(largest, FC(load_positions)(x + c * inner, size));
    for (ptrdiff_t c = 0; c < classes;) {
        const ptrdiff_t end = classes - c < FC(SUM_BLOCK) ? classes : c + FC(SUM_BLOCK);
        VEC block = V(zero)(), block_sum = V(zero)(), block_products = V(zero)();
        for (; c < end; c++) {
            const VEC below = V(sub)(FC(load_positions)(x + c * inner, size), largest), power = FC(exp_vector)(below);
            FC(store_positions)(grad + c * inner, power, size);
            block = V(add)(block, power);
            if (spread) {
                VEC wanted = V(set1)(weight[c]);
                if (probability) wanted = FC(wanted)(job, FC(load_positions)(probability + c * inner, size), wanted);
                block_sum = V(add)(block_sum, wanted);
                block_products = V(fma)(wanted, below, block_products);
            }
        }
        total = V(add)(total, block);
        sum = V(add)(sum, block_sum);
        sum_of_products = V(add)(sum_of_products, block_products);
    }
    V(store)(highest, largest);
    V(store)(totals, total);
    V(store)(sums, sum);
    V(store)(products, sum_of_products);
    for (ptrdiff_t lane = 0; lane < size; lane++) {
        const double log_total = log((double)totals[lane]);
        double share = sums[lane];
        if (probability) {
            loss += share * log_total - products[lane];
            less[lane] = (T)-job->scale;
        } else {
            const ptrdiff_t own = job->target[p + lane];
            if (own < 0) continue;
            const double below = (double)x[own * inner + lane] - (double)highest[lane];
            share = weight[own] * (1 - job->smoothing);
            loss += share * (log_total - below);
            if (even != 0) loss += all * log_total - even * products[lane];
            share += all;
            less[lane] = (T)(-even * job->scale);
        }
        factors[lane] = (T)(share * job->scale / totals[lane]);
    }
    const VEC factor = V(load)(factors), taken = V(load)(less);
    for (ptrdiff_t c = 0; c < classes; c++) {
        VEC slope = V(mul)(FC(load_positions)(grad + c * inner, size), factor);
        if (spread) {
            VEC wanted = V(set1)(weight[c]);
            if (probability) wanted = FC(wanted)(job, FC(load_positions)(probability + c * inner, size), wanted);
            slope = V(fma)(wanted, taken, slope);
        }
        FC(store_positions)(grad + c * inner, slope, size);
    }
    for (ptrdiff_t lane = 0; lane < size && !probability; lane++) {
        const ptrdiff_t own = job->target[p + lane];
        if (own >= 0) {
            grad[own * inner + lane] -= (T)(weight[own] * (1 - job->smoothing) * job->scale);
        } else {
            for (ptrdiff_t c = 0; c < classes; c++) grad[c * inner + lane] = 0; /* of NaN, too */
        }
    }
    return loss;
}

static double FC(cross_entropy)(const fc_cross_entropy *job, ptrdiff_t begin, ptrdiff_t end)
{
    const fc_cross_entropy local = *job; /* what nobody else can write to */
    double total = 0;
    if (local.inner == 1) {
        for (ptrdiff_t p = begin; p < end; p++) total += FC(cross_entropy_row)(&local, p);
        return total;
    }
    for (ptrdiff_t p = begin, size; p < end; p += size) {
        const ptrdiff_t at = p / local.inner * local.classes * local.inner + p % local.inner;
        size = local.inner - p % local.inner;
        if (size > end - p) size = end - p;
        if (size >= LANES) {
            size = LANES;
            total += FC(cross_entropy_columns)(&local, p, at, LANES);
        } else {
            total += FC(cross_entropy_columns)(&local, p, at, size);
        }
    }
    return total;
}
