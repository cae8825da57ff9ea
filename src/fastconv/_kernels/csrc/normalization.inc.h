/* Sums and affine maps by channel. Contracts in kernels.h. */

static double FC(sum_row)(const void *x, const void *y, double center, ptrdiff_t count, int kind)
{
    if (kind == FC_SUM_PLAIN) return FC(sum)(x, count);
    if (kind == FC_SUM_PRODUCTS) return FC(sum_of_products)(x, y, (T)center, count);
    return FC(sum_terms)(x, x, (T)center, count, FC_SUM_SQUARES);
}

/* One vector of channels, `size` of them in use. */
FC_INLINE void FC(sum_channels)(double *sums, const T *x, const T *y, const T *center_, ptrdiff_t pixels,
                                ptrdiff_t channels, ptrdiff_t size, const int kind)
{
    const VEC center = kind == FC_SUM_PLAIN ? V(zero)() : FC(load_positions)(center_, size);
    for (ptrdiff_t p = 0; p < pixels;) {
        const ptrdiff_t end = pixels - p < FC(SUM_BLOCK) ? pixels : p + FC(SUM_BLOCK);
        VEC block = V(zero)();
        T lanes[LANES];
        for (; p < end; p++) {
            const VEC a = FC(load_positions)(x + p * channels, size);
            const VEC b = kind == FC_SUM_PRODUCTS ? FC(load_positions)(y + p * channels, size) : a;
            block = FC(plus_term)(block, a, b, center, kind);
        }
        V(store)(lanes, block);
        for (ptrdiff_t c = 0; c < size; c++) sums[c] += lanes[c];
    }
}

FC_INLINE void FC(sum_pixels_of)(double *sums, const T *x, const T *y, const T *center, ptrdiff_t pixels,
                                 ptrdiff_t channels, const int kind)
{
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        FC(sum_channels)(sums + c, x + c, y + c, kind == FC_SUM_PLAIN ? NULL : center + c, pixels, channels, LANES, kind);
    if (c < channels)
        FC(sum_channels)(sums + c, x + c, y + c, kind == FC_SUM_PLAIN ? NULL : center + c, pixels, channels, channels - c, kind);
}

static void FC(sum_pixels)(double *sums, const void *x, const void *y, const void *center, ptrdiff_t pixels,
                           ptrdiff_t channels, int kind)
{
    if (kind == FC_SUM_PLAIN) FC(sum_pixels_of)(sums, x, x, NULL, pixels, channels, FC_SUM_PLAIN);
    else if (kind == FC_SUM_SQUARES) FC(sum_pixels_of)(sums, x, x, center, pixels, channels, FC_SUM_SQUARES);
    else FC(sum_pixels_of)(sums, x, y, center, pixels, channels, FC_SUM_PRODUCTS);
}

typedef struct {
    VEC offset, scale, shift, center, slope;
} FC(affine);

FC_INLINE VEC FC(affine_vector)(const FC(affine) *map, VEC x, VEC y, const int has_y)
{
    VEC sum = V(sub)(x, map->offset);
    if (has_y) sum = V(fma)(V(sub)(y, map->center), map->slope, sum);
    return V(fma)(sum, map->scale, map->shift);
}

FC_INLINE void FC(affine_row)(T *dst_, const T *x_, const T *y_, ptrdiff_t count, const FC(affine) *map, const int has_y)
{
    if (has_y) {
        FC_MAP2(FC(affine_vector)(map, x, y, 1))
    } else {
        FC_MAP(FC(affine_vector)(map, x, x, 0))
    }
}

static void FC(affine_rows)(const fc_affine *job, ptrdiff_t plane, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t row = begin; row < end; row++) {
        const ptrdiff_t c = row % job->channels, at = row * plane;
        FC(affine) map;
        T *dst = (T *)job->dst + at;
        const T *x = (const T *)job->x + at;
        map.offset = V(set1)(((const T *)job->offset)[c]);
        map.scale = V(set1)(((const T *)job->scale)[c]);
        map.shift = V(set1)(((const T *)job->shift)[c]);
        map.center = map.slope = V(zero)();
        if (job->y) {
            map.center = V(set1)(((const T *)job->center)[c]);
            map.slope = V(set1)(((const T *)job->slope)[c]);
            FC(affine_row)(dst, x, (const T *)job->y + at, plane, &map, 1);
        } else {
            FC(affine_row)(dst, x, x, plane, &map, 0);
        }
    }
}

/* `size` channels, from c on, of pixels begin .. end-1. */
FC_INLINE void FC(affine_channels)(const fc_affine *job, ptrdiff_t c, ptrdiff_t size, ptrdiff_t begin, ptrdiff_t end,
                                   const int has_y)
{
    FC(affine) map;
    map.offset = FC(load_positions)((const T *)job->offset + c, size);
    map.scale = FC(load_positions)((const T *)job->scale + c, size);
    map.shift = FC(load_positions)((const T *)job->shift + c, size);
    map.center = map.slope = V(zero)();
    if (has_y) {
        map.center = FC(load_positions)((const T *)job->center + c, size);
        map.slope = FC(load_positions)((const T *)job->slope + c, size);
    }
    for (ptrdiff_t p = begin; p < end; p++) {
        const ptrdiff_t at = p * job->channels + c;
        const VEC x = FC(load_positions)((const T *)job->x + at, size);
        const VEC y = has_y ? FC(load_positions)((const T *)job->y + at, size) : x;
        FC(store_positions)((T *)job->dst + at, FC(affine_vector)(&map, x, y, has_y), size);
    }
}

static void FC(affine_pixels)(const fc_affine *job, ptrdiff_t begin, ptrdiff_t end)
{
    /* Few pixels at a time, so that what the next channels need stays in the cache. */
    const ptrdiff_t block = 4096 / (job->channels < 4096 ? job->channels : 4096);
    for (ptrdiff_t p = begin, until; p < end; p = until) {
        until = end - p < block ? end : p + block;
        ptrdiff_t c = 0;
        for (; c + LANES <= job->channels; c += LANES) {
            if (job->y) FC(affine_channels)(job, c, LANES, p, until, 1);
            else FC(affine_channels)(job, c, LANES, p, until, 0);
        }
        if (c < job->channels) {
            if (job->y) FC(affine_channels)(job, c, job->channels - c, p, until, 1);
            else FC(affine_channels)(job, c, job->channels - c, p, until, 0);
        }
    }
}
