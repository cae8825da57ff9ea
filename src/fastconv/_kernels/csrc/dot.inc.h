/* Products of rows with rows: what a matrix product is when the batch is so small that packing would cost more.
 * Contract: fc_dot in kernels.h. */

/* sums[j] = the sum of the lanes of a[j]: neighbours are added until one of each is left. Overwrites a. */
FC_INLINE void FC(sums_of_lanes)(T *sums, VEC a[FC_DOT_COLUMNS])
{
    int vectors = FC_DOT_COLUMNS;
    FC_UNROLL
    for (int width = LANES; width > 1; width /= 2) {
        const int alone = vectors == 1;
        if (!alone) vectors /= 2;
        FC_UNROLL
        for (int j = 0; j < vectors; j++) {
            const VEC first = a[2 * j], second = a[alone ? 0 : 2 * j + 1];
            a[j] = V(add)(V(even)(first, second), V(odd)(first, second));
        }
    }
    FC_UNROLL
    for (int j = 0; j < vectors; j++) V(store)(sums + j * LANES, a[j]);
}

/* sums[i][j] += terms [k, end) of the products of rows of A and B: a chain in each lane. */
FC_INLINE void FC(dot_chains)(const fc_dot *dot, ptrdiff_t k, ptrdiff_t end, T (*sums)[FC_DOT_COLUMNS], const int rows,
                              const int columns)
{
    VEC acc[FC_DOT_ROWS][FC_DOT_COLUMNS];
    const ptrdiff_t a_row = dot->a_row, b_row = dot->b_row;
    const T *a = dot->a, *b = dot->b;

    FC_UNROLL
    for (int i = 0; i < rows; i++)
        FC_UNROLL
        for (int j = 0; j < FC_DOT_COLUMNS; j++) acc[i][j] = V(zero)();
    for (; k + LANES <= end; k += LANES) {
        VEC x[FC_DOT_ROWS];
        FC_UNROLL
        for (int i = 0; i < rows; i++) x[i] = V(load)(a + i * a_row + k);
        FC_UNROLL
        for (int j = 0; j < columns; j++) {
            const VEC y = V(load)(b + j * b_row + k);
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = V(fma)(x[i], y, acc[i][j]);
        }
    }
    if (k < end) {
        const V(mask) rest = V(range)(0, end - k);
        VEC x[FC_DOT_ROWS];
        FC_UNROLL
        for (int i = 0; i < rows; i++) x[i] = V(load_where)(rest, a + i * a_row + k);
        FC_UNROLL
        for (int j = 0; j < columns; j++) {
            const VEC y = V(load_where)(rest, b + j * b_row + k);
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = V(fma)(x[i], y, acc[i][j]);
        }
    }
    FC_UNROLL
    for (int i = 0; i < rows; i++) {
        T more[FC_DOT_COLUMNS + LANES];
        FC(sums_of_lanes)(more, acc[i]);
        FC_UNROLL
        for (int j = 0; j < columns; j++) sums[i][j] += more[j];
    }
}

FC_INLINE void FC(dot_block)(const fc_dot *dot, const int rows, const int columns)
{
    const ptrdiff_t depth = dot->depth, longest = FC_CHAIN * LANES;
    const T *bias = dot->bias;
    T *c = dot->c, sums[FC_DOT_ROWS][FC_DOT_COLUMNS] = {{0}};
    for (ptrdiff_t k = 0; k < depth; k += longest)
        FC(dot_chains)(dot, k, depth - k < longest ? depth : k + longest, sums, rows, columns);
    FC_UNROLL
    for (int i = 0; i < rows; i++) {
        FC_UNROLL
        for (int j = 0; j < columns; j++) {
            const T sum = bias ? sums[i][j] + bias[j] : sums[i][j];
            c[i * dot->c_row + j] = dot->relu && sum < 0 ? 0 : sum;
        }
    }
}

static void FC(dot)(const fc_dot *dot)
{
    switch (dot->rows * FC_DOT_COLUMNS + dot->columns - 1) {
#define FC_DOT_CASE(rows, columns)                   \
    case rows * FC_DOT_COLUMNS + columns - 1:        \
        FC(dot_block)(dot, rows, columns);           \
        break;
        FC_DOT_CASE(1, 1) FC_DOT_CASE(1, 2) FC_DOT_CASE(1, 3) FC_DOT_CASE(1, 4)
        FC_DOT_CASE(2, 1) FC_DOT_CASE(2, 2) FC_DOT_CASE(2, 3) FC_DOT_CASE(2, 4)
#undef FC_DOT_CASE
    }
}
