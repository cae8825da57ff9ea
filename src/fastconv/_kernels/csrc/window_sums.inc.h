/* Products of rows with windows of other rows, summed along the rows. Contract: fc_window_sums in kernels.h.
 *
 * A tile of some planes by some terms keeps its sums in registers; each step loads a vector of every plane and of every
 * window. Past the end of a row both are zero, so that no infinity outside meets a zero inside. The first terms of a
 * tile fetch the planes of the next one, which no processor guesses.
 */
#if TILE_ROWS == 14
enum { FC(SUM_PLANES) = 5, FC(SUM_TERMS) = 5 };
#define FC_SUM_PLANES_CASES(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5)
#define FC_SUM_TERMS_CASES(planes, CASE) \
    CASE(planes, 1) CASE(planes, 2) CASE(planes, 3) CASE(planes, 4) CASE(planes, 5)
#define FC_SUM_CASES(CASE)                                                                                      \
    FC_SUM_TERMS_CASES(1, CASE) FC_SUM_TERMS_CASES(2, CASE) FC_SUM_TERMS_CASES(3, CASE)                         \
    FC_SUM_TERMS_CASES(4, CASE) FC_SUM_TERMS_CASES(5, CASE)
#else
enum { FC(SUM_PLANES) = 3, FC(SUM_TERMS) = 4 };
#define FC_SUM_PLANES_CASES(CASE) CASE(1) CASE(2) CASE(3)
#define FC_SUM_TERMS_CASES(planes, CASE) CASE(planes, 1) CASE(planes, 2) CASE(planes, 3) CASE(planes, 4)
#define FC_SUM_CASES(CASE) FC_SUM_TERMS_CASES(1, CASE) FC_SUM_TERMS_CASES(2, CASE) FC_SUM_TERMS_CASES(3, CASE)
#endif

FC_INLINE void FC(sum_tile)(const fc_window_sums *w, ptrdiff_t plane, ptrdiff_t term, const int planes,
                            const int terms, const ptrdiff_t ahead)
{
    VEC acc[FC(SUM_PLANES)][FC(SUM_TERMS)];
    const ptrdiff_t a_plane = w->a_plane, sums_plane = w->terms * LANES, width = w->width;
    const ptrdiff_t *offset = w->b_table + term;
    T *sums = (T *)w->sums + plane * sums_plane + term * LANES;
    const V(mask) rest = V(range)(0, width % LANES);

    FC_UNROLL
    for (int i = 0; i < planes; i++)
        FC_UNROLL
        for (int j = 0; j < terms; j++) acc[i][j] = V(zero)();
    for (ptrdiff_t image = 0; image < w->images; image++)
        for (ptrdiff_t row = 0; row < w->rows; row++) {
            const T *a = (const T *)w->a + image * w->a_image + row * w->a_row + plane * a_plane;
            const T *b = (const T *)w->b + image * w->b_image + row * w->b_row;
#define STEP(LOAD)                                                                  \
    VEC left[FC(SUM_PLANES)];                                                       \
    FC_UNROLL                                                                       \
    for (int i = 0; i < planes; i++) left[i] = LOAD(a + i * a_plane);               \
    FC_UNROLL                                                                       \
    for (int j = 0; j < terms; j++) {                                               \
        VEC right = LOAD(b + offset[j]);                                            \
        FC_KEEP(right);                                                             \
        FC_UNROLL                                                                   \
        for (int i = 0; i < planes; i++) acc[i][j] = V(fma)(left[i], right, acc[i][j]); \
    }
#define LOAD_REST(p) V(load_where)(rest, p)
            ptrdiff_t left_over = width;
            for (; left_over >= LANES; left_over -= LANES, a += LANES, b += LANES) {
                if (ahead) {
                    FC_UNROLL
                    for (int i = 0; i < planes; i++) FC_PREFETCH(a + ahead + i * a_plane);
                }
                STEP(V(load))
            }
            if (left_over) {
                STEP(LOAD_REST)
            }
#undef LOAD_REST
#undef STEP
        }
    FC_UNROLL
    for (int i = 0; i < planes; i++)
        FC_UNROLL
        for (int j = 0; j < terms; j++) {
            T *sum = sums + i * sums_plane + j * LANES;
            V(store)(sum, V(add)(V(load)(sum), acc[i][j]));
        }
}

/* The same with a single window of ones: what the planes sum up to, added to what it was before. */
FC_INLINE void FC(sum_planes)(const fc_window_sums *w, ptrdiff_t plane, const int planes)
{
    VEC acc[FC(SUM_PLANES)];
    const ptrdiff_t a_plane = w->a_plane, width = w->width;
    T *own = (T *)w->own + plane * LANES;
    const V(mask) rest = V(range)(0, width % LANES);

    FC_UNROLL
    for (int i = 0; i < planes; i++) acc[i] = V(zero)();
    for (ptrdiff_t image = 0; image < w->images; image++)
        for (ptrdiff_t row = 0; row < w->rows; row++) {
            const T *a = (const T *)w->a + image * w->a_image + row * w->a_row + plane * a_plane;
            ptrdiff_t left_over = width;
            for (; left_over >= LANES; left_over -= LANES, a += LANES) {
                FC_UNROLL
                for (int i = 0; i < planes; i++) acc[i] = V(add)(acc[i], V(load)(a + i * a_plane));
            }
            if (left_over) {
                FC_UNROLL
                for (int i = 0; i < planes; i++) acc[i] = V(add)(acc[i], V(load_where)(rest, a + i * a_plane));
            }
        }
    FC_UNROLL
    for (int i = 0; i < planes; i++) V(store)(own + i * LANES, V(add)(V(load)(own + i * LANES), acc[i]));
}

static void FC(window_sums)(const fc_window_sums *w)
{
    /* Tiles as even as possible: 3 and 3 of 6 planes rather than 4 and 2. */
    ptrdiff_t plane_tiles = (w->planes + FC(SUM_PLANES) - 1) / FC(SUM_PLANES);
    for (ptrdiff_t plane = 0, planes; plane < w->planes; plane += planes) {
        planes = (w->planes - plane) / plane_tiles--;
        ptrdiff_t ahead = plane_tiles ? planes * w->a_plane : 0;
        ptrdiff_t term_tiles = (w->terms + FC(SUM_TERMS) - 1) / FC(SUM_TERMS);
        for (ptrdiff_t term = 0, terms; term < w->terms; term += terms) {
            terms = (w->terms - term) / term_tiles--;
            switch (planes * 8 + terms) {
#define CASE(p, t)                               \
    case p * 8 + t:                              \
        FC(sum_tile)(w, plane, term, p, t, term ? 0 : ahead); \
        break;
                FC_SUM_CASES(CASE)
#undef CASE
            }
        }
        if (w->own)
            switch (planes) {
#define CASE(p)                      \
    case p:                          \
        FC(sum_planes)(w, plane, p); \
        break;
                FC_SUM_PLANES_CASES(CASE)
#undef CASE
            }
    }
}
#undef FC_SUM_CASES
#undef FC_SUM_PLANES_CASES
#undef FC_SUM_TERMS_CASES
