/* The register tile that every contraction runs on. Contract: fc_tile in kernels.h.
 *
 * rows x 2 accumulators stay in registers; each step loads two vectors of B and
 * broadcasts one element of A for each row. Rows are addressed from one base for
 * every three of them, with the scales 0, 1 and 2 that x86 addressing has, since
 * a pointer a row would not fit into 16 integer registers.
 */
enum { FC(MR) = TILE_ROWS, FC(NR) = 2 * LANES };

FC_INLINE void FC(gemm_rows)(const fc_tile *tile, const int rows, const int table)
{
    VEC acc[TILE_ROWS][2];
    const T *row_bias = tile->row_bias, *column_bias = tile->column_bias;
    T *c = tile->c;
    const ptrdiff_t c_row = tile->c_row;

    if (tile->accumulate) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            acc[i][0] = V(load)(c + i * c_row);
            acc[i][1] = V(load)(c + i * c_row + LANES);
        }
    } else if (row_bias) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = V(set1)(row_bias[i]);
    } else {
        VEC left = column_bias ? V(load)(column_bias) : V(zero)();
        VEC right = column_bias ? V(load)(column_bias + LANES) : V(zero)();
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            acc[i][0] = left;
            acc[i][1] = right;
        }
    }

    const ptrdiff_t row = tile->a_row, step = tile->a_step, b_step = tile->b_step, depth = tile->depth;
    const ptrdiff_t *offset = tile->a_table;
    const T *a = tile->a, *b = tile->b;
    for (ptrdiff_t k = 0; k < depth; k++) {
        const T *ak = table ? a + offset[k] : a;
        VEC left = V(load)(b), right = V(load)(b + LANES);
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            VEC x = V(set1)((ak + (i / 3) * (3 * row))[(i % 3) * row]);
            acc[i][0] = V(fma)(x, left, acc[i][0]);
            acc[i][1] = V(fma)(x, right, acc[i][1]);
        }
        b += b_step;
        if (!table) a += step;
    }

    if (tile->relu) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            acc[i][0] = V(max)(V(zero)(), acc[i][0]);
            acc[i][1] = V(max)(V(zero)(), acc[i][1]);
        }
    }
    FC_UNROLL
    for (int i = 0; i < rows; i++) {
        V(store)(c + i * c_row, acc[i][0]);
        V(store)(c + i * c_row + LANES, acc[i][1]);
    }
}

static void FC(gemm_tile)(const fc_tile *tile)
{
#define ROWS(n)                                                                                     \
    case n:                                                                                         \
        if (tile->a_table) FC(gemm_rows)(tile, n, 1);                                               \
        else FC(gemm_rows)(tile, n, 0);                                                             \
        break;
    switch (tile->rows) {
        ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#if TILE_ROWS > 6
        ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12)
#endif
    }
#undef ROWS
}
