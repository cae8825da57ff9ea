/* Loops of elementwise functions, and sums that keep their precision. */

#ifndef FC_MAP
/* The body of a function of (void *dst_, const void *x_, ptrdiff_t count ...): dst[i] = result, an expression of VEC x,
 * for i < count. The last few elements go the same way as the others, in a vector of their own, so that an element's
 * bits don't depend on where it stands. FC_MAP2: of x and y, from x_ and y_. */
#define FC_MAP(result)                                                     \
    T *dst = dst_;                                                         \
    const T *a = x_;                                                       \
    ptrdiff_t i = 0;                                                       \
    for (; i + LANES <= count; i += LANES) {                               \
        const VEC x = V(load)(a + i);                                      \
        V(store)(dst + i, result);                                         \
    }                                                                      \
    if (i < count) {                                                       \
        const VEC x = V(load_where)(V(range)(0, count - i), a + i);        \
        V(store_first)(dst + i, result, count - i);                        \
    }

#define FC_MAP2(result)                                                    \
    T *dst = dst_;                                                         \
    const T *a = x_, *b = y_;                                              \
    ptrdiff_t i = 0;                                                       \
    for (; i + LANES <= count; i += LANES) {                               \
        const VEC x = V(load)(a + i), y = V(load)(b + i);                  \
        V(store)(dst + i, result);                                         \
    }                                                                      \
    if (i < count) {                                                       \
        const V(mask) rest = V(range)(0, count - i);                       \
        const VEC x = V(load_where)(rest, a + i), y = V(load_where)(rest, b + i); \
        V(store_first)(dst + i, result, count - i);                        \
    }

#endif

/* The first `size` lanes, from memory and to it. */
FC_INLINE VEC FC(load_positions)(const T *p, ptrdiff_t size)
{
    return size == LANES ? V(load)(p) : V(load_where)(V(range)(0, size), p);
}

FC_INLINE void FC(store_positions)(T *p, VEC a, ptrdiff_t size)
{
    if (size == LANES) V(store)(p, a);
    else V(store_first)(p, a, size);
}

enum { FC(SUM_BLOCK) = 32 }; /* vectors or rows that are summed in T before they join the others */

FC_INLINE VEC FC(plus_term)(VEC sum, VEC x, VEC y, VEC center, const int kind)
{
    if (kind == FC_SUM_PLAIN) return V(add)(sum, x);
    const VEC distance = V(sub)(kind == FC_SUM_SQUARES ? x : y, center);
    return V(fma)(kind == FC_SUM_SQUARES ? distance : x, distance, sum);
}

FC_INLINE double FC(add_lanes)(VEC a)
{
    T lanes[LANES];
    V(store)(lanes, a);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

/* Blocks are summed in T, in four chains of vectors, and these in double, in an order that depends on count alone. */
FC_INLINE double FC(sum_terms)(const T *x, const T *y, T center_, ptrdiff_t count, const int kind)
{
    const VEC center = V(set1)(center_);
    double total = 0;
    ptrdiff_t i = 0;
    do {
        const ptrdiff_t end = count - i < FC(SUM_BLOCK) * LANES ? count : i + FC(SUM_BLOCK) * LANES;
        VEC chain[4] = {V(zero)(), V(zero)(), V(zero)(), V(zero)()};
        for (; i + 4 * LANES <= end; i += 4 * LANES)
            FC_UNROLL
            for (int j = 0; j < 4; j++)
                chain[j] = FC(plus_term)(chain[j], V(load)(x + i + j * LANES), V(load)(y + i + j * LANES), center, kind);
        for (int j = 0; i + LANES <= end; i += LANES, j++)
            chain[j] = FC(plus_term)(chain[j], V(load)(x + i), V(load)(y + i), center, kind);
        if (i < end) {
            const V(mask) rest = V(range)(0, end - i);
            const VEC a = V(load_where)(rest, x + i), b = V(load_where)(rest, y + i);
            chain[3] = V(select)(rest, FC(plus_term)(chain[3], a, b, center, kind), chain[3]);
            i = end;
        }
        total += FC(add_lanes)(V(add)(V(add)(chain[0], chain[1]), V(add)(chain[2], chain[3])));
    } while (i < count);
    return total;
}

static double FC(sum)(const T *x, ptrdiff_t count) { return FC(sum_terms)(x, x, 0, count, FC_SUM_PLAIN); }

/* sum x[i] * (y[i] - center) */
static double FC(sum_of_products)(const T *x, const T *y, T center, ptrdiff_t count)
{
    return FC(sum_terms)(x, y, center, count, FC_SUM_PRODUCTS);
}
