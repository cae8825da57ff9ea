/* A step of an optimizer in one pass over the parameter, its gradient and what is kept for it. Contracts in kernels.h. */

/* The gradient as the update takes it: to fall or to rise, with the penalty's. */
FC_INLINE VEC FC(change)(VEC grad, VEC data, double decay, int maximize)
{
    if (maximize) grad = FC(negated)(grad);
    return decay != 0 ? V(fma)(V(set1)((T)decay), data, grad) : grad;
}

/* `size` elements, from i on: as many as a vector has, or fewer. */
FC_INLINE void FC(adam_vector)(const fc_adam *job, ptrdiff_t i, ptrdiff_t size)
{
    T *data = (T *)job->data + i, *mean = (T *)job->mean + i, *square = (T *)job->square + i;
    VEC p = FC(load_positions)(data, size), m = FC(load_positions)(mean, size), s = FC(load_positions)(square, size);
    const VEC g = FC(change)(FC(load_positions)((const T *)job->grad + i, size), p, job->decay, job->maximize);
    if (job->shrink != 1) p = V(mul)(p, V(set1)((T)job->shrink));
    m = V(fma)(V(set1)((T)(1 - job->beta1)), V(sub)(g, m), m);
    s = V(fma)(V(set1)((T)job->beta2), s, V(mul)(V(set1)((T)(1 - job->beta2)), V(mul)(g, g)));
    FC(store_positions)(mean, m, size);
    FC(store_positions)(square, s, size);
    if (job->largest) {
        T *largest = (T *)job->largest + i;
        s = V(max_nan)(FC(load_positions)(largest, size), s);
        FC(store_positions)(largest, s, size);
    }
    VEC scale = V(sqrt)(s);
    if (job->root_of_correction != 1) scale = V(div)(scale, V(set1)((T)job->root_of_correction));
    scale = V(add)(scale, V(set1)((T)job->eps));
    p = V(sub)(p, V(mul)(V(set1)((T)job->step_size), V(div)(m, scale)));
    FC(store_positions)(data, p, size);
}

static void FC(adam)(const fc_adam *job, ptrdiff_t begin, ptrdiff_t end)
{
    const fc_adam local = *job; /* what nobody else can write to */
    ptrdiff_t i = begin;
    for (; i + LANES <= end; i += LANES) FC(adam_vector)(&local, i, LANES);
    if (i < end) FC(adam_vector)(&local, i, end - i);
}

FC_INLINE void FC(sgd_vector)(const fc_sgd *job, ptrdiff_t i, ptrdiff_t size)
{
    T *data = (T *)job->data + i;
    const VEC p = FC(load_positions)(data, size);
    const VEC g = FC(change)(FC(load_positions)((const T *)job->grad + i, size), p, job->decay, job->maximize);
    VEC step = g;
    if (job->velocity) {
        T *velocity = (T *)job->velocity + i;
        const VEC momentum = V(set1)((T)job->momentum);
        if (!job->first)
            step = V(fma)(momentum, FC(load_positions)(velocity, size), V(mul)(V(set1)((T)job->damped), g));
        FC(store_positions)(velocity, step, size);
        if (job->nesterov) step = V(fma)(momentum, step, g);
    }
    FC(store_positions)(data, V(sub)(p, V(mul)(V(set1)((T)job->lr), step)), size);
}

static void FC(sgd)(const fc_sgd *job, ptrdiff_t begin, ptrdiff_t end)
{
    const fc_sgd local = *job;
    ptrdiff_t i = begin;
    for (; i + LANES <= end; i += LANES) FC(sgd_vector)(&local, i, LANES);
    if (i < end) FC(sgd_vector)(&local, i, end - i);
}
