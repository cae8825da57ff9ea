/* Products of rows with rows: what a matrix product is when the batch is so small that packing would cost more.
 * Contract: fc_dot in kernels.h. */

FC_INLINE void FC(dot_block)(const fc_dot *dot, const int rows, const int columns, const int column)
{
    VEC acc[FC_DOT_ROWS][FC_DOT_COLUMNS];
    T tail[FC_DOT_ROWS][FC_DOT_COLUMNS];
    const ptrdiff_t a_row = dot->a_row, b_row = dot->b_row, depth = dot->depth;
    const T *a = dot->a, *b = (const T *)dot->b + column * b_row, *bias = dot->bias;
    T *c = (T *)dot->c + column;

    FC_UNROLL
    for (int i = 0; i < rows; i++)
        FC_UNROLL
        for (int j = 0; j < columns; j++) {
            acc[i][j] = V(zero)();
            tail[i][j] = bias ? bias[column + j] : 0;
        }
    ptrdiff_t k = 0;
    for (; k + LANES <= depth; k += LANES) {
        VEC x[FC_DOT_ROWS];
        FC_UNROLL
        for (int i = 0; i < rows; i++) x[i] = V(load)(a + i * a_row + k);
        FC_UNROLL
        for (int j = 0; j < columns; j++) {
            VEC y = V(load)(b + j * b_row + k);
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = V(fma)(x[i], y, acc[i][j]);
        }
    }
    for (; k < depth; k++)
        FC_UNROLL
        for (int i = 0; i < rows; i++)
            FC_UNROLL
            for (int j = 0; j < columns; j++) tail[i][j] += a[i * a_row + k] * b[j * b_row + k];
    FC_UNROLL
    for (int i = 0; i < rows; i++)
        FC_UNROLL
        for (int j = 0; j < columns; j++) {
            T lanes[LANES];
            V(store)(lanes, acc[i][j]);
            for (int width = LANES / 2; width > 0; width /= 2)
                for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
            c[i * dot->c_row + j] = tail[i][j] + lanes[0];
        }
}

static void FC(dot)(const fc_dot *dot)
{
    if (dot->columns == FC_DOT_COLUMNS) {
        if (dot->rows == 1) FC(dot_block)(dot, 1, FC_DOT_COLUMNS, 0);
        else FC(dot_block)(dot, FC_DOT_ROWS, FC_DOT_COLUMNS, 0);
        return;
    }
    for (int column = 0; column < dot->columns; column++) {
        if (dot->rows == 1) FC(dot_block)(dot, 1, 1, column);
        else FC(dot_block)(dot, FC_DOT_ROWS, 1, column);
    }
}
