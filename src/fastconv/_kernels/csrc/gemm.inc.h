/* The register tile that every contraction runs on. Contract: fc_tile in kernels.h.
 *
 * rows x vectors accumulators stay in registers; each step loads the vectors of B and
 * broadcasts one element of A for each row. Rows are addressed from one base for
 * every three of them, with the scales 0, 1 and 2 that x86 addressing has, since
 * a pointer a row would not fit into 16 integer registers. Packed rows, one element apart, need none at all.
 */
enum { FC(MR) = TILE_ROWS, FC(NR) = 2 * LANES };

FC_INLINE void FC(gemm_rows)(const fc_tile *tile, const int rows, const int vectors, const ptrdiff_t row,
                             const int a_table, const int b_table)
{
    VEC acc[NARROW_ROWS][4];
    const T *row_bias = tile->row_bias, *column_bias = tile->column_bias;
    T *c = tile->c;
    const ptrdiff_t c_row = tile->c_row;

    FC_UNROLL
    for (int j = 0; j < vectors; j++) {
        if (tile->accumulate) {
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = V(load)(c + i * c_row + j * LANES);
        } else if (row_bias) {
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = V(set1)(row_bias[i]);
        } else {
            VEC start = column_bias ? V(load)(column_bias + j * LANES) : V(zero)();
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = start;
        }
    }

    if (c_row >= FC_FAR) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            FC_UNROLL
            for (int j = 0; j < vectors; j++) FC_PREFETCH_WRITE(c + i * c_row + j * LANES);
        }
    }

    const ptrdiff_t step = tile->a_step, b_step = tile->b_step, depth = tile->depth;
    const ptrdiff_t *a_offset = tile->a_table, *b_offset = tile->b_table;
    const T *a = tile->a, *b = tile->b;
    for (ptrdiff_t k = 0; k < depth; k++) {
        const T *ak = a_table ? a + a_offset[k] : a;
        const T *bk = b_table ? b + b_offset[k] : b;
        VEC right[4];
        FC_UNROLL
        for (int j = 0; j < vectors; j++) {
            right[j] = V(load)(bk + j * LANES);
            FC_KEEP(right[j]);
        }
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            VEC left = V(set1)((ak + (i / 3) * (3 * row))[(i % 3) * row]);
            FC_UNROLL
            for (int j = 0; j < vectors; j++) acc[i][j] = V(fma)(left, right[j], acc[i][j]);
        }
        if (!b_table) b += b_step;
        if (!a_table) a += step;
    }

    FC_UNROLL
    for (int i = 0; i < rows; i++) {
        FC_UNROLL
        for (int j = 0; j < vectors; j++) {
            if (tile->relu) acc[i][j] = V(max)(V(zero)(), acc[i][j]);
            V(store)(c + i * c_row + j * LANES, acc[i][j]);
        }
    }
}

/* Cases of rows up to TILE_ROWS, and from there to NARROW_ROWS. */
#if TILE_ROWS == 6 && NARROW_ROWS == 12
#define FC_TILE_CASES(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#define FC_NARROW_CASES(CASE) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#elif TILE_ROWS == 14 && NARROW_ROWS == 16
#define FC_TILE_CASES(CASE) \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) \
    CASE(14)
#define FC_NARROW_CASES(CASE) CASE(15) CASE(16)
#else
#error "no cases for this tile"
#endif

#define FC_WIDE(n)                                                                                  \
    case n:                                                                                         \
        if (tile->b_table) FC(gemm_rows)(tile, n, 2, tile->a_row, 1, 1);                            \
        else if (tile->a_table) FC(gemm_rows)(tile, n, 2, tile->a_row, 1, 0);                       \
        else if (tile->a_row == 1) FC(gemm_rows)(tile, n, 2, 1, 0, 0);                              \
        else FC(gemm_rows)(tile, n, 2, tile->a_row, 0, 0);                                          \
        break;
#define FC_NARROW(n)                                                                                \
    case n:                                                                                         \
        if (tile->b_table) FC(gemm_rows)(tile, n, 1, tile->a_row, 1, 1);                            \
        else if (tile->a_table) FC(gemm_rows)(tile, n, 1, tile->a_row, 1, 0);                       \
        else FC(gemm_rows)(tile, n, 1, tile->a_row, 0, 0);                                          \
        break;

static void FC(gemm_tile)(const fc_tile *tile)
{
    if (tile->vectors == 1) {
        switch (tile->rows) { FC_TILE_CASES(FC_NARROW) FC_NARROW_CASES(FC_NARROW) }
    } else {
        switch (tile->rows) { FC_TILE_CASES(FC_WIDE) }
    }
}

#define FC_WINDOW(n)                                                                                \
    case n:                                                                                         \
        if (tile->vectors == 1) FC(gemm_rows)(tile, n, 1, 1, 0, 1);                                 \
        else if (n > TILE_ROWS / 2 || tile->vectors == 2) FC(gemm_rows)(tile, n, 2, 1, 0, 1);       \
        else FC(gemm_rows)(tile, n, 4, 1, 0, 1);                                                    \
        break;

static void FC(gemm_window)(const fc_tile *tile)
{
    switch (tile->rows) { FC_TILE_CASES(FC_WINDOW) }
}

#undef FC_TILE_CASES
#undef FC_NARROW_CASES
#undef FC_WIDE
#undef FC_NARROW
#undef FC_WINDOW
