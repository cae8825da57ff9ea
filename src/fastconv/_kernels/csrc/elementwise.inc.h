/* Elementwise arithmetic that is no activation. Contracts in kernels.h. */

static void FC(plus)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double unused)
{
    (void)unused;
    FC_MAP2(V(add)(x, y))
}

static void FC(minus)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double unused)
{
    (void)unused;
    FC_MAP2(V(sub)(x, y))
}

static void FC(plus_relu)(void *dst_, const void *x_, const void *y_, ptrdiff_t count, double ceiling)
{
    const VEC most = V(set1)((T)ceiling);
    FC_MAP2(FC(rectified)(V(add)(x, y), most))
}

static void FC(keep)(void *dst_, const void *x_, const uint8_t *mask, ptrdiff_t count, double scale)
{
    const VEC factor = V(set1)((T)scale);
    T *dst = dst_;
    const T *x = x_;
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES)
        V(store)(dst + i, V(mul)(V(load)(x + i), V(mul)(V(from_bytes)(mask + i), factor)));
    if (i < count) {
        uint8_t rest[LANES] = {0};
        memcpy(rest, mask + i, (size_t)(count - i));
        const VEC last = V(load_where)(V(range)(0, count - i), x + i);
        V(store_first)(dst + i, V(mul)(last, V(mul)(V(from_bytes)(rest), factor)), count - i);
    }
}
