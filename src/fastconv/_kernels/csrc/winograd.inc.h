/* Winograd's F(4x4, 3x3): the transforms of tiles, one channel a vector lane.
 *
 *     y = A^T [ (G g G^T) .* (B^T d B) ] A        d: 6x6 input, g: 3x3 weights, y: 4x4 output
 *
 * and its transposes for the gradients. The matrices belong to the points 0, +-a, +-b and infinity (Lavin
 * and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, have a = 1 and b = 2). With a = 3/4
 * and b = 3/2 the largest error over 512 channels is a quarter of theirs, and A and B are exact in binary.
 *
 * Position (i, j) of a transformed tile is number 6*i + j. Contracts in kernels.h.
 */
#ifndef FC_WINOGRAD_POINTS
#define FC_WINOGRAD_POINTS
enum { FC_POSITIONS = 36, FC_TAPS = 9 };
static const double fc_a = 0.75, fc_a2 = 0.5625, fc_a3 = 0.421875;
static const double fc_b = 1.5, fc_b2 = 2.25, fc_b3 = 3.375;
static const double fc_a2b2 = 1.265625, fc_a2_b2 = 2.8125; /* a^2 b^2, a^2 + b^2 */
/* One over the products of the differences between a point and the others. */
static const double fc_at_0 = 64.0 / 81.0, fc_at_a = -128.0 / 243.0, fc_at_b = 32.0 / 243.0;
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
FC_INLINE void FC(winograd_at)(VEC y[4], const VEC m[6])
{
    const VEC sum_a = V(add)(m[1], m[2]), difference_a = V(sub)(m[1], m[2]);
    const VEC sum_b = V(add)(m[3], m[4]), difference_b = V(sub)(m[3], m[4]);
    y[0] = V(add)(m[0], V(add)(sum_a, sum_b));
    y[1] = V(fma)(C(fc_a), difference_a, V(mul)(C(fc_b), difference_b));
    y[2] = V(fma)(C(fc_a2), sum_a, V(mul)(C(fc_b2), sum_b));
    y[3] = V(fma)(C(fc_a3), difference_a, V(fma)(C(fc_b3), difference_b, m[5]));
}

/* w = A y */
FC_INLINE void FC(winograd_a)(VEC w[6], const VEC y[4])
{
    const VEC even_a = V(fma)(C(fc_a2), y[2], y[0]), odd_a = V(fma)(C(fc_a2), y[3], y[1]);
    const VEC even_b = V(fma)(C(fc_b2), y[2], y[0]), odd_b = V(fma)(C(fc_b2), y[3], y[1]);
    w[0] = y[0];
    w[1] = V(fma)(C(fc_a), odd_a, even_a);
    w[2] = V(fma)(C(-fc_a), odd_a, even_a);
    w[3] = V(fma)(C(fc_b), odd_b, even_b);
    w[4] = V(fma)(C(-fc_b), odd_b, even_b);
    w[5] = y[3];
}

/* u = G g */
FC_INLINE void FC(winograd_g)(VEC u[6], const VEC g[3])
{
    const VEC even_a = V(fma)(C(fc_a2 * fc_at_a), g[2], V(mul)(C(fc_at_a), g[0]));
    const VEC even_b = V(fma)(C(fc_b2 * fc_at_b), g[2], V(mul)(C(fc_at_b), g[0]));
    u[0] = V(mul)(C(fc_at_0), g[0]);
    u[1] = V(fma)(C(fc_a * fc_at_a), g[1], even_a);
    u[2] = V(fma)(C(-fc_a * fc_at_a), g[1], even_a);
    u[3] = V(fma)(C(fc_b * fc_at_b), g[1], even_b);
    u[4] = V(fma)(C(-fc_b * fc_at_b), g[1], even_b);
    u[5] = g[2];
}

/* g = G^T u */
FC_INLINE void FC(winograd_gt)(VEC g[3], const VEC u[6])
{
    const VEC sum_a = V(add)(u[1], u[2]), difference_a = V(sub)(u[1], u[2]);
    const VEC sum_b = V(add)(u[3], u[4]), difference_b = V(sub)(u[3], u[4]);
    g[0] = V(fma)(C(fc_at_0), u[0], V(fma)(C(fc_at_a), sum_a, V(mul)(C(fc_at_b), sum_b)));
    g[1] = V(fma)(C(fc_a * fc_at_a), difference_a, V(mul)(C(fc_b * fc_at_b), difference_b));
    g[2] = V(fma)(C(fc_a2 * fc_at_a), sum_a, V(fma)(C(fc_b2 * fc_at_b), sum_b, u[5]));
}

#undef C

static void FC(prefetch)(const void *src, ptrdiff_t bytes)
{
    const char *line = src;
    for (ptrdiff_t i = 0; i < bytes; i += 64) FC_PREFETCH(line + i);
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
            const ptrdiff_t at = i + LANES <= count ? i : count - LANES; /* the last square overlaps */
            V(transpose)(dst + at * LANES, LANES, src + at, lane_step);
        }
    } else {
        for (ptrdiff_t i = 0; i < count; i++)
            for (ptrdiff_t j = 0; j < LANES; j++)
                dst[i * LANES + j] = j < lanes ? src[i * step + j * lane_step] : 0;
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
    } else {
        for (ptrdiff_t i = 0; i < count; i++)
            for (ptrdiff_t j = 0; j < lanes; j++) dst[i * step + j * lane_step] = src[i * LANES + j];
    }
}

static void FC(winograd_input)(void *v_, ptrdiff_t v_position, ptrdiff_t v_tile, void *x_, ptrdiff_t x_row,
                               ptrdiff_t tiles)
{
    T *v = v_, *x = x_;
    VEC d[6], r[6];
    for (ptrdiff_t column = 0; column < 4 * tiles + 2; column++) {
        T *at = x + column * LANES;
        for (int i = 0; i < 6; i++) d[i] = V(load)(at + i * x_row);
        FC(winograd_bt)(r, d);
        for (int i = 0; i < 6; i++) V(store)(at + i * x_row, r[i]);
    }
    for (ptrdiff_t t = 0; t < tiles; t++)
        for (int i = 0; i < 6; i++) {
            const T *at = x + i * x_row + 4 * t * LANES;
            T *to = v + 6 * i * v_position + t * v_tile;
            for (int j = 0; j < 6; j++) d[j] = V(load)(at + j * LANES);
            FC(winograd_bt)(r, d);
            for (int j = 0; j < 6; j++) V(store)(to + j * v_position, r[j]);
        }
}

static void FC(winograd_output)(void *y_, ptrdiff_t y_row, const void *m_, ptrdiff_t m_position,
                                ptrdiff_t m_tile, ptrdiff_t tiles, const void *bias_, int relu)
{
    T *y = y_;
    const T *m = m_;
    const VEC bias = bias_ ? V(load)(bias_) : V(zero)();
    VEC s[6], r[4], half[4][6];
    for (ptrdiff_t t = 0; t < tiles; t++) {
        for (int j = 0; j < 6; j++) {
            const T *at = m + t * m_tile + j * m_position;
            for (int i = 0; i < 6; i++) s[i] = V(load)(at + 6 * i * m_position);
            FC(winograd_at)(r, s);
            for (int i = 0; i < 4; i++) half[i][j] = r[i];
        }
        for (int i = 0; i < 4; i++) {
            T *to = y + i * y_row + 4 * t * LANES;
            FC(winograd_at)(r, half[i]);
            for (int j = 0; j < 4; j++) {
                r[j] = V(add)(r[j], bias);
                if (relu) r[j] = V(max)(V(zero)(), r[j]);
                V(store)(to + j * LANES, r[j]);
            }
        }
    }
}

static void FC(winograd_grad_output)(void *w_, ptrdiff_t w_position, ptrdiff_t w_tile, void *y_,
                                     ptrdiff_t y_row, ptrdiff_t tiles)
{
    T *w = w_, *y = y_;
    VEC d[6], r[6];
    for (ptrdiff_t column = 0; column < 4 * tiles; column++) {
        T *at = y + column * LANES;
        for (int i = 0; i < 4; i++) d[i] = V(load)(at + i * y_row);
        FC(winograd_a)(r, d);
        for (int i = 0; i < 6; i++) V(store)(at + i * y_row, r[i]);
    }
    for (ptrdiff_t t = 0; t < tiles; t++)
        for (int i = 0; i < 6; i++) {
            const T *at = y + i * y_row + 4 * t * LANES;
            T *to = w + 6 * i * w_position + t * w_tile;
            for (int j = 0; j < 4; j++) d[j] = V(load)(at + j * LANES);
            FC(winograd_a)(r, d);
            for (int j = 0; j < 6; j++) V(store)(to + j * w_position, r[j]);
        }
}

static void FC(winograd_weight)(void *u_, ptrdiff_t u_position, const void *g_, ptrdiff_t column_step,
                                ptrdiff_t depth_step, ptrdiff_t columns, ptrdiff_t depth, int flip)
{
    T *u = u_, taps[2][LANES * FC_TAPS * LANES];
    const T *g = g_;
    const ptrdiff_t run = depth_step == FC_TAPS ? LANES : 1; /* channels whose taps lie in one row */
    VEC s[3], r[6], half[6][3];
    for (ptrdiff_t k = 0; k < depth; k++, u += FC(NR)) {
        if (k % run == 0)
            for (int side = 0; side < 2; side++) {
                const ptrdiff_t first = side * LANES, lanes = columns - first;
                FC(lanes_from)(taps[side], g + first * column_step + k * depth_step, column_step, 1,
                               lanes < 0 ? 0 : lanes < LANES ? lanes : LANES,
                               FC_TAPS * (run < depth - k ? run : depth - k));
            }
        for (int side = 0; side < 2; side++) {
            const T *from = taps[side] + k % run * FC_TAPS * LANES;
            for (int j = 0; j < 3; j++) {
                for (int i = 0; i < 3; i++) {
                    const int tap = 3 * i + j;
                    s[i] = V(load)(from + (flip ? FC_TAPS - 1 - tap : tap) * LANES);
                }
                FC(winograd_g)(r, s);
                for (int i = 0; i < 6; i++) half[i][j] = r[i];
            }
            for (int i = 0; i < 6; i++) {
                T *to = u + 6 * i * u_position + side * LANES;
                FC(winograd_g)(r, half[i]);
                for (int j = 0; j < 6; j++) V(store)(to + j * u_position, r[j]);
            }
        }
    }
}

static void FC(winograd_grad_weight)(void *g_, ptrdiff_t lane_step, const void *s_, ptrdiff_t s_position,
                                     ptrdiff_t lanes)
{
    const T *from = s_;
    T taps[FC_TAPS * LANES];
    VEC s[6], r[3], half[3][6];
    for (int j = 0; j < 6; j++) {
        for (int i = 0; i < 6; i++) s[i] = V(load)(from + (6 * i + j) * s_position);
        FC(winograd_gt)(r, s);
        for (int i = 0; i < 3; i++) half[i][j] = r[i];
    }
    for (int i = 0; i < 3; i++) {
        FC(winograd_gt)(r, half[i]);
        for (int j = 0; j < 3; j++) V(store)(taps + (3 * i + j) * LANES, r[j]);
    }
    FC(lanes_to)(g_, lane_step, 1, taps, lanes, FC_TAPS);
}
