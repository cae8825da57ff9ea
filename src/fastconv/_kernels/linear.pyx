"""The products of a fully connected layer, whatever the sizes.

Small batches would pay more for copies of blocks, as matrix_product makes them, than for the product: they
read the weight as it lies, once, by dot products or by sums of its rows. Halves are converted meanwhile. A
sum's order depends on the sizes of the operands alone, never on threads.

Workspace: with a weight of float16, some of its rows for each thread, at most 512 KiB.
"""

cimport numpy as cnp
from libc.stdint cimport uint16_t

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport FC_DOT_COLUMNS, FC_DOT_ROWS, fc_dot, fc_tile, new_tile
from fastconv._kernels.matrix_product cimport Product, multiply, product
from fastconv._kernels.memory cimport for_threads, give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, PRODUCTS, parallel_for
from fastconv._kernels.unchanged cimport still, still_has

from fastconv._kernels import halves

cnp.import_array()

cdef enum:
    STREAMED = 4096      # elements of a row of the second operand at a time, where it isn't packed
    MOST_HALVES = 32768  # of a row of a weight of float16 that is converted as it is read
    FEW_ROWS = 16        # batches up to this read the weight as it lies
    A_ROW = 400          # elements that take as long as beginning with another row of the weight

ctypedef struct Reading:
    const Product *p
    char *singles        # for each thread, where p.b_is_half
    Py_ssize_t each


# Of x, out, grad_output and grad_x all axes but the last count as one, of n.

def forward(cnp.ndarray x not None, cnp.ndarray weight not None, bias, cnp.ndarray out not None, bint relu,
            int num_threads):
    """out[n, k] = sum of x[n, c] * weight[k, c], plus bias[k], or 0 where that is less, with relu.

    bias may be None. weight may be of float16 where the others are of float32.
    """
    still_has(weight, 1)
    cdef Py_ssize_t channels = cnp.PyArray_DIM(weight, 1), columns = cnp.PyArray_DIM(weight, 0)
    if cnp.PyArray_TYPE(weight) == cnp.NPY_FLOAT16 and (
            channels > MOST_HALVES or cnp.PyArray_SIZE(out) > FEW_ROWS * columns):
        weight = halves.to_single(weight, num_threads)
    cdef Product p = product(x, channels, 1, weight, channels, 1, channels, out, columns)
    p.relu = relu
    if bias is not None:
        still(<cnp.ndarray>bias, cnp.PyArray_TYPE(out), p.columns)
        p.bias = <const char *>cnp.PyArray_DATA(<cnp.ndarray>bias)
    if p.rows > FEW_ROWS:
        multiply(&p, num_threads)
        return
    cdef Reading r
    r.p, r.singles = &p, NULL
    r.each = ceil_div(FC_DOT_COLUMNS * channels * <Py_ssize_t>sizeof(float), 64) * 64
    if p.b_is_half:
        r.singles = take_workspace(for_threads(r.each, num_threads))
    with nogil:
        parallel_for(ceil_div(p.columns, FC_DOT_COLUMNS), num_threads, multiply_rows, &r, EVENLY | PRODUCTS)
    give_back(r.singles)


def grad_input(cnp.ndarray grad_output not None, cnp.ndarray weight not None, cnp.ndarray grad_x not None,
               int num_threads):
    """grad_x[n, c] = sum over k of grad_output[n, k] * weight[k, c]."""
    still_has(weight, 1)
    cdef Py_ssize_t outputs = cnp.PyArray_DIM(weight, 0), channels = cnp.PyArray_DIM(weight, 1)
    cdef Product p = product(grad_output, outputs, 1, weight, 1, channels, outputs, grad_x, channels)
    multiply_or_combine(&p, num_threads)


def affine(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias not None,
           cnp.ndarray out not None, int num_threads):
    """out[n, k] = sum over c of x[n, c] * weight[c, k], plus bias[k]."""
    still_has(weight, 1)
    cdef Py_ssize_t inputs = cnp.PyArray_DIM(weight, 0), outputs = cnp.PyArray_DIM(weight, 1)
    cdef Product p = product(x, inputs, 1, weight, 1, outputs, inputs, out, outputs)
    still(bias, cnp.PyArray_TYPE(out), outputs)
    p.bias = <const char *>cnp.PyArray_DATA(bias)
    multiply_or_combine(&p, num_threads)


def grad_weight(cnp.ndarray grad_output not None, cnp.ndarray x not None, cnp.ndarray grad not None,
                int num_threads):
    """grad[k, c] = sum over n of grad_output[n, k] * x[n, c]."""
    cdef Py_ssize_t outputs = cnp.PyArray_DIM(grad, 0), channels = cnp.PyArray_DIM(grad, 1)
    cdef Product p = product(
        grad_output, 1, outputs, x, 1, channels, cnp.PyArray_SIZE(x) // channels, grad, channels)
    multiply(&p, num_threads)


cdef int multiply_or_combine(const Product *p, int num_threads) except -1:
    """Computes all of p.c; rows of p.b are dense."""
    if p.rows * (p.columns + A_ROW) > FEW_ROWS * p.columns:
        return multiply(p, num_threads)
    with nogil:
        parallel_for(ceil_div(p.columns, STREAMED), num_threads, combine_columns, p, EVENLY | PRODUCTS)
    return 0


cdef Py_ssize_t multiply_rows(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """FC_DOT_COLUMNS columns of the result, or as many as are left, by dot products."""
    cdef const Product *p = (<const Reading *>job).p
    cdef char *singles = (<const Reading *>job).singles + (<const Reading *>job).each * thread
    cdef Py_ssize_t size = p.kernels.itemsize, row = 0, column = item * FC_DOT_COLUMNS
    cdef fc_dot dot
    dot.depth = p.depth
    dot.a_row = p.a.outer
    dot.b_row = p.b.outer
    dot.c_row = p.columns
    dot.relu = p.relu
    dot.bias = p.bias + column * size if p.bias != NULL else NULL
    dot.columns = <int>min(<Py_ssize_t>FC_DOT_COLUMNS, p.columns - column)
    if p.b_is_half:
        p.kernels.from_half(<float *>singles, <const uint16_t *>p.b.data + column * p.b.outer,
                            dot.columns * p.b.outer)
        dot.b = singles
    else:
        dot.b = p.b.data + column * p.b.outer * size
    while row < p.rows:
        dot.rows = FC_DOT_ROWS if row + FC_DOT_ROWS <= p.rows else 1
        dot.a = p.a.data + row * p.a.outer * size
        dot.c = p.c + (row * p.columns + column) * size
        p.kernels.dot(&dot)
        row += dot.rows
    return 0


cdef Py_ssize_t combine_columns(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """STREAMED columns, or as many as are left, streaming the second operand, whose rows are dense."""
    cdef const Product *p = <const Product *>job
    cdef Py_ssize_t size = p.kernels.itemsize, column = item * STREAMED, row
    cdef Py_ssize_t columns = min(<Py_ssize_t>STREAMED, p.columns - column)
    cdef fc_tile tile = new_tile()
    tile.depth = p.depth
    tile.a, tile.a_row, tile.a_step = p.a.data, p.a.outer, p.a.inner
    tile.b, tile.b_step = p.b.data + column * size, p.b.inner
    tile.c, tile.c_row = p.c + column * size, p.columns
    tile.rows = <int>p.rows
    p.kernels.combine(&tile, columns)
    for row in range(p.rows if p.bias != NULL else 0):
        p.kernels.add(p.c + (row * p.columns + column) * size, p.bias + column * size, columns)
    return 0
