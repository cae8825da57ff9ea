/* Sums of multiples of long rows, streamed once: a matrix product whose result has few rows.
 * Contract: combine in kernels.h. */

enum { FC(COMBINED) = 4 }; /* rows of B read at the same time */

FC_INLINE VEC FC(load_some)(const T *p, ptrdiff_t count)
{
    T lanes[LANES] = {0};
    for (ptrdiff_t i = 0; i < count; i++) lanes[i] = p[i];
    return V(load)(lanes);
}

/* `rows` rows of C take `terms` terms, beginning with term k. */
FC_INLINE void FC(combine_block)(const fc_tile *tile, ptrdiff_t columns, ptrdiff_t row, ptrdiff_t k, const int rows,
                                 const int terms)
{
    const ptrdiff_t c_row = tile->c_row, b_step = tile->b_step;
    const T *a = (const T *)tile->a + row * tile->a_row + k * tile->a_step;
    const T *b = (const T *)tile->b + k * b_step;
    T *c = (T *)tile->c + row * c_row;
    const int fresh = k == 0;
    VEC factor[2][FC(COMBINED)];
    FC_UNROLL
    for (int i = 0; i < rows; i++)
        FC_UNROLL
        for (int t = 0; t < terms; t++) factor[i][t] = V(set1)(a[i * tile->a_row + t * tile->a_step]);
    ptrdiff_t j = 0;
    for (; j + LANES <= columns; j += LANES) {
        VEC sum[2];
        FC_UNROLL
        for (int i = 0; i < rows; i++) sum[i] = V(zero)();
        FC_UNROLL
        for (int t = 0; t < terms; t++) {
            VEC x = V(load)(b + t * b_step + j);
            FC_UNROLL
            for (int i = 0; i < rows; i++) sum[i] = V(fma)(factor[i][t], x, sum[i]);
        }
        FC_UNROLL
        for (int i = 0; i < rows; i++)
            V(store)(c + i * c_row + j, fresh ? sum[i] : V(add)(V(load)(c + i * c_row + j), sum[i]));
    }
    if (j == columns) return;
    for (int i = 0; i < rows; i++) {
        T lanes[LANES];
        VEC sum = V(zero)();
        for (int t = 0; t < terms; t++) sum = V(fma)(factor[i][t], FC(load_some)(b + t * b_step + j, columns - j), sum);
        V(store)(lanes, fresh ? sum : V(add)(FC(load_some)(c + i * c_row + j, columns - j), sum));
        for (ptrdiff_t l = 0; j + l < columns; l++) c[i * c_row + j + l] = lanes[l];
    }
}

static void FC(combine)(const fc_tile *tile, ptrdiff_t columns)
{
    ptrdiff_t k = 0;
    for (; k + FC(COMBINED) <= tile->depth; k += FC(COMBINED)) {
        int row = 0;
        for (; row + 2 <= tile->rows; row += 2) FC(combine_block)(tile, columns, row, k, 2, FC(COMBINED));
        if (row < tile->rows) FC(combine_block)(tile, columns, row, k, 1, FC(COMBINED));
    }
    for (; k < tile->depth; k++)
        for (int row = 0; row < tile->rows; row++) FC(combine_block)(tile, columns, row, k, 1, 1);
}
