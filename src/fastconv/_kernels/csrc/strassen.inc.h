/* The last sums of a Strassen product. Contract: join_sums in kernels.h. */
static int FC(join_sums)(void *dst_, const void *a_, const void *b_, const void *bias_, ptrdiff_t rows, int vectors,
                         int relu)
{
    T *dst = dst_;
    const T *a = a_, *b = b_, *bias = bias_;
    const VEC zero = V(zero)();
    VEC check = zero; /* 0 times what isn't finite is NaN */
    for (ptrdiff_t i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++, dst += LANES, a += LANES) {
            VEC sum = V(load)(a);
            if (b) {
                sum = V(add)(sum, V(load)(b));
                b += LANES;
            }
            check = V(fma)(zero, sum, check);
            if (bias) sum = V(add)(sum, V(load)(bias + j * LANES));
            V(store)(dst, relu ? V(max)(zero, sum) : sum);
        }
    T lanes[LANES];
    int finite = 1;
    V(store)(lanes, check);
    for (int j = 0; j < LANES; j++) finite &= lanes[j] == 0;
    return finite;
}
