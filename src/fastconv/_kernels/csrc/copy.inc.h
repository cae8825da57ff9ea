/* Moving elements: transposes, gathers, sums of rows. Contracts in kernels.h. */

/* A part of a square, of 1 .. LANES rows and columns. */
static void FC(transpose_part)(T *dst, ptrdiff_t dst_row, const T *src, ptrdiff_t src_row, ptrdiff_t rows,
                               ptrdiff_t columns)
{
    T square[LANES * LANES], turned[LANES * LANES];
    const V(mask) some = V(range)(0, columns);
    for (ptrdiff_t i = 0; i < rows; i++) V(store)(square + i * LANES, V(load_where)(some, src + i * src_row));
    for (ptrdiff_t i = rows; i < LANES; i++) V(store)(square + i * LANES, V(zero)());
    V(transpose)(turned, LANES, square, LANES);
    for (ptrdiff_t j = 0; j < columns; j++) {
        if (rows == LANES) V(store)(dst + j * dst_row, V(load)(turned + j * LANES));
        else V(store_first)(dst + j * dst_row, V(load)(turned + j * LANES), rows);
    }
}

/* Of `count` rows of less than a vector that follow each other, those whose vectors end before the last row does: what
 * they hold too much is written again. */
FC_INLINE ptrdiff_t FC(rewritten)(ptrdiff_t count, ptrdiff_t row)
{
    return count - (LANES + row - 1) / row + 1;
}

/* The first columns so, since masked stores take several times as long; returns how many. */
FC_INLINE ptrdiff_t FC(transpose_rewriting)(T *dst, const T *src, ptrdiff_t src_row, ptrdiff_t rows, ptrdiff_t columns)
{
    T square[LANES * LANES] = {0};
    const ptrdiff_t end = FC(rewritten)(columns, rows) - LANES;
    ptrdiff_t j = 0;
    for (; j <= end; j += LANES) {
        for (ptrdiff_t i = 0; i < rows; i++) V(store)(square + i * LANES, V(load)(src + i * src_row + j));
        V(transpose)(dst + j * rows, rows, square, LANES);
    }
    return j;
}

static void FC(transpose)(void *dst_, ptrdiff_t dst_row, const void *src_, ptrdiff_t src_row, ptrdiff_t rows,
                          ptrdiff_t columns)
{
    T *dst = dst_;
    const T *src = src_;
    if (rows < LANES && rows == dst_row && rows > 0) {
        const ptrdiff_t done = FC(transpose_rewriting)(dst, src, src_row, rows, columns);
        dst += done * rows, src += done, columns -= done;
    }
    const ptrdiff_t ahead = dst_row >= FC_FAR ? 128 / (ptrdiff_t)sizeof(T) : 0;
    /* The last squares reach back over the ones before: that costs less than a part of a square. */
    for (ptrdiff_t i = 0; i < rows; i += LANES) {
        if (i + LANES > rows && rows >= LANES) i = rows - LANES;
        for (ptrdiff_t j = 0; j < columns; j += LANES) {
            if (j + LANES > columns && columns >= LANES) j = columns - LANES;
            const ptrdiff_t height = rows - i < LANES ? rows - i : LANES;
            const ptrdiff_t width = columns - j < LANES ? columns - j : LANES;
            T *to = dst + j * dst_row + i;
            const T *from = src + i * src_row + j;
            if (ahead)
                for (ptrdiff_t k = 0; k < width; k++) FC_PREFETCH_WRITE(to + k * dst_row + ahead);
            if (height == LANES && width == LANES) V(transpose)(to, dst_row, from, src_row);
            else FC(transpose_part)(to, dst_row, from, src_row, height, width);
        }
    }
}

FC_INLINE void FC(copy_row)(T *dst, const T *src, ptrdiff_t count)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES) V(store)(dst + i, V(load)(src + i));
    for (; i < count; i++) dst[i] = src[i];
}

/* Every step-th element from the first on, for a step of 1 to 4; of the step vectors that hold them those lanes
 * are read that are in `some`: all, if it is NULL. */
FC_INLINE VEC FC(every)(const T *from, const int step, const V(mask) *some)
{
    VEC part[4];
    FC_UNROLL
    for (int j = 0; j < step; j++)
        part[j] = some ? V(load_where)(some[j], from + j * LANES) : V(load)(from + j * LANES);
    if (step == 1) return part[0];
    if (step == 3) return V(every_third)(part[0], part[1], part[2]);
    VEC low = V(even)(part[0], part[1]);
    return step == 2 ? low : V(even)(low, V(even)(part[2], part[3]));
}

/* The lanes for `every` that hold so many elements, and not what is behind the last of them. */
FC_INLINE void FC(lanes_of)(V(mask) *some, const int step, ptrdiff_t count)
{
    FC_UNROLL
    for (int j = 0; j < step; j++) some[j] = V(range)(0, step * (count - 1) + 1 - j * LANES);
}

static void FC(gather)(void *dst_, const void *src_, ptrdiff_t step, ptrdiff_t count)
{
    T *dst = dst_;
    const T *src = src_;
    if (step == 1) {
        FC(copy_row)(dst, src, count);
        return;
    }
    ptrdiff_t i = 0;
    /* But for the last vector, whose elements are followed by what isn't src's. */
    if (step == 2)
        for (; i + LANES < count; i += LANES) V(store)(dst + i, FC(every)(src + 2 * i, 2, NULL));
    if (step == 3)
        for (; i + LANES < count; i += LANES) V(store)(dst + i, FC(every)(src + 3 * i, 3, NULL));
    if (step == 4)
        for (; i + LANES < count; i += LANES) V(store)(dst + i, FC(every)(src + 4 * i, 4, NULL));
    for (; i < count; i++) dst[i] = src[i * step];
}

static void FC(scatter)(void *dst_, ptrdiff_t step, const void *src_, ptrdiff_t count)
{
    T *dst = dst_;
    const T *src = src_;
    if (step == 1) {
        FC(copy_row)(dst, src, count);
        return;
    }
    ptrdiff_t i = 0;
#ifdef FC_STORES_APART
    if (step == 2)
        for (; i < count; i += LANES) {
            const ptrdiff_t some = count - i < LANES ? count - i : LANES;
            V(store_apart)(dst + 2 * i, V(load_where)(V(range)(0, some), src + i), some);
        }
#endif
    for (; i < count; i++) dst[i * step] = src[i];
}

/* A tile's row, or its part in a row of an image: the second vector overlaps the first in a part. What is read of a
 * vector's part has zeros behind it. */
FC_INLINE void FC(gather_parts)(T *dst, ptrdiff_t dst_row, const T *src, const ptrdiff_t *table, const int step,
                                ptrdiff_t depth, ptrdiff_t count, ptrdiff_t room)
{
    const ptrdiff_t last = count - LANES;
    V(mask) some[4];
    FC(lanes_of)(some, step, last < 0 ? count : LANES);
    for (ptrdiff_t k = 0; k < depth; k++, dst += dst_row) {
        const T *from = src + table[k];
        if (last < 0) {
            const VEC part = FC(every)(from, step, some);
            if (room >= LANES) V(store)(dst, part);
            else V(store_first)(dst, part, count);
            continue;
        }
        VEC left = FC(every)(from, step, step > 1 ? some : NULL);
        VEC right = FC(every)(from + step * last, step, step > 1 ? some : NULL);
        V(store)(dst, left);
        V(store)(dst + last, right);
    }
}

static void FC(gather_rows)(void *dst_, ptrdiff_t dst_row, const void *src_, const ptrdiff_t *table, ptrdiff_t step,
                            ptrdiff_t depth, ptrdiff_t count, ptrdiff_t room)
{
    T *dst = dst_;
    const T *src = src_;
    if (count <= 2 * LANES) {
        switch (step) {
        case 1: FC(gather_parts)(dst, dst_row, src, table, 1, depth, count, room); return;
        case 2: FC(gather_parts)(dst, dst_row, src, table, 2, depth, count, room); return;
        case 3: FC(gather_parts)(dst, dst_row, src, table, 3, depth, count, room); return;
        case 4: FC(gather_parts)(dst, dst_row, src, table, 4, depth, count, room); return;
        }
    }
    for (ptrdiff_t k = 0; k < depth; k++, dst += dst_row) {
        const T *from = src + table[k];
        for (ptrdiff_t i = 0; i < count; i++) dst[i] = from[i * step];
    }
}

/* Whole vectors, each over what the one before wrote too much: short rows are not worth calls. */
FC_INLINE void FC(pad_wide)(T *dst, ptrdiff_t dst_row, const T *src, ptrdiff_t src_row, ptrdiff_t rows,
                            ptrdiff_t left, ptrdiff_t columns, ptrdiff_t right, const int step)
{
    const ptrdiff_t end = left + columns + right - LANES, last = columns - LANES;
    V(mask) some[4];
    FC(lanes_of)(some, step, LANES);
    for (ptrdiff_t k = 0; k < rows; k++, dst += dst_row, src += src_row) {
        V(store)(dst, V(zero)());
        V(store)(dst + end, V(zero)());
        for (ptrdiff_t i = 0; i < last; i += LANES)
            V(store)(dst + left + i, FC(every)(src + step * i, step, NULL));
        V(store)(dst + left + last, FC(every)(src + step * last, step, step > 1 ? some : NULL));
    }
}

static void FC(pad_rows)(void *dst_, ptrdiff_t dst_row, const void *src_, ptrdiff_t src_row, ptrdiff_t rows,
                         ptrdiff_t left, ptrdiff_t columns, ptrdiff_t right, ptrdiff_t step)
{
    T *dst = dst_;
    const T *src = src_;
    if (step == 1 && columns < LANES && left == 0 && right == 0) {
        const V(mask) some = V(range)(0, columns);
        const int dense = columns == dst_row && columns > 0 && src_row >= LANES;
        const ptrdiff_t whole = dense ? FC(rewritten)(rows, columns) : 0;
        ptrdiff_t k = 0;
        for (; k < whole; k++, dst += dst_row, src += src_row) V(store)(dst, V(load)(src));
        for (; k < rows; k++, dst += dst_row, src += src_row)
            V(store_first)(dst, V(load_where)(some, src), columns);
        return;
    }
    if (columns >= LANES && left <= LANES && right <= LANES) {
        switch (step) {
        case 1: FC(pad_wide)(dst, dst_row, src, src_row, rows, left, columns, right, 1); return;
        case 2: FC(pad_wide)(dst, dst_row, src, src_row, rows, left, columns, right, 2); return;
        case 3: FC(pad_wide)(dst, dst_row, src, src_row, rows, left, columns, right, 3); return;
        case 4: FC(pad_wide)(dst, dst_row, src, src_row, rows, left, columns, right, 4); return;
        }
    }
    for (ptrdiff_t k = 0; k < rows; k++, dst += dst_row, src += src_row) {
        memset(dst, 0, (size_t)left * sizeof(T));
        FC(gather)(dst + left, src, step, columns);
        memset(dst + left + columns, 0, (size_t)right * sizeof(T));
    }
}

static void FC(add)(void *dst_, const void *src_, ptrdiff_t count)
{
    T *dst = dst_;
    const T *src = src_;
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES) V(store)(dst + i, V(add)(V(load)(dst + i), V(load)(src + i)));
    for (; i < count; i++) dst[i] += src[i];
}

static void FC(scatter_add)(void *dst_, ptrdiff_t step, const void *src_, ptrdiff_t count)
{
    T *dst = dst_;
    const T *src = src_;
    if (step == 1) {
        FC(add)(dst, src, count);
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++) dst[i * step] += src[i];
}

/* Eight vectors of partial sums, folded pairwise: the error grows with count / (8 * LANES). */
static void FC(add_sum)(void *dst_, const void *src_, ptrdiff_t count)
{
    const T *src = src_;
    VEC acc[8];
    T lanes[LANES], total = 0;
    ptrdiff_t i = 0;
    for (int j = 0; j < 8; j++) acc[j] = V(zero)();
    for (; i + 8 * LANES <= count; i += 8 * LANES)
        for (int j = 0; j < 8; j++) acc[j] = V(add)(acc[j], V(load)(src + i + j * LANES));
    for (; i + LANES <= count; i += LANES) acc[0] = V(add)(acc[0], V(load)(src + i));
    for (; i < count; i++) total += src[i];
    for (int width = 4; width > 0; width /= 2)
        for (int j = 0; j < width; j++) acc[j] = V(add)(acc[j], acc[j + width]);
    V(store)(lanes, acc[0]);
    for (int j = 0; j < LANES; j++) total += lanes[j];
    *(T *)dst_ += total;
}
