"""Products of matrices of any sizes, by register tiles.

A block of the result is computed by one thread, some terms of its sums at a time, from copies of the blocks
of both operands that stay in cache. Where results are few and sums long, each range of the sum gives a block
of its own, which are added up in the end. A sum's order depends on the sizes of the operands alone, never on
threads.

Workspace: for each thread, at most the blocks of ROWS rows and COLUMN_TILES tiles, less than 1 MiB; once,
sums for at most ITEMS of such blocks, less than 3 MiB.
"""

cimport numpy as cnp
from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport (
    FC_ADD, FC_MAX_NR, fc_kernels, fc_tile, kernels_for, new_tile, rows_of, vectors_for,
)
from fastconv._kernels.memory cimport for_threads, give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, IN_TURN, PRODUCTS, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    DEPTH = 128          # terms of a sum at a time; up to MOST_DEPTH where rows are few
    MOST_DEPTH = 256
    COPY_BYTES = 294912  # of the first operand's copy; half of it where tiles, and maybe caches, are small
    SMALL = 8            # rows of a tile
    ROWS = 280           # of a block, at most; as many as most batches have
    COLUMN_TILES = 8     # tiles side by side in it, at most
    ITEMS = 8            # so many blocks are enough for threads; of fewer, long sums are cut
    RANGE = 512          # least terms of a part of such a sum


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
    still(a, cnp.PyArray_TYPE(c), p.rows * depth)
    p.b_is_half = cnp.PyArray_TYPE(b) == cnp.NPY_FLOAT16 and cnp.PyArray_TYPE(c) == cnp.NPY_FLOAT32
    still(b, cnp.NPY_FLOAT16 if p.b_is_half else cnp.PyArray_TYPE(c), columns * depth)
    return p


# How a product is cut. An item is what one range of the sums adds to a block of the result.
ctypedef struct Cut:
    const Product *p
    Py_ssize_t rows, columns        # of a block; columns are a multiple of a tile's
    Py_ssize_t across, blocks       # blocks side by side; and all
    Py_ssize_t ranges               # that a sum is cut into
    Py_ssize_t terms                # of a sum at a time, at most
    Py_ssize_t a_step, b_step       # elements from one term to the next of copies
    Py_ssize_t a_bytes, b_bytes     # of copies
    Py_ssize_t block_bytes          # of a block's sums, [row][column]
    char *work                      # for each thread
    Py_ssize_t each                 # bytes of it: both copies and, with one range, the sums
    char *sums                      # [range][block], where ranges are several


cdef int multiply(const Product *p, int num_threads) except -1:
    """Computes all of p.c, block by block."""
    cdef Cut cut = cut_product(p, num_threads)
    cdef Py_ssize_t sums_bytes = cut.ranges * cut.blocks * cut.block_bytes if cut.ranges > 1 else 0
    cut.work = take_workspace(for_threads(cut.each, num_threads) + sums_bytes)
    cut.sums = cut.work + cut.each * num_threads
    with nogil:
        parallel_for(cut.blocks * cut.ranges, num_threads, multiply_block, &cut, IN_TURN | PRODUCTS)
        if cut.ranges > 1:
            parallel_for(cut.blocks * cut.rows, num_threads, add_ranges, &cut, EVENLY | PRODUCTS)
    give_back(cut.work)
    return 0


cdef Cut cut_product(const Product *p, int num_threads) noexcept nogil:
    """All but the memory."""
    cdef const fc_kernels *kernels = p.kernels
    cdef Py_ssize_t size = kernels.itemsize, least = 2 * num_threads if num_threads > 1 else 1
    cdef Py_ssize_t copied = COPY_BYTES // size // (2 if kernels.mr < SMALL else 1)
    cdef Cut cut
    cut.p = p
    cut.rows = evenly(p.rows, min(<Py_ssize_t>ROWS, copied // DEPTH) // kernels.mr, kernels.mr)
    cut.columns = evenly(p.columns, COLUMN_TILES, kernels.nr)
    count_blocks(p, &cut)
    # By sizes alone, since it decides the order of a sum.
    cut.ranges = max(1, min(ITEMS // cut.blocks, p.depth // RANGE))
    cut.terms = ceil_div(p.depth, cut.ranges)
    cut.terms = ceil_div(cut.terms, ceil_div(cut.terms, min(<Py_ssize_t>MOST_DEPTH, copied // cut.rows)))
    while cut.blocks * cut.ranges < least and (cut.columns > kernels.nr or cut.rows > kernels.mr):
        if cut.columns > kernels.nr and (cut.columns > cut.rows or cut.rows <= kernels.mr):
            cut.columns = ceil_div(cut.columns // 2, kernels.nr) * kernels.nr
        else:
            cut.rows = ceil_div(cut.rows // 2, kernels.mr) * kernels.mr
        count_blocks(p, &cut)
    cut.a_step, cut.b_step = step_of(cut.rows, size), step_of(cut.columns, size)
    cut.a_bytes, cut.b_bytes = cut.terms * cut.a_step * size, cut.terms * cut.b_step * size
    cut.block_bytes = cut.rows * cut.columns * size
    cut.each = cut.a_bytes + cut.b_bytes + (ceil_div(cut.block_bytes, 64) * 64 if cut.ranges == 1 else 0)
    cut.work = cut.sums = NULL
    return cut


cdef inline Py_ssize_t evenly(Py_ssize_t extent, Py_ssize_t most, Py_ssize_t tile) noexcept nogil:
    """The extent of the fewest equal blocks that have at most so many tiles each."""
    return ceil_div(ceil_div(extent, ceil_div(extent, most * tile)), tile) * tile


cdef inline void count_blocks(const Product *p, Cut *cut) noexcept nogil:
    cut.across = ceil_div(p.columns, cut.columns)
    cut.blocks = cut.across * ceil_div(p.rows, cut.rows)


cdef inline Py_ssize_t step_of(Py_ssize_t elements, Py_ssize_t size) noexcept nogil:
    """At least so many: an odd number of cache lines, so that terms don't compete for the same ones."""
    return (ceil_div(elements * size, 64) | 1) * 64 // size


cdef Py_ssize_t multiply_block(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """One range of the sums of a block."""
    cdef const Cut *cut = <const Cut *>job
    cdef const Product *p = cut.p
    cdef Py_ssize_t block = item // cut.ranges, part = item % cut.ranges
    cdef const fc_kernels *kernels = p.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t row = block // cut.across * cut.rows, column = block % cut.across * cut.columns
    cdef Py_ssize_t rows = min(cut.rows, p.rows - row), columns = min(cut.columns, p.columns - column)
    cdef Py_ssize_t padded = ceil_div(columns, kernels.lanes) * kernels.lanes
    cdef Py_ssize_t begin = p.depth * part // cut.ranges, end = p.depth * (part + 1) // cut.ranges
    cdef Py_ssize_t tiles, tile_index, term = begin, terms, first, at, i
    cdef char *a = cut.work + cut.each * thread
    cdef char *b = a + cut.a_bytes
    cdef char *sums = b + cut.b_bytes
    cdef char bias[FC_MAX_NR * 8]
    # Where one pass gives the sums, whole tiles are written where they belong.
    cdef Py_ssize_t direct = columns - columns % nr if p.depth <= cut.terms else 0
    cdef fc_tile tile = new_tile()
    if cut.ranges > 1:
        sums = cut.sums + (part * cut.blocks + block) * cut.block_bytes
    tile.a_row, tile.a_step, tile.b_step = 1, cut.a_step, cut.b_step
    while term < end:
        terms = min(cut.terms, end - term)
        tile.depth, tile.accumulate = terms, FC_ADD if term > begin else 0
        tile.relu = p.relu and cut.ranges == 1 and term + terms == end
        copy_terms(kernels, &p.a, row, rows, term, terms, a, cut.a_step, rows)
        copy_terms(kernels, &p.b, column, columns, term, terms, b, cut.b_step, padded)
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
                tile.a = a + first * size
                if at < direct:
                    tile.c, tile.c_row = p.c + ((row + first) * p.columns + column + at) * size, p.columns
                else:
                    tile.c, tile.c_row = sums + (first * cut.columns + at) * size, cut.columns
                kernels.gemm_tile(&tile)
                first += tile.rows
            at += nr
        term += terms
    for i in range(rows if cut.ranges == 1 and direct < columns else 0):
        memcpy(p.c + ((row + i) * p.columns + column + direct) * size,
               sums + (i * cut.columns + direct) * size, (columns - direct) * size)
    return 0


cdef Py_ssize_t add_ranges(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """Row i of a block, if there is one, from what each range gave."""
    cdef const Cut *cut = <const Cut *>job
    cdef const Product *p = cut.p
    cdef Py_ssize_t block = item // cut.rows, i = item % cut.rows
    cdef Py_ssize_t size = p.kernels.itemsize, part
    cdef Py_ssize_t row = block // cut.across * cut.rows + i, column = block % cut.across * cut.columns
    cdef Py_ssize_t columns = min(cut.columns, p.columns - column)
    cdef char *sums = cut.sums + block * cut.block_bytes + i * cut.columns * size
    cdef char *c = p.c + (row * p.columns + column) * size
    if row >= p.rows:
        return 0
    for part in range(1, cut.ranges):
        p.kernels.add(sums, sums + part * cut.blocks * cut.block_bytes, columns)
    if p.relu:
        p.kernels.relu(c, sums, columns, INFINITY)
    else:
        memcpy(c, sums, columns * size)
    return 0


cdef void copy_terms(
        const fc_kernels *kernels, const Operand *operand, Py_ssize_t first, Py_ssize_t count,
        Py_ssize_t term, Py_ssize_t terms, char *copy, Py_ssize_t step, Py_ssize_t padded) noexcept nogil:
    """copy[k*step + i] = element (first + i, term + k) of the operand for i < count, 0 up to i < padded."""
    cdef Py_ssize_t size = kernels.itemsize, k
    cdef const char *source = operand.data + (first * operand.outer + term * operand.inner) * size
    if operand.inner != 1:
        kernels.pad_rows(copy, step, source, operand.inner, terms, 0, count, padded - count, 1)
        return
    kernels.transpose(copy, step, source, operand.outer, count, terms)
    for k in range(terms if count < padded else 0):
        memset(copy + (k * step + count) * size, 0, (padded - count) * size)
