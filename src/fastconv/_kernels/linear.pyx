"""The products of a fully connected layer, whatever the sizes.

A block of the result is computed by one thread, DEPTH terms of its sums at a time, from copies of the blocks
of both operands that stay in cache. Small batches would pay more for such copies than for the product: they
read the weight as it lies, once, by dot products or by sums of its rows. A sum's order depends on the sizes
of the operands alone, never on blocks or threads.

Workspace: for each thread, at most the blocks of ROW_TILES and COLUMN_TILES tiles, less than 1 MiB.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange
from libc.string cimport memcpy, memset

from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.isa cimport (
    FC_DOT_COLUMNS, FC_DOT_ROWS, FC_MAX_NR, fc_dot, fc_kernels, fc_tile, kernels_for, rows_of, vectors_for,
)
from fastconv._kernels.memory cimport give_back, take
from fastconv._kernels.threads cimport thread_index

cnp.import_array()

cdef enum:
    DEPTH = 128          # terms of a sum at a time
    STREAMED = 4096      # elements of a row of the second operand at a time, where it isn't packed
    PAD = 16             # elements, so that rows don't begin in the same cache set
    ROW_TILES = 16       # most tiles of a block, in each direction
    COLUMN_TILES = 8
    FEW_ROWS = 16        # batches up to this read the weight as it lies
    A_ROW = 400          # elements that take as long as beginning with another row of the weight


# An operand: element (i, k) lies at i*outer + k*inner elements from data; one of both steps is 1.
ctypedef struct Operand:
    const char *data
    Py_ssize_t outer, inner

# c[i*columns + j] = sum over k < depth of a(i, k) * b(j, k), plus bias[j].
ctypedef struct Product:
    const fc_kernels *kernels
    Py_ssize_t rows, columns, depth
    Operand a, b
    char *c
    const char *bias
    bint relu       # max(c, 0) is the result
    Py_ssize_t block_rows, block_columns    # multiples of a tile's


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


# Of x, out, grad_output and grad_x all axes but the last count as one, of n.

def forward(cnp.ndarray x not None, cnp.ndarray weight not None, bias, cnp.ndarray out not None, bint relu,
            int num_threads):
    """out[n, k] = sum of x[n, c] * weight[k, c], plus bias[k], or 0 where that is less, with relu.

    bias may be None.
    """
    cdef Py_ssize_t channels = cnp.PyArray_DIM(weight, 1)
    cdef Product p = product(x, channels, 1, weight, channels, 1, channels, out, cnp.PyArray_DIM(weight, 0))
    cdef Py_ssize_t quad, quads = ceil_div(p.columns, FC_DOT_COLUMNS)
    p.relu = relu
    if bias is not None:
        p.bias = <const char *>cnp.PyArray_DATA(<cnp.ndarray>bias)
    if p.rows > FEW_ROWS:
        multiply(&p, num_threads)
    elif num_threads == 1:
        with nogil:
            multiply_rows(&p, 0, quads)
    else:
        for quad in prange(quads, num_threads=num_threads, nogil=True, schedule="static"):
            multiply_rows(&p, quad, quad + 1)


def grad_input(cnp.ndarray grad_output not None, cnp.ndarray weight not None, cnp.ndarray grad_x not None,
               int num_threads):
    """grad_x[n, c] = sum over k of grad_output[n, k] * weight[k, c]."""
    cdef Py_ssize_t outputs = cnp.PyArray_DIM(weight, 0), channels = cnp.PyArray_DIM(weight, 1)
    cdef Product p = product(grad_output, outputs, 1, weight, 1, channels, outputs, grad_x, channels)
    cdef Py_ssize_t chunk, chunks = ceil_div(channels, STREAMED)
    if p.rows * (channels + A_ROW) > FEW_ROWS * channels:
        multiply(&p, num_threads)
    elif num_threads == 1:
        with nogil:
            combine_columns(&p, 0, chunks)
    else:
        for chunk in prange(chunks, num_threads=num_threads, nogil=True, schedule="static"):
            combine_columns(&p, chunk, chunk + 1)


def grad_weight(cnp.ndarray grad_output not None, cnp.ndarray x not None, cnp.ndarray grad not None,
                int num_threads):
    """grad[k, c] = sum over n of grad_output[n, k] * x[n, c]."""
    cdef Py_ssize_t outputs = cnp.PyArray_DIM(grad, 0), channels = cnp.PyArray_DIM(grad, 1)
    cdef Product p = product(
        grad_output, 1, outputs, x, 1, channels, cnp.PyArray_SIZE(x) // channels, grad, channels)
    multiply(&p, num_threads)


cdef Product product(
        cnp.ndarray a, Py_ssize_t a_outer, Py_ssize_t a_inner, cnp.ndarray b, Py_ssize_t b_outer,
        Py_ssize_t b_inner, Py_ssize_t depth, cnp.ndarray c, Py_ssize_t columns):
    cdef Product p
    p.kernels = kernels_for(cnp.PyArray_TYPE(c))
    p.rows, p.columns, p.depth = cnp.PyArray_SIZE(c) // columns, columns, depth
    p.a.data, p.a.outer, p.a.inner = <const char *>cnp.PyArray_DATA(a), a_outer, a_inner
    p.b.data, p.b.outer, p.b.inner = <const char *>cnp.PyArray_DATA(b), b_outer, b_inner
    p.c = <char *>cnp.PyArray_DATA(c)
    p.bias = NULL
    p.relu = False
    p.block_rows = ROW_TILES * p.kernels.mr
    p.block_columns = COLUMN_TILES * p.kernels.nr
    return p


cdef void multiply_rows(const Product *p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Columns of the result by dot products: quads first .. end-1 of them."""
    cdef Py_ssize_t size = p.kernels.itemsize, row, column, quad
    cdef fc_float_mode mode = fc_flush_denormals()
    cdef fc_dot dot
    dot.depth = p.depth
    dot.a_row = p.a.outer
    dot.b_row = p.b.outer
    dot.c_row = p.columns
    dot.relu = p.relu
    for quad in range(first, end):
        column = quad * FC_DOT_COLUMNS
        dot.b = p.b.data + column * p.b.outer * size
        dot.bias = p.bias + column * size if p.bias != NULL else NULL
        dot.columns = <int>min(<Py_ssize_t>FC_DOT_COLUMNS, p.columns - column)
        row = 0
        while row < p.rows:
            dot.rows = FC_DOT_ROWS if row + FC_DOT_ROWS <= p.rows else 1
            dot.a = p.a.data + row * p.a.outer * size
            dot.c = p.c + (row * p.columns + column) * size
            p.kernels.dot(&dot)
            row += dot.rows
    fc_restore_float_mode(mode)


cdef void combine_columns(const Product *p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Chunks first .. end-1 of the columns, streaming the second operand, whose rows are dense."""
    cdef Py_ssize_t size = p.kernels.itemsize, column, chunk
    cdef fc_float_mode mode = fc_flush_denormals()
    cdef fc_tile tile
    tile.depth = p.depth
    tile.a, tile.a_row, tile.a_step, tile.a_table = p.a.data, p.a.outer, p.a.inner, NULL
    tile.b_step = p.b.inner
    tile.c_row = p.columns
    tile.rows = <int>p.rows
    tile.accumulate = tile.relu = 0
    tile.row_bias = tile.column_bias = NULL
    for chunk in range(first, end):
        column = chunk * STREAMED
        tile.b, tile.c = p.b.data + column * size, p.c + column * size
        p.kernels.combine(&tile, min(<Py_ssize_t>STREAMED, p.columns - column))
    fc_restore_float_mode(mode)


cdef int multiply(Product *p, int num_threads) except -1:
    """Computes all of p.c, block by block."""
    cdef fc_float_mode mode = 0
    cdef Py_ssize_t index, blocks_a_row, each
    cdef char *memory
    if num_threads > 1:
        while p.block_columns > p.kernels.nr and blocks(p) < 2 * num_threads:
            p.block_columns -= p.kernels.nr
        while p.block_rows > p.kernels.mr and blocks(p) < 2 * num_threads:
            p.block_rows -= p.kernels.mr
    each = (p.block_rows * (DEPTH + PAD) + DEPTH * (p.block_columns + PAD)
            + p.block_rows * p.block_columns) * p.kernels.itemsize
    memory = <char *>take(each * num_threads)
    if memory == NULL:
        raise MemoryError("no memory for the workspace of a matrix product")
    blocks_a_row = ceil_div(p.columns, p.block_columns)
    with nogil, parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        for index in prange(blocks(p), schedule="dynamic"):
            multiply_block(p, index // blocks_a_row * p.block_rows, index % blocks_a_row * p.block_columns,
                           memory + each * thread_index())
        fc_restore_float_mode(mode)
    give_back(memory)
    return 0


cdef Py_ssize_t blocks(const Product *p) noexcept nogil:
    return ceil_div(p.rows, p.block_rows) * ceil_div(p.columns, p.block_columns)


cdef void multiply_block(const Product *p, Py_ssize_t row, Py_ssize_t column, char *memory) noexcept nogil:
    """The block of the result that begins at (row, column)."""
    cdef const fc_kernels *kernels = p.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t rows = min(p.block_rows, p.rows - row), columns = min(p.block_columns, p.columns - column)
    cdef Py_ssize_t padded = ceil_div(columns, nr) * nr
    cdef Py_ssize_t tiles, tile_index
    cdef Py_ssize_t term = 0, terms, first, at, i
    cdef char *a = memory
    cdef char *b = a + p.block_rows * (DEPTH + PAD) * size
    cdef char *sums = b + DEPTH * (p.block_columns + PAD) * size     # [row][column]
    cdef char bias[FC_MAX_NR * 8]
    # Where one pass gives the sums, whole tiles are written where they belong.
    cdef Py_ssize_t direct = columns - columns % nr if p.depth <= DEPTH else 0
    cdef fc_tile tile
    tile.a_table = tile.b_table = NULL
    tile.a_row = DEPTH + PAD if p.a.inner == 1 else 1
    tile.a_step = 1 if p.a.inner == 1 else p.block_rows
    tile.b_step = p.block_columns + PAD
    tile.row_bias = tile.column_bias = NULL
    while term < p.depth:
        terms = min(<Py_ssize_t>DEPTH, p.depth - term)
        tile.depth, tile.accumulate = terms, term > 0
        tile.relu = p.relu and term + terms == p.depth
        copy_rows(p, &p.a, row, rows, term, terms, a, DEPTH + PAD, p.block_rows)
        if p.b.inner == 1:
            kernels.transpose(
                b, tile.b_step, p.b.data + (column * p.b.outer + term) * size, p.b.outer, columns, terms)
        else:
            copy_rows(p, &p.b, column, columns, term, terms, b, 0, tile.b_step)
        if columns < padded:
            for i in range(terms):
                memset(b + (i * tile.b_step + columns) * size, 0, (padded - columns) * size)
        at = 0
        while at < columns:
            if p.bias != NULL and term == 0:
                i = min(nr, columns - at)
                memcpy(bias, p.bias + (column + at) * size, i * size)
                memset(bias + i * size, 0, (nr - i) * size)
                tile.column_bias = bias
            tile.b = b + at * size
            tile.vectors = vectors_for(kernels, columns - at)
            tiles = ceil_div(rows, rows_of(kernels, tile.vectors))
            first = 0
            for tile_index in range(tiles):
                tile.rows = <int>((rows - first) // (tiles - tile_index))     # as even as possible
                tile.a = a + first * tile.a_row * size
                if at < direct:
                    tile.c, tile.c_row = p.c + ((row + first) * p.columns + column + at) * size, p.columns
                else:
                    tile.c, tile.c_row = sums + (first * p.block_columns + at) * size, p.block_columns
                kernels.gemm_tile(&tile)
                first += tile.rows
            at += nr
        term += terms
    for i in range(rows if direct < columns else 0):
        memcpy(p.c + ((row + i) * p.columns + column + direct) * size,
               sums + (i * p.block_columns + direct) * size, (columns - direct) * size)


cdef void copy_rows(
        const Product *p, const Operand *operand, Py_ssize_t first, Py_ssize_t count, Py_ssize_t term,
        Py_ssize_t terms, char *copy, Py_ssize_t outer, Py_ssize_t inner) noexcept nogil:
    """A block of an operand, as it lies; its rows are `outer` apart where terms are dense, else `inner`."""
    cdef Py_ssize_t size = p.kernels.itemsize, i
    cdef const char *source = operand.data + (first * operand.outer + term * operand.inner) * size
    if operand.inner == 1:
        for i in range(count):
            memcpy(copy + i * outer * size, source + i * operand.outer * size, terms * size)
    else:
        for i in range(terms):
            memcpy(copy + i * inner * size, source + i * operand.inner * size, count * size)
