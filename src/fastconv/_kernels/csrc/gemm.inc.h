/* The register tile that every contraction runs on. Contract: fc_tile in kernels.h.
 *
 * rows x vectors accumulators stay in registers; each step loads the vectors of B and
 * broadcasts one element of A for each row. Packed rows, one element apart, need one address. Others have a pointer
 * each, where 16 integer registers are enough for that, so that a step computes no address: a virtual processor is
 * often half of a core, and its share of the decoder is then what a tile of few rows waits for.
 * More rows are addressed from one base for every three of them, with the scales 0, 1 and 2 that x86 addressing has.
 */
enum {
    FC(MR) = TILE_ROWS,
    FC(NR) = 2 * LANES,
    FC(APART) = 64, /* elements: rows of C that are closer lie in a workspace, and so in the cache */
    FC(POINTERS) = TILE_ROWS > FC_POINTER_ROWS ? 0 : FC_POINTER_ROWS, /* rows, at most, with a pointer each */
};

#ifndef FC_GEMM_KINDS
#define FC_GEMM_KINDS
/* What a body is for: A with rows one element apart, tables, lines to fetch, results past the cache. */
enum { FC_PACKED = 1, FC_A_TABLE = 2, FC_B_TABLE = 4, FC_FETCHING = 8, FC_STREAMING = 16 };
#endif

/* Steps of more rows take so long that what they do beside loads and products is lost in it. */
#if TILE_ROWS > 6
#define FC_STEPS
#else
#define FC_STEPS FC_BY_FOUR
#endif

FC_INLINE void FC(gemm_rows)(const fc_tile *tile, const int rows, const int vectors, const int kind)
{
    const int packed = kind & FC_PACKED, a_table = kind & FC_A_TABLE, b_table = kind & FC_B_TABLE;
    const int fetching = kind & FC_FETCHING, add = tile->accumulate == FC_ADD;
    VEC acc[NARROW_ROWS][4];
    const T *row_bias = tile->row_bias, *column_bias = tile->column_bias;
    T *c = tile->c;
    const ptrdiff_t c_row = tile->c_row;

    FC_UNROLL
    for (int j = 0; j < vectors; j++) {
        if (tile->accumulate == FC_GO_ON) {
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = V(load)(c + i * c_row + j * LANES);
        } else if (row_bias && !add) {
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = V(set1)(row_bias[i]);
        } else {
            VEC start = column_bias && !add ? V(load)(column_bias + j * LANES) : V(zero)();
            FC_UNROLL
            for (int i = 0; i < rows; i++) acc[i][j] = start;
        }
    }

    const int stream = kind & FC_STREAMING && tile->stream;
    /* Stores wait one for the other where their lines are not in the cache. */
    if (c_row >= FC(APART) && !stream && tile->accumulate != FC_GO_ON) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            FC_UNROLL
            for (int j = 0; j < vectors; j++) FC_PREFETCH_WRITE(c + i * c_row + j * LANES);
        }
    }

    const ptrdiff_t step = tile->a_step, depth = tile->depth;
    const ptrdiff_t b_step = a_table ? vectors * LANES : tile->b_step;
    const ptrdiff_t *a_offset = tile->a_table, *b_offset = tile->b_table;
    const T *a = tile->a, *b = tile->b;
    const ptrdiff_t row = packed ? 1 : tile->a_row;
    ptrdiff_t k = 0, end = depth, at = 0;
    const int pointers = !packed && rows <= FC(POINTERS);
    const T *from[FC(POINTERS) + 1];
    if (pointers) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            from[i] = a + i * row;
            FC_KEEP_POINTER(from[i]);
        }
    }
    do {
        if (fetching) {
            for (int j = 0; j < 2; j++) fc_fetch_share(tile->ahead + j);
            end = depth - k > tile->ahead_terms ? k + tile->ahead_terms : depth;
        }
        FC_STEPS
        for (; k < end; k++) {
            const ptrdiff_t offset = a_table ? a_offset[k] : at;
            const T *ak = a + offset;
            const T *bk = b_table ? b + b_offset[k] : b;
            VEC right[4];
            FC_UNROLL
            for (int j = 0; j < vectors; j++) {
                right[j] = V(load)(bk + j * LANES);
                FC_KEEP(right[j]);
            }
            FC_UNROLL
            for (int i = 0; i < rows; i++) {
                VEC left = V(set1)(pointers ? from[i][offset] : (ak + (i / 3) * (3 * row))[(i % 3) * row]);
                FC_UNROLL
                for (int j = 0; j < vectors; j++) acc[i][j] = V(fma)(left, right[j], acc[i][j]);
            }
            if (!b_table) b += b_step;
            if (!a_table) at += step;
        }
    } while (k < depth);

    if (add) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            FC_UNROLL
            for (int j = 0; j < vectors; j++) acc[i][j] = V(add)(V(load)(c + i * c_row + j * LANES), acc[i][j]);
        }
    }
    if (tile->relu) {
        FC_UNROLL
        for (int i = 0; i < rows; i++) {
            FC_UNROLL
            for (int j = 0; j < vectors; j++) acc[i][j] = V(max)(V(zero)(), acc[i][j]);
        }
    }
    FC_UNROLL
    for (int i = 0; i < rows; i++) {
        FC_UNROLL
        for (int j = 0; j < vectors; j++) {
            if (stream) V(stream)(c + i * c_row + j * LANES, acc[i][j]);
            else V(store)(c + i * c_row + j * LANES, acc[i][j]);
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

/* A function each: in one of all, compilers run out of registers for addresses. */
#define FC_BODY(name, n, vectors, kind)                                                             \
    FC_NOINLINE void FC(name##_##n)(const fc_tile *tile)                                            \
    {                                                                                               \
        FC(gemm_rows)(tile, n, vectors, kind);                                                      \
    }
#if TILE_ROWS < FC_TAP_ROWS
#define FC_TAPS_BODY(name, n, vectors)
#define FC_TAPS_CASE(name, n)
#else
#define FC_TAPS_BODY(name, n, vectors) FC_BODY(name, n, vectors, FC_A_TABLE | FC_B_TABLE)
#define FC_TAPS_CASE(name, n) if (tile->b_table) FC(name##_##n)(tile); else
#endif
#define FC_BODIES(width, vectors, n)                                                                \
    FC_TAPS_BODY(width##_taps, n, vectors)                                                          \
    FC_BODY(width##_fetching, n, vectors, FC_A_TABLE | FC_FETCHING)                                 \
    FC_BODY(width##_table, n, vectors, FC_A_TABLE)                                                  \
    FC_BODY(width##_packed, n, vectors, FC_PACKED | FC_STREAMING)                                   \
    FC_BODY(width##_steps, n, vectors, 0)
#define FC_CASE(width, n)                                                                           \
    case n:                                                                                         \
        FC_TAPS_CASE(width##_taps, n)                                                               \
        if (tile->a_table && tile->ahead) FC(width##_fetching_##n)(tile);                           \
        else if (tile->a_table) FC(width##_table_##n)(tile);                                        \
        else if (tile->a_row == 1) FC(width##_packed_##n)(tile);                                    \
        else FC(width##_steps_##n)(tile);                                                           \
        break;
#define FC_WIDE_BODIES(n) FC_BODIES(wide, 2, n)
#define FC_NARROW_BODIES(n) FC_BODIES(narrow, 1, n)
#define FC_WIDE(n) FC_CASE(wide, n)
#define FC_NARROW(n) FC_CASE(narrow, n)
FC_TILE_CASES(FC_WIDE_BODIES)
FC_TILE_CASES(FC_NARROW_BODIES)
FC_NARROW_CASES(FC_NARROW_BODIES)

/* A long sum: a chain for each equal part of it. All but the first read the results of those before. */
FC_NOINLINE void FC(in_chains)(const fc_tile *whole, void (*chain)(const fc_tile *tile))
{
    const ptrdiff_t depth = whole->depth, chains = (depth + FC_CHAIN - 1) / FC_CHAIN;
    const ptrdiff_t b_step = whole->a_table ? whole->vectors * LANES : whole->b_step;
    fc_tile tile = *whole;
    tile.stream = 0;
    for (ptrdiff_t i = 0; i < chains; i++) {
        const ptrdiff_t first = depth * i / chains;
        tile.depth = depth * (i + 1) / chains - first;
        if (whole->a_table) tile.a_table = whole->a_table + first;
        else tile.a = (const T *)whole->a + first * whole->a_step;
        if (whole->b_table) tile.b_table = whole->b_table + first;
        else tile.b = (const T *)whole->b + first * b_step;
        tile.relu = whole->relu && i + 1 == chains;
        chain(&tile);
        tile.accumulate = FC_ADD;
    }
}

static void FC(gemm_tile)(const fc_tile *tile)
{
    if (tile->depth > FC_CHAIN) FC(in_chains)(tile, FC(gemm_tile));
    else if (tile->vectors == 1) {
        switch (tile->rows) { FC_TILE_CASES(FC_NARROW) FC_NARROW_CASES(FC_NARROW) }
    } else {
        switch (tile->rows) { FC_TILE_CASES(FC_WIDE) }
    }
}

#define FC_WINDOW(n)                                                                                \
    case n:                                                                                         \
        if (tile->vectors == 1) FC(gemm_rows)(tile, n, 1, FC_PACKED | FC_B_TABLE);                  \
        else if (n > TILE_ROWS / 2 || tile->vectors == 2)                                           \
            FC(gemm_rows)(tile, n, 2, FC_PACKED | FC_B_TABLE);                                      \
        else FC(gemm_rows)(tile, n, 4, FC_PACKED | FC_B_TABLE);                                     \
        break;

static void FC(gemm_window)(const fc_tile *tile)
{
    if (tile->depth > FC_CHAIN) FC(in_chains)(tile, FC(gemm_window));
    else switch (tile->rows) { FC_TILE_CASES(FC_WINDOW) }
}

#undef FC_STEPS
#undef FC_BODY
#undef FC_TAPS_BODY
#undef FC_TAPS_CASE
#undef FC_BODIES
#undef FC_CASE
#undef FC_WIDE_BODIES
#undef FC_NARROW_BODIES
#undef FC_TILE_CASES
#undef FC_NARROW_CASES
#undef FC_WIDE
#undef FC_NARROW
#undef FC_WINDOW
