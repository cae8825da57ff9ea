"""The gradient of the weight by windows of rows, with stride 1, for few channels; and that of the bias.

Products of rows of grad_output with windows of the band are summed, each element in a vector of its own whose
lanes are added up in the end: for few channels, since these vectors must stay in cache. The gradient of the
bias is summed along with it, as if by a window of ones. The sum is cut and shared out as in
conv_direct_weight. NCHW.

Workspace: for each thread a band of about BAND_BYTES and the table of the sum; a vector for each element, for
up to SPLITS parts of the sum.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels.correlation cimport (
    Correlation, align, ceil_div, forward_correlation, movers, sum_length,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels, fc_window_sums, kernels_for
from fastconv._kernels.memory cimport for_threads, give_back, take
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, band_elements, chunk_at, cut, fill_table, load_band,
)
from fastconv._kernels.threads cimport EVENLY, IN_TURN, PRODUCTS, parallel_for

cnp.import_array()

cdef enum:
    BAND_BYTES = 262144
    SUMMED_BYTES = 16384      # of a plane of grad_output that meets all windows before the next pixels do
    SPLITS = 8                # most parts that the sum is cut into
    SPLIT_BYTES = 1048576     # most bytes of partial sums that cutting may cost


ctypedef struct WeightJob:
    Correlation c                   # the forward one; x is read, out is grad_output, weight unused
    Chunks chunks
    Py_ssize_t splits               # parts of the sum; split s sums chunks from count*s/splits on
    Py_ssize_t length               # terms of a forward sum: elements of a row of grad
    Py_ssize_t rows                 # output channels of all groups
    Py_ssize_t row_bytes            # of partial sums, of one output channel
    char *sums                      # [splits][rows][length][lanes]
    char *own                       # [splits][rows][lanes], of the bias; NULL: not needed
    char *private                   # for each thread: table, band
    Py_ssize_t table_bytes, each
    Py_ssize_t ranges               # that a group's output channels are shared out in
    char *grad
    char *grad_bias                 # NULL: not needed


def grad_weight(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                cnp.ndarray grad not None, int num_threads):
    """grad = gradient of the weight."""
    grad_weight_and_bias(g, grad_output, x, grad, None, num_threads)


def grad_weight_and_bias(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                         cnp.ndarray grad not None, cnp.ndarray grad_bias, int num_threads):
    """grad = gradient of the weight, grad_bias = that of the bias, unless it is None."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef WeightJob job
    cdef Py_ssize_t own_bytes = 0 if grad_bias is None else kernels.lanes * kernels.itemsize
    job.c = forward_correlation(kernels, g, x, grad, None, grad_output, False)
    # These sizes must not depend on the number of threads: they decide the order of the sums.
    job.chunks = cut(&job.c, BAND_BYTES, SUMMED_BYTES // kernels.itemsize, 1)
    job.length = sum_length(&job.c)
    job.row_bytes = job.length * kernels.lanes * kernels.itemsize
    job.rows = job.c.groups * job.c.out_channels
    job.splits = min(SPLITS, job.chunks.count, SPLIT_BYTES // (job.rows * job.row_bytes) + 1)
    job.table_bytes = align(job.length * sizeof(Py_ssize_t))
    job.each = job.table_bytes + align(
        band_elements(&job.c, job.chunks.images, job.chunks.rows) * kernels.itemsize)
    job.sums = <char *>take(job.splits * job.rows * (job.row_bytes + own_bytes))
    job.private = <char *>take(for_threads(job.each, num_threads))
    if job.sums == NULL or job.private == NULL:
        give_back(job.sums)
        give_back(job.private)
        raise MemoryError("no memory for the workspace of a convolution's gradient")
    job.grad, job.grad_bias, job.own = <char *>cnp.PyArray_DATA(grad), NULL, NULL
    if grad_bias is not None:
        job.grad_bias = <char *>cnp.PyArray_DATA(grad_bias)
        job.own = job.sums + job.splits * job.rows * job.row_bytes
    # Where splits and groups are too few for the threads, output channels are shared out as well.
    job.ranges = 1
    if num_threads > 1:
        job.ranges = min(job.c.out_channels, ceil_div(2 * num_threads, job.splits * job.c.groups))
    with nogil:
        parallel_for(
            job.splits * job.c.groups * job.ranges, num_threads, sum_windows, &job, IN_TURN | PRODUCTS)
        parallel_for(job.rows, movers(job.splits * job.rows * job.row_bytes, num_threads), finish_row, &job,
                     EVENLY)
        give_back(job.sums)
        give_back(job.private)


cdef Py_ssize_t sum_windows(const void *weight_job, Py_ssize_t item, int thread) noexcept nogil:
    """One split's sums of a range of output channels of a group."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    cdef const Correlation *c = &job.c
    cdef Py_ssize_t number = item % job.ranges, split = item // job.ranges % job.splits
    cdef Py_ssize_t group = item // (job.ranges * job.splits)
    cdef Py_ssize_t begin = c.out_channels * number // job.ranges
    cdef Py_ssize_t end = c.out_channels * (number + 1) // job.ranges
    cdef char *private = job.private + job.each * thread
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, index
    cdef Py_ssize_t row = (split * c.groups + group) * c.out_channels + begin
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef Chunk chunk
    cdef Band band
    cdef fc_window_sums sums
    sums.planes, sums.a_plane, sums.a_image, sums.a_row = end - begin, c.out_channel, c.out_image, c.out_row
    sums.b_table, sums.terms = table, job.length
    sums.width = c.out_w
    sums.sums = job.sums + row * job.row_bytes
    memset(sums.sums, 0, (end - begin) * job.row_bytes)
    sums.own = NULL
    if job.own != NULL:
        sums.own = job.own + row * kernels.lanes * size
        memset(sums.own, 0, (end - begin) * kernels.lanes * size)
    for index in range(job.chunks.count * split // job.splits, job.chunks.count * (split + 1) // job.splits):
        chunk = chunk_at(c, &job.chunks, index)
        band = load_band(c, group, &chunk, private + job.table_bytes)
        fill_table(c, &band, table)
        sums.images, sums.rows = chunk.images, chunk.rows
        sums.a = c.out + size * (chunk.image * c.out_image + chunk.row * c.out_row
                                 + (group * c.out_channels + begin) * c.out_channel)
        sums.b, sums.b_image, sums.b_row = band.data, band.image, c.stride_h * band.row
        kernels.window_sums(&sums)
    return 0


cdef Py_ssize_t finish_row(const void *weight_job, Py_ssize_t row, int thread) noexcept nogil:
    """One output channel's row of the gradient and its gradient of the bias."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    add_up(job, job.sums, row, job.length, job.grad)
    if job.grad_bias != NULL:
        add_up(job, job.own, row, 1, job.grad_bias)
    return 0


cdef void add_up(
        const WeightJob *job, char *sums, Py_ssize_t row, Py_ssize_t length, char *out) noexcept nogil:
    """Adds up the splits, in order, and the lanes of one output channel's row of a gradient."""
    cdef const fc_kernels *kernels = job.c.kernels
    cdef Py_ssize_t split, count = length * kernels.lanes
    cdef char *total = sums + row * count * kernels.itemsize
    for split in range(1, job.splits):
        kernels.add(total, total + split * job.rows * count * kernels.itemsize, count)
    kernels.depthwise_weight_finish(out + row * length * kernels.itemsize, total, 1, length)
