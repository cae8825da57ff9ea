/* Winograd's F(5x5, 2x2), F(4x4, 3x3), F(3x3, 4x4) and F(2x2, 5x5), and F(5, 2) to F(2, 5) along one axis: the
 * transforms of tiles, one channel a vector lane.
 *
 *     y = A^T [ (G g G^T) .* (B^T d B) ] A        d: 6x6 input, g: `side`^2 weights, y: `tile`^2 output
 *
 * with tile = 7 - side, and its transposes for the gradients. A kernel of one row or column has tiles that are
 * lines along it, y = A^T [ (G g) .* (B^T d) ]. The matrices belong to the points 0, +-a, +-b
 * and infinity (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, have a = 1 and
 * b = 2): A and G hold the points' powers, B depends on the points alone. With a = 3/4 and b = 3/2 the largest
 * error over 512 channels is a quarter of theirs, and A and B are exact in binary.
 *
 * Position (i, j) of a transformed tile is number 6*i + j, of a line i. Contracts in kernels.h.
 */
#ifndef FC_WINOGRAD_POINTS
#define FC_WINOGRAD_POINTS
enum { FC_PATCH = 6, FC_MAX_SIDE = 5, FC_MAX_TAPS = 25, FC_MAX_TILE = 5 };
static const double fc_a = 0.75, fc_a2 = 0.5625, fc_a3 = 0.421875, fc_a4 = 0.31640625;
static const double fc_b = 1.5, fc_b2 = 2.25, fc_b3 = 3.375, fc_b4 = 5.0625;
static const double fc_a2b2 = 1.265625, fc_a2_b2 = 2.8125; /* a^2 b^2, a^2 + b^2 */
/* One over the products of the differences between a point and the others. */
static const double fc_at_0 = 64.0 / 81.0, fc_at_a = -128.0 / 243.0, fc_at_b = 32.0 / 243.0;

/* body(..., side) with `side` a constant, so that the compiler unrolls it */
#define FC_FOR_SIDE(side, body, ...) \
    ((side) == 2   ? body(__VA_ARGS__, 2)                                                                            \
     : (side) == 3 ? body(__VA_ARGS__, 3)                                                                            \
     : (side) == 4 ? body(__VA_ARGS__, 4)                                                                            \
                   : body(__VA_ARGS__, 5))

/* Outputs of a tile along a row, for a kernel of so many columns. */
static inline int fc_tile_width(int width)
{
    return width == 1 ? 1 : FC_PATCH + 1 - width;
}

/* Pixels from one tile of a row to the next: `step` of them are interleaved. `number` counts these, from 0 on. */
static inline ptrdiff_t fc_next_tile(ptrdiff_t *number, ptrdiff_t step, int tile)
{
    if (++*number < step) return 1;
    *number = 0;
    return (tile - 1) * step + 1;
}
#endif

#define C(x) V(set1)((T)(x))

/* r = B^T d */
FC_INLINE void FC(winograd_bt)(VEC r[6], const VEC d[6])
{
    const VEC even_a = V(fma)(C(-fc_b2), d[2], d[4]), odd_a = V(fma)(C(-fc_b2), d[1], d[3]);
    const VEC even_b = V(fma)(C(-fc_a2), d[2], d[4]), odd_b = V(fma)(C(-fc_a2), d[1], d[3]);
    r[0] = V(fma)(C(fc_a2b2), d[0], V(fma)(C(-fc_a2_b2), d[2], d[4]));
    r[5] = V(fma)(C(fc_a2b2), d[1], V(fma)(C(-fc_a2_b2), d[3], d[5]));
    r[1] = V(fma)(C(fc_a), odd_a, even_a);
    r[2] = V(fma)(C(-fc_a), odd_a, even_a);
    r[3] = V(fma)(C(fc_b), odd_b, even_b);
    r[4] = V(fma)(C(-fc_b), odd_b, even_b);
}

/* y = A^T m */
FC_INLINE void FC(winograd_at)(VEC *y, const VEC m[6], int side)
{
    const VEC sum_a = V(add)(m[1], m[2]), difference_a = V(sub)(m[1], m[2]);
    const VEC sum_b = V(add)(m[3], m[4]), difference_b = V(sub)(m[3], m[4]);
    y[0] = V(add)(m[0], V(add)(sum_a, sum_b));
    y[1] = V(fma)(C(fc_a), difference_a, V(mul)(C(fc_b), difference_b));
    if (side <= 4) y[2] = V(fma)(C(fc_a2), sum_a, V(mul)(C(fc_b2), sum_b));
    if (side <= 3) y[3] = V(fma)(C(fc_a3), difference_a, V(mul)(C(fc_b3), difference_b));
    if (side == 2) y[4] = V(fma)(C(fc_a4), sum_a, V(mul)(C(fc_b4), sum_b));
    y[6 - side] = V(add)(y[6 - side], m[5]);
}

/* w = A y */
FC_INLINE void FC(winograd_a)(VEC w[6], const VEC *y, int side)
{
    VEC even_a = y[0], odd_a = y[1], even_b = y[0], odd_b = y[1];
    if (side <= 4) even_a = V(fma)(C(fc_a2), y[2], even_a), even_b = V(fma)(C(fc_b2), y[2], even_b);
    if (side <= 3) odd_a = V(fma)(C(fc_a2), y[3], odd_a), odd_b = V(fma)(C(fc_b2), y[3], odd_b);
    if (side == 2) even_a = V(fma)(C(fc_a4), y[4], even_a), even_b = V(fma)(C(fc_b4), y[4], even_b);
    w[0] = y[0];
    w[1] = V(fma)(C(fc_a), odd_a, even_a);
    w[2] = V(fma)(C(-fc_a), odd_a, even_a);
    w[3] = V(fma)(C(fc_b), odd_b, even_b);
    w[4] = V(fma)(C(-fc_b), odd_b, even_b);
    w[5] = y[6 - side];
}

/* u = G g */
FC_INLINE void FC(winograd_g)(VEC u[6], const VEC *g, int side)
{
    VEC even_a = V(mul)(C(fc_at_a), g[0]), odd_a = V(mul)(C(fc_a * fc_at_a), g[1]);
    VEC even_b = V(mul)(C(fc_at_b), g[0]), odd_b = V(mul)(C(fc_b * fc_at_b), g[1]);
    if (side >= 3) {
        even_a = V(fma)(C(fc_a2 * fc_at_a), g[2], even_a);
        even_b = V(fma)(C(fc_b2 * fc_at_b), g[2], even_b);
    }
    if (side >= 4) {
        odd_a = V(fma)(C(fc_a3 * fc_at_a), g[3], odd_a);
        odd_b = V(fma)(C(fc_b3 * fc_at_b), g[3], odd_b);
    }
    if (side == 5) {
        even_a = V(fma)(C(fc_a4 * fc_at_a), g[4], even_a);
        even_b = V(fma)(C(fc_b4 * fc_at_b), g[4], even_b);
    }
    u[0] = V(mul)(C(fc_at_0), g[0]);
    u[1] = V(add)(even_a, odd_a);
    u[2] = V(sub)(even_a, odd_a);
    u[3] = V(add)(even_b, odd_b);
    u[4] = V(sub)(even_b, odd_b);
    u[5] = g[side - 1];
}

/* g = G^T u */
FC_INLINE void FC(winograd_gt)(VEC *g, const VEC u[6], int side)
{
    const VEC sum_a = V(add)(u[1], u[2]), difference_a = V(sub)(u[1], u[2]);
    const VEC sum_b = V(add)(u[3], u[4]), difference_b = V(sub)(u[3], u[4]);
    g[0] = V(fma)(C(fc_at_0), u[0], V(fma)(C(fc_at_a), sum_a, V(mul)(C(fc_at_b), sum_b)));
    g[1] = V(fma)(C(fc_a * fc_at_a), difference_a, V(mul)(C(fc_b * fc_at_b), difference_b));
    if (side >= 3) g[2] = V(fma)(C(fc_a2 * fc_at_a), sum_a, V(mul)(C(fc_b2 * fc_at_b), sum_b));
    if (side >= 4) g[3] = V(fma)(C(fc_a3 * fc_at_a), difference_a, V(mul)(C(fc_b3 * fc_at_b), difference_b));
    if (side == 5) g[4] = V(fma)(C(fc_a4 * fc_at_a), sum_a, V(mul)(C(fc_b4 * fc_at_b), sum_b));
    g[side - 1] = V(add)(g[side - 1], u[5]);
}

#undef C

/* lanes_from of fewer channels than lanes, from rows of LANES pixels or more. */
FC_NOINLINE void FC(some_lanes_from)(T *dst, const T *src, ptrdiff_t lane_step, ptrdiff_t lanes, ptrdiff_t count)
{
    T square[LANES * LANES] = {0};
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        const ptrdiff_t at = i + LANES <= count ? i : count - LANES; /* the last square overlaps */
        for (ptrdiff_t j = 0; j < lanes; j++) V(store)(square + j * LANES, V(load)(src + at + j * lane_step));
        V(transpose)(dst + at * LANES, LANES, square, LANES);
    }
}

static void FC(lanes_from)(void *dst_, const void *src_, ptrdiff_t lane_step, ptrdiff_t step, ptrdiff_t lanes,
                           ptrdiff_t count)
{
    T *dst = dst_;
    const T *src = src_;
    if (lanes == LANES && lane_step == 1) {
        for (ptrdiff_t i = 0; i < count; i++) V(store)(dst + i * LANES, V(load)(src + i * step));
    } else if (lanes == LANES && step == 1 && count >= LANES) {
        for (ptrdiff_t i = 0; i < count; i += LANES) {
            const ptrdiff_t at = i + LANES <= count ? i : count - LANES;
            V(transpose)(dst + at * LANES, LANES, src + at, lane_step);
        }
    } else if (step == 1 && count >= LANES) {
        FC(some_lanes_from)(dst, src, lane_step, lanes, count);
    } else if (lanes == LANES && step == 1) {
        FC(transpose_part)(dst, LANES, src, lane_step, LANES, count);
    } else {
        for (ptrdiff_t i = 0; i < count; i++)
            for (ptrdiff_t j = 0; j < LANES; j++)
                dst[i * LANES + j] = j < lanes ? src[i * step + j * lane_step] : 0;
    }
}

/* lanes_to, likewise. */
FC_NOINLINE void FC(some_lanes_to)(T *dst, ptrdiff_t lane_step, const T *src, ptrdiff_t lanes, ptrdiff_t count)
{
    T square[LANES * LANES];
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        const ptrdiff_t at = i + LANES <= count ? i : count - LANES;
        V(transpose)(square, LANES, src + at * LANES, LANES);
        for (ptrdiff_t j = 0; j < lanes; j++) V(store)(dst + at + j * lane_step, V(load)(square + j * LANES));
    }
}

static void FC(lanes_to)(void *dst_, ptrdiff_t lane_step, ptrdiff_t step, const void *src_, ptrdiff_t lanes,
                         ptrdiff_t count)
{
    T *dst = dst_;
    const T *src = src_;
    if (lanes == LANES && lane_step == 1) {
        for (ptrdiff_t i = 0; i < count; i++) V(store)(dst + i * step, V(load)(src + i * LANES));
    } else if (lanes == LANES && step == 1 && count >= LANES) {
        for (ptrdiff_t i = 0; i < count; i += LANES) {
            const ptrdiff_t at = i + LANES <= count ? i : count - LANES;
            V(transpose)(dst + at, lane_step, src + at * LANES, LANES);
        }
    } else if (step == 1 && count >= LANES) {
        FC(some_lanes_to)(dst, lane_step, src, lanes, count);
    } else if (lanes == LANES && step == 1) {
        FC(transpose_part)(dst, lane_step, src, LANES, count, LANES);
    } else {
        for (ptrdiff_t i = 0; i < count; i++)
            for (ptrdiff_t j = 0; j < lanes; j++) dst[i * step + j * lane_step] = src[i * LANES + j];
    }
}

/* v = B^T d of one line, whose pixels are x_step apart. */
FC_INLINE void FC(winograd_input_line)(T *v, ptrdiff_t v_position, const T *x, ptrdiff_t x_step)
{
    VEC d[6], r[6];
    for (int i = 0; i < 6; i++) d[i] = V(load)(x + i * x_step);
    FC(winograd_bt)(r, d);
    for (int i = 0; i < 6; i++) V(store)(v + i * v_position, r[i]);
}

static void FC(winograd_input)(void *v_, ptrdiff_t v_position, ptrdiff_t v_tile, void *x_, ptrdiff_t x_row,
                               ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t step, int height, int width)
{
    const int tile = fc_tile_width(width), lines = height == width ? 6 : 1;
    T *v = v_, *x = x_;
    ptrdiff_t number = 0;
    if (height == width)
        for (ptrdiff_t j = 0; j < columns; j++)
            FC(winograd_input_line)(x + j * LANES, x_row, x + j * LANES, x_row);
    for (ptrdiff_t t = 0; t < tiles; t++, v += v_tile, x += fc_next_tile(&number, step, tile) * LANES)
        for (int i = 0; i < lines; i++)
            FC(winograd_input_line)(v + 6 * i * v_position, v_position, x + i * x_row,
                                    width == 1 ? x_row : step * LANES);
}

FC_INLINE void FC(winograd_store)(T *to, VEC result, VEC bias, int relu)
{
    result = V(add)(result, bias);
    V(store)(to, relu ? V(max)(V(zero)(), result) : result);
}

/* The largest of a line of a tile's products and those before: of 0, 1 and the last one, since each pixel has its part
 * in one of these. */
FC_INLINE VEC FC(larger_product)(VEC largest, const VEC s[6])
{
    return V(max)(V(abs)(s[0]), V(max)(V(abs)(s[1]), V(max)(V(abs)(s[5]), largest)));
}

/* Every position of m enters one of the four corners of y at least, so they tell whether all are finite: the
 * sum of 0 times each of them is NaN, or it is 0. */
FC_INLINE VEC FC(winograd_output_plane)(T *y, ptrdiff_t y_row, const T *m, ptrdiff_t m_position, ptrdiff_t m_tile,
                                        ptrdiff_t tiles, ptrdiff_t step, VEC bias, int relu, T *largest, int side)
{
    const int tile = FC_PATCH + 1 - side;
    const VEC zero = V(zero)();
    VEC s[6], r[FC_MAX_TILE], half[FC_MAX_TILE][6], corners = zero;
    VEC product = V(load)(largest);
    ptrdiff_t number = 0;
    for (ptrdiff_t t = 0; t < tiles; t++, m += m_tile, y += fc_next_tile(&number, step, tile) * LANES) {
        for (int j = 0; j < 6; j++) {
            const T *at = m + j * m_position;
            for (int i = 0; i < 6; i++) s[i] = V(load)(at + 6 * i * m_position);
            if (j <= 1 || j == 5) product = FC(larger_product)(product, s);
            FC(winograd_at)(r, s, side);
            for (int i = 0; i < tile; i++) half[i][j] = r[i];
        }
        for (int i = 0; i < tile; i++) {
            T *to = y + i * y_row;
            FC(winograd_at)(r, half[i], side);
            if (i == 0 || i == tile - 1)
                corners = V(fma)(zero, r[0], V(fma)(zero, r[tile - 1], corners));
            for (int j = 0; j < tile; j++) FC(winograd_store)(to + j * step * LANES, r[j], bias, relu);
        }
    }
    V(store)(largest, product);
    return corners;
}

/* Here its two ends tell. */
FC_INLINE VEC FC(winograd_output_line)(T *y, ptrdiff_t y_row, const T *m, ptrdiff_t m_position, ptrdiff_t m_tile,
                                       ptrdiff_t tiles, ptrdiff_t step, VEC bias, int relu, int width, T *largest,
                                       int side)
{
    const int tile = FC_PATCH + 1 - side;
    const ptrdiff_t y_step = width == 1 ? y_row : step * LANES;
    const VEC zero = V(zero)();
    VEC s[6], r[FC_MAX_TILE], ends = zero, product = V(load)(largest);
    ptrdiff_t number = 0;
    for (ptrdiff_t t = 0; t < tiles;
         t++, m += m_tile, y += fc_next_tile(&number, step, fc_tile_width(width)) * LANES) {
        for (int i = 0; i < 6; i++) s[i] = V(load)(m + i * m_position);
        product = FC(larger_product)(product, s);
        FC(winograd_at)(r, s, side);
        ends = V(fma)(zero, r[0], V(fma)(zero, r[tile - 1], ends));
        for (int i = 0; i < tile; i++) FC(winograd_store)(y + i * y_step, r[i], bias, relu);
    }
    V(store)(largest, product);
    return ends;
}

static int FC(winograd_output)(void *y, ptrdiff_t y_row, const void *m, ptrdiff_t m_position, ptrdiff_t m_tile,
                               ptrdiff_t tiles, ptrdiff_t step, const void *bias_, int relu, void *largest,
                               int height, int width)
{
    const VEC bias = bias_ ? V(load)(bias_) : V(zero)();
    if (height == width)
        return FC(all_zero)(FC_FOR_SIDE(width, FC(winograd_output_plane), y, y_row, m, m_position, m_tile, tiles,
                                        step, bias, relu, largest));
    return FC(all_zero)(FC_FOR_SIDE(height * width, FC(winograd_output_line), y, y_row, m, m_position, m_tile, tiles,
                                    step, bias, relu, width, largest));
}

/* w = A y of one line, whose pixels are y_step apart. */
FC_INLINE void FC(winograd_grad_output_line)(T *w, ptrdiff_t w_position, const T *y, ptrdiff_t y_step, int side)
{
    VEC d[FC_MAX_TILE], r[6];
    for (int i = 0; i < FC_PATCH + 1 - side; i++) d[i] = V(load)(y + i * y_step);
    FC(winograd_a)(r, d, side);
    for (int i = 0; i < 6; i++) V(store)(w + i * w_position, r[i]);
}

FC_INLINE void FC(winograd_grad_output_of)(T *w, ptrdiff_t w_position, ptrdiff_t w_tile, T *y, ptrdiff_t y_row,
                                           ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t step, int height, int width,
                                           int side)
{
    const int tile = fc_tile_width(width), lines = height == width ? 6 : 1;
    ptrdiff_t number = 0;
    if (height == width)
        for (ptrdiff_t j = 0; j < columns; j++)
            FC(winograd_grad_output_line)(y + j * LANES, y_row, y + j * LANES, y_row, side);
    for (ptrdiff_t t = 0; t < tiles; t++, w += w_tile, y += fc_next_tile(&number, step, tile) * LANES)
        for (int i = 0; i < lines; i++)
            FC(winograd_grad_output_line)(w + 6 * i * w_position, w_position, y + i * y_row,
                                          width == 1 ? y_row : step * LANES, side);
}

static void FC(winograd_grad_output)(void *w, ptrdiff_t w_position, ptrdiff_t w_tile, void *y, ptrdiff_t y_row,
                                     ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t step, int height, int width)
{
    FC_FOR_SIDE(height > width ? height : width, FC(winograd_grad_output_of), w, w_position, w_tile, y, y_row, columns,
                tiles, step, height, width);
}

/* u = G g G^T, or G g of one row. */
FC_INLINE void FC(winograd_weight_of)(T *u, ptrdiff_t u_position, const T *g, ptrdiff_t column_step,
                                      ptrdiff_t depth_step, ptrdiff_t columns, ptrdiff_t depth, int flip, int plane,
                                      int side)
{
    const int rows = plane ? side : 1, count = rows * side;
    const ptrdiff_t run = depth_step == count ? LANES : 1; /* channels whose taps lie in one row */
    T taps[2][LANES * FC_MAX_TAPS * LANES];
    VEC s[FC_MAX_SIDE], r[6], half[6][FC_MAX_SIDE];
    for (ptrdiff_t k = 0; k < depth; k++, u += FC(NR)) {
        if (k % run == 0)
            for (int half_panel = 0; half_panel < 2; half_panel++) {
                const ptrdiff_t first = half_panel * LANES, lanes = columns - first;
                FC(lanes_from)(taps[half_panel], g + first * column_step + k * depth_step, column_step, 1,
                               lanes < 0 ? 0 : lanes < LANES ? lanes : LANES,
                               count * (run < depth - k ? run : depth - k));
            }
        for (int half_panel = 0; half_panel < 2; half_panel++) {
            const T *from = taps[half_panel] + k % run * count * LANES;
            for (int j = 0; j < side; j++) {
                for (int i = 0; i < rows; i++) {
                    const int tap = side * i + j;
                    s[i] = V(load)(from + (flip ? count - 1 - tap : tap) * LANES);
                }
                if (plane) FC(winograd_g)(r, s, side);
                for (int i = 0; i < (plane ? 6 : 1); i++) half[i][j] = plane ? r[i] : s[i];
            }
            for (int i = 0; i < (plane ? 6 : 1); i++) {
                T *to = u + 6 * i * u_position + half_panel * LANES;
                FC(winograd_g)(r, half[i], side);
                for (int j = 0; j < 6; j++) V(store)(to + j * u_position, r[j]);
            }
        }
    }
}

static void FC(winograd_weight)(void *u, ptrdiff_t u_position, const void *g, ptrdiff_t column_step,
                                ptrdiff_t depth_step, ptrdiff_t columns, ptrdiff_t depth, int flip, int height,
                                int width)
{
    if (height == width)
        FC_FOR_SIDE(width, FC(winograd_weight_of), u, u_position, g, column_step, depth_step, columns, depth, flip, 1);
    else
        FC_FOR_SIDE(height * width, FC(winograd_weight_of), u, u_position, g, column_step, depth_step, columns, depth,
                    flip, 0);
}

/* g = G^T s G, or G^T s for one row. */
FC_INLINE void FC(winograd_grad_weight_of)(T *g, ptrdiff_t lane_step, const T *from, ptrdiff_t s_position,
                                           ptrdiff_t lanes, T *largest, int plane, int side)
{
    const int rows = plane ? side : 1;
    T taps[FC_MAX_TAPS * LANES];
    VEC s[6], r[FC_MAX_SIDE], half[FC_MAX_SIDE][6], product = V(load)(largest);
    for (int j = 0; j < 6; j++) {
        for (int i = 0; i < (plane ? 6 : 1); i++) s[i] = V(load)(from + (6 * i + j) * s_position);
        if (j <= 1 || j == 5) product = plane ? FC(larger_product)(product, s) : V(max)(V(abs)(s[0]), product);
        if (plane) FC(winograd_gt)(r, s, side);
        for (int i = 0; i < rows; i++) half[i][j] = plane ? r[i] : s[i];
    }
    for (int i = 0; i < rows; i++) {
        FC(winograd_gt)(r, half[i], side);
        for (int j = 0; j < side; j++) V(store)(taps + (side * i + j) * LANES, r[j]);
    }
    V(store)(largest, product);
    FC(lanes_to)(g, lane_step, 1, taps, lanes, rows * side);
}

static void FC(winograd_grad_weight)(void *g, ptrdiff_t lane_step, const void *s, ptrdiff_t s_position,
                                     ptrdiff_t lanes, void *largest, int height, int width)
{
    if (height == width)
        FC_FOR_SIDE(width, FC(winograd_grad_weight_of), g, lane_step, s, s_position, lanes, largest, 1);
    else FC_FOR_SIDE(height * width, FC(winograd_grad_weight_of), g, lane_step, s, s_position, lanes, largest, 0);
}
