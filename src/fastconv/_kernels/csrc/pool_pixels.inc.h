/* Pooling of images whose channels come last: a vector holds channels, and a window is reduced tap by tap. */
/* The next `vectors` vectors of channels of one window. */
FC_INLINE void FC(reduce_window)(const fc_pool *pool, T *out, int64_t *indices, const T *src, ptrdiff_t rows,
                                 ptrdiff_t columns, const T *row_divisor, const T *column_divisor, int64_t base,
                                 const T *x_end, const T *out_end, const int64_t *indices_end, const int op,
                                 const int vectors, const int inside)
{
    const ptrdiff_t down = pool->row_step * pool->width, across = pool->column_step;
    FC(candidate) best[4], next;
    FC_UNROLL
    for (int v = 0; v < vectors; v++) {
        best[v].value = best[v].position = V(zero)();
        if (op == FC_MAX || op == FC_ARGMAX)
            best[v].value = inside ? V(load)(src + v * LANES) : FC(load_before)(src, x_end);
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        /* Rows are summed one by one, so that the error grows with rows + columns. */
        FC(candidate) part[4];
        FC_UNROLL
        for (int v = 0; v < vectors; v++) part[v].value = part[v].position = V(zero)();
        for (ptrdiff_t c = 0; c < columns; c++) {
            const T *p = src + (r * down + c * across) * pool->channels;
            next.position = V(set1)((T)(r * down + c * across));
            VEC divisor = op == FC_SHARE ? V(set1)(row_divisor[r] * column_divisor[c]) : V(zero)();
            FC_UNROLL
            for (int v = 0; v < vectors; v++) {
                next.value = inside ? V(load)(p + v * LANES) : FC(load_before)(p, x_end);
                if (op == FC_SHARE) next.value = V(div)(next.value, divisor);
                if (op == FC_MAX || op == FC_ARGMAX) best[v] = FC(reduce)(best[v], next, op, 1);
                else part[v] = FC(reduce)(part[v], next, op, 1);
            }
        }
        FC_UNROLL
        for (int v = 0; v < vectors; v++)
            if (op != FC_MAX && op != FC_ARGMAX) best[v] = FC(reduce)(best[v], part[v], op, 1);
    }
    FC_UNROLL
    for (int v = 0; v < vectors; v++) {
        if (op == FC_SUM || op == FC_SHARE_EVENLY)
            best[v].value = V(div)(best[v].value, V(set1)(row_divisor[0] * column_divisor[0]));
        FC(store_before)(out + v * LANES, best[v].value, out_end);
        if (op == FC_ARGMAX) FC(store_index_before)(indices + v * LANES, best[v].position, base, indices_end);
    }
}

/* Output rows begin .. end-1 of images whose channels come last. */
FC_INLINE void FC(pool_pixels)(const fc_pool *pool, const T *x, T *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                               const int op)
{
    const ptrdiff_t channels = pool->channels, row_elements = pool->out_w * channels;
    const T *x_end = x + pool->images * pool->height * pool->width * channels, *out_end = out + end * row_elements;
    const int64_t *indices_end = op == FC_ARGMAX ? indices + end * row_elements : NULL;
    const T *row_divisor = pool->row_divisor, *column_divisor = pool->column_divisor;

    for (ptrdiff_t row = begin; row < end; row++) {
        const ptrdiff_t o = row % pool->out_h, top = pool->row_first[o], rows = pool->row_count[o];
        const T *band = x + (row / pool->out_h * pool->height + top) * pool->width * channels;
        for (ptrdiff_t j = 0; j < pool->out_w; j++) {
            const ptrdiff_t left = pool->column_first[j], columns = pool->column_count[j];
            const ptrdiff_t at = row * row_elements + j * channels;
            const T *src = band + left * channels;
            const T *last = src + ((rows - 1) * pool->row_step * pool->width + (columns - 1) * pool->column_step) * channels;
            const T *rd = row_divisor + (op == FC_SUM ? o : op == FC_SHARE ? top : 0);
            const T *cd = column_divisor + (op == FC_SUM ? j : op == FC_SHARE ? left : 0);
            const int64_t base = (int64_t)top * pool->width + left;
#define WINDOW(vectors, inside)                                                                              \
    FC(reduce_window)(pool, out + at + c, op == FC_ARGMAX ? indices + at + c : NULL, src + c, rows, columns, rd, cd, \
                      base, x_end, out_end, indices_end, op, vectors, inside)
            ptrdiff_t c = 0;
            for (; c + 4 * LANES <= channels; c += 4 * LANES) WINDOW(4, 1);
            for (; c < channels; c += LANES)
                if (x_end - last - c >= LANES) WINDOW(1, 1);
                else WINDOW(1, 0);
#undef WINDOW
        }
    }
}
