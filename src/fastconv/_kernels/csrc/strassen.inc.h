/* Sums of a Strassen product: of its operands, and of its products. Contracts: strassen_operands, strassen_results and
 * join_sums in kernels.h. */
static void FC(strassen_operands)(const void *a0_, const void *a1_, void *b0_, const void *b1_, void *s1_, void *s2_,
                                  void *s4_, ptrdiff_t count)
{
    const T *a0 = a0_, *a1 = a1_, *b1 = b1_;
    T *b0 = b0_, *s1 = s1_, *s2 = s2_, *s4 = s4_;
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        const VEC upper = V(load)(a0 + i), lower = V(load)(b0 + i);
        const VEC first = V(add)(lower, V(load)(b1 + i)), second = V(sub)(first, upper);
        V(store)(s1 + i, first);
        V(store)(s2 + i, second);
        V(store)(b0 + i, V(sub)(upper, lower));
        V(store)(s4 + i, V(sub)(V(load)(a1 + i), second));
    }
}

FC_INLINE int FC(all_zero)(VEC check)
{
    T lanes[LANES];
    int zero = 1;
    V(store)(lanes, check);
    for (int j = 0; j < LANES; j++) zero &= lanes[j] == 0;
    return zero;
}

static int FC(strassen_results)(void *const *dst, const ptrdiff_t *dst_row, const void *products_,
                                ptrdiff_t product_step, const void *const *bias, ptrdiff_t rows, int vectors, int relu)
{
    const T *products = products_;
    const VEC zero = V(zero)();
    VEC check = zero; /* 0 times what isn't finite is NaN */
    for (ptrdiff_t i = 0; i < rows; i++, products += FC(NR))
        for (int j = 0; j < vectors; j++) {
            VEC p[7], sums[4];
            FC_UNROLL
            for (int k = 0; k < 7; k++) p[k] = V(load)(products + k * product_step + j * LANES);
            const VEC both = V(add)(p[0], p[3]), last = V(add)(both, p[2]);
            sums[0] = V(add)(p[0], p[1]);
            sums[1] = V(add)(last, p[4]);
            sums[2] = V(add)(V(add)(both, p[5]), p[6]);
            sums[3] = V(add)(last, p[5]);
            FC_UNROLL
            for (int k = 0; k < 4; k++) {
                check = V(fma)(zero, sums[k], check);
                if (bias[k % 2]) sums[k] = V(add)(sums[k], V(set1)(((const T *)bias[k % 2])[i]));
                V(store)((T *)dst[k] + i * dst_row[k / 2] + j * LANES, relu ? V(max)(zero, sums[k]) : sums[k]);
            }
        }
    return FC(all_zero)(check);
}

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
    return FC(all_zero)(check);
}
