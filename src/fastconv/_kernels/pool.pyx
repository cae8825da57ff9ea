"""Pooling: output rows (of the gradient of a maximum: images) shared out over threads."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint16_t

import numpy as np

from fastconv._kernels import halves

from fastconv._kernels.correlation cimport align, ceil_div
from fastconv._kernels.isa cimport (
    FC_FAR_FLOAT32, FC_FAR_FLOAT64, FC_MAX_LANES, FC_POOL_LINES, FC_STREAMED, fc_kernels, fc_pool, fc_scatter,
    fc_ties, kernels_for,
)
from fastconv._kernels.memory cimport empty, for_threads, give_back, take
from fastconv._kernels.read_ahead cimport LINE as LINE_BYTES
from fastconv._kernels.threads cimport EVENLY, IN_TURN, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    LINE = 1024         # elements; of narrow rows about as many are reduced together
    HALVES = 16384      # elements of float16 that are converted together, if there are images as small
    SHARED = 16384      # elements of the images whose gradient a thread shares out together
    PARTS = 4           # of the work for each thread, where there are several

ctypedef enum Reduction:
    MAX
    MEAN
    MEAN_BACKWARD


# Threads share out parts of the output rows, or with float16 groups of images.
ctypedef struct Job:
    const fc_kernels *kernels
    const fc_pool *pool
    Reduction reduction
    const char *x
    char *out
    int64_t *indices
    char *work                      # for each thread
    Py_ssize_t each
    Py_ssize_t tile, tiles, parts   # rows that stay together; how many of these; cut into so many parts
    Py_ssize_t plane, out_plane     # elements of an image, and of its result
    Py_ssize_t images               # converted together
    Py_ssize_t lines                # bytes: where the lines begin in a thread's workspace

# Part i of the images and block j of their channels is item i * blocks + j.
ctypedef struct Scattering:
    const fc_kernels *kernels
    fc_scatter job
    Py_ssize_t images, parts, blocks

ctypedef struct Sharing:
    const fc_kernels *kernels
    fc_ties job
    Py_ssize_t rows, step           # of maxima: all, and those of an item


cdef class PoolGeometry:
    """The windows of a pool over arrays of one shape and dtype, as fc_pool in kernels.h tells kernels."""
    cdef fc_pool forward
    cdef fc_pool adjoint
    cdef int axes, typenum
    cdef cnp.npy_intp x_shape[4]
    cdef cnp.npy_intp out_shape[4]
    cdef list tables        # what the pointers point to

    def __init__(self, x_shape, out_shape, rows, columns, channels_last, dtype):
        """rows, columns: fastconv._pool_spec.Windows; dtype: that of the computation, float32 or float64."""
        cdef int i
        cdef Py_ssize_t batch, channels
        self.axes = len(x_shape)
        self.typenum = dtype.num
        self.tables = []
        for i in range(self.axes):
            self.x_shape[i] = x_shape[i]
            self.out_shape[i] = out_shape[i]
        batch = x_shape[0] if self.axes == 4 else 1
        channels = x_shape[self.axes - (1 if channels_last else 3)]
        for pool in range(2):
            self.describe(&self.adjoint if pool else &self.forward, batch, channels, channels_last, rows,
                          columns)
        self.set_windows(&self.forward, rows.size, rows.first, rows.count, columns.size, columns.first,
                         columns.count)
        self.set_windows(&self.adjoint, rows.outputs, rows.seen_first, rows.seen_count,
                         columns.outputs, columns.seen_first, columns.seen_count)
        self.set_lines(rows, columns)
        line = self.forward.lines * columns.outputs + FC_MAX_LANES
        column_divisor = np.full(line, columns.divisor[columns.outputs - 1], dtype)
        column_divisor[:columns.outputs] = columns.divisor
        self.forward.row_divisor = self.adjoint.row_divisor = self.own(rows.divisor.astype(dtype))
        self.forward.column_divisor = self.adjoint.column_divisor = self.own(column_divisor)

    cdef void *own(self, cnp.ndarray table):
        self.tables.append(table)
        return cnp.PyArray_DATA(table)

    cdef describe(
            self, fc_pool *pool, Py_ssize_t batch, Py_ssize_t channels, bint channels_last, rows, columns):
        pool.channels_last = channels_last
        pool.channels = channels if channels_last else 1
        pool.images = batch if channels_last else batch * channels
        pool.row_step, pool.column_step = rows.step, columns.step
        pool.stride, pool.left, pool.kernel_w = columns.stride, columns.before, columns.kernel

    cdef set_windows(self, fc_pool *pool, Py_ssize_t height, row_first, row_count,
                     Py_ssize_t width, column_first, column_count):
        pool.height, pool.width = height, width
        pool.out_h, pool.out_w = len(row_first), len(column_first)
        pool.row_first = <const Py_ssize_t *>self.own(row_first)
        pool.row_count = <const Py_ssize_t *>self.own(row_count)
        pool.column_first = <const Py_ssize_t *>self.own(column_first)
        pool.column_count = <const Py_ssize_t *>self.own(column_count)

    cdef set_lines(self, rows, columns):
        """The layout of the workspace's lines, and how many rows share one."""
        cdef fc_pool *f = &self.forward
        cdef fc_pool *a = &self.adjoint
        cdef Py_ssize_t far = FC_FAR_FLOAT32 if self.typenum == cnp.NPY_FLOAT32 else FC_FAR_FLOAT64
        cdef Py_ssize_t reach = (f.kernel_w - 1) * f.column_step + 1
        cdef Py_ssize_t rows_spanned = (rows.kernel - 1) * f.row_step + 1
        f.far_positions = rows_spanned * f.width >= far
        f.lines = a.lines = 1
        f.even = a.even = rows.even and columns.even
        f.pitch = a.pitch = f.row_stride = a.row_stride = 0
        f.line_before = f.line_after = a.line_before = a.line_after = 0
        if f.stride:
            f.line_before = f.left
            f.line_after = max(0, (f.out_w - 1) * f.stride + reach - f.left - f.width)
            a.line_before = (f.kernel_w - 1) // f.stride
            a.line_after = max(0, (f.width - 1 + f.left) // f.stride + 1 - f.out_w)
            if (f.left == 0 and f.line_after == 0 and reach <= f.stride and f.height * f.width < far
                    and f.even):
                f.pitch = f.out_w * f.stride
                f.lines = max(1, LINE // f.pitch)
                if rows.before == 0 and f.out_h * rows.stride == f.height and rows_spanned <= rows.stride:
                    f.row_stride = rows.stride
            if f.left == 0 and f.kernel_w <= f.stride and f.width == f.out_w * f.stride:
                a.pitch = f.out_w
                a.lines = max(1, LINE // f.width)
                if (f.kernel_w == f.stride and rows.kernel == rows.stride and rows.before == 0
                        and f.out_h * rows.stride == f.height and a.even):
                    a.row_stride = rows.stride
        f.line_elements = f.line_before + max(f.lines * f.pitch, f.width) + f.line_after
        f.line_elements += FC_MAX_LANES * (f.stride + 2)
        a.line_elements = a.line_before + max(a.lines * f.width, a.width) + a.line_after + 3 * FC_MAX_LANES


cdef bint pool_rows(Job *job, int num_threads) noexcept nogil:
    """All output rows. False where there was no memory; nothing is written then."""
    cdef const fc_pool *pool = job.pool
    cdef Py_ssize_t lines = pool.line_elements * job.kernels.itemsize * FC_POOL_LINES
    job.tile = pool.row_stride if job.reduction == MEAN_BACKWARD and pool.row_stride else 1
    job.tiles = pool.images * pool.out_h // job.tile
    job.parts = min(job.tiles, PARTS * num_threads if num_threads > 1 else 1)
    job.work, job.each = NULL, align(lines if job.reduction == MEAN else 2 * lines)
    if not pool.channels_last:
        job.work = <char *>take(for_threads(job.each, num_threads))
        if job.work == NULL:
            return False
    parallel_for(job.parts, num_threads, pool_part, job, IN_TURN)
    give_back(job.work)
    return True


cdef Py_ssize_t pool_part(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Job *j = <const Job *>job
    reduce_rows(j, j.pool, j.x, j.out, j.indices, j.tiles * item // j.parts * j.tile,
                j.tiles * (item + 1) // j.parts * j.tile, j.work + j.each * thread)
    return 0


cdef bint pool_halves(Job *job, int num_threads) noexcept nogil:
    """As pool_rows, for float16: some images at a time become float32 and are reduced, to stay in cache."""
    cdef const fc_pool *pool = job.pool
    job.plane = pool.height * pool.width * pool.channels
    job.out_plane = pool.out_h * pool.out_w * pool.channels
    job.images = min(pool.images, max(1, HALVES // max(job.plane, job.out_plane)))
    job.lines = align(job.images * (job.plane + job.out_plane) * <Py_ssize_t>sizeof(float))
    job.each = job.lines + align(2 * FC_POOL_LINES * pool.line_elements * <Py_ssize_t>sizeof(float))
    job.work = <char *>take(for_threads(job.each, num_threads))
    if job.work == NULL:
        return False
    parallel_for(ceil_div(pool.images, job.images), num_threads, pool_group, job, IN_TURN)
    give_back(job.work)
    return True


cdef Py_ssize_t pool_group(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """job.images images, or as many as are left."""
    cdef const Job *j = <const Job *>job
    cdef Py_ssize_t first = item * j.images
    cdef char *work = j.work + j.each * thread
    cdef float *x = <float *>work
    cdef float *out = x + j.images * j.plane
    cdef int64_t *indices = NULL if j.indices == NULL else j.indices + first * j.out_plane
    cdef fc_pool pool = j.pool[0]
    pool.images = min(j.images, pool.images - first)
    j.kernels.from_half(x, <const uint16_t *>j.x + first * j.plane, pool.images * j.plane)
    reduce_rows(j, &pool, <const char *>x, <char *>out, indices, 0, pool.images * pool.out_h, work + j.lines)
    j.kernels.to_half(<uint16_t *>j.out + first * j.out_plane, out, pool.images * j.out_plane)
    return 0


cdef void reduce_rows(const Job *job, const fc_pool *pool, const char *x, char *out, int64_t *indices,
                      Py_ssize_t begin, Py_ssize_t end, void *lines) noexcept nogil:
    if job.reduction == MAX:
        job.kernels.max_pool(pool, x, out, indices, begin, end, lines)
    elif job.reduction == MEAN:
        job.kernels.avg_pool(pool, x, out, begin, end, lines)
    else:
        job.kernels.avg_pool_backward(pool, x, out, begin, end, lines)


cdef cnp.ndarray run(PoolGeometry geometry, bint adjoint, Reduction reduction, cnp.ndarray x, out,
                     cnp.ndarray indices, int num_threads):
    """x is of the geometry's dtype, or float16 where that is float32; so is the result."""
    cdef const fc_pool *pool = &geometry.adjoint if adjoint else &geometry.forward
    cdef Job job
    cdef cnp.ndarray result
    cdef int typenum = cnp.PyArray_TYPE(x)
    cdef bint done
    if typenum != cnp.NPY_FLOAT16 or geometry.typenum != cnp.NPY_FLOAT32:
        typenum = geometry.typenum
    still(x, typenum, cnp.PyArray_MultiplyList(&geometry.out_shape[0] if adjoint else &geometry.x_shape[0],
                                               geometry.axes))
    if typenum == cnp.NPY_FLOAT16 and pool.images < num_threads:   # rows are shared out, then
        x = halves.to_single(x, num_threads)
        result = run(geometry, adjoint, reduction, x, out, indices, num_threads)
        return halves.from_single(result, num_threads)
    if out is None:
        result = empty(geometry.axes, &geometry.x_shape[0] if adjoint else &geometry.out_shape[0], typenum)
    else:
        result = out
        still(result, typenum, cnp.PyArray_MultiplyList(geometry.out_shape, geometry.axes))
    if cnp.PyArray_SIZE(result) == 0:
        return result
    job.kernels, job.pool, job.reduction = kernels_for(geometry.typenum), pool, reduction
    job.x, job.out = cnp.PyArray_BYTES(x), cnp.PyArray_BYTES(result)
    job.indices = NULL if indices is None else <int64_t *>cnp.PyArray_DATA(indices)
    with nogil:
        if typenum == cnp.NPY_FLOAT16:
            done = pool_halves(&job, num_threads)
        else:
            done = pool_rows(&job, num_threads)
    if not done:
        raise MemoryError("no memory for the workspace of a pool")
    return result


def max_pool(PoolGeometry geometry not None, cnp.ndarray x not None, out, int num_threads):
    """The maxima, in `out` if that is not None."""
    return run(geometry, False, MAX, x, out, None, num_threads)


def max_pool_with_indices(PoolGeometry geometry not None, cnp.ndarray x not None, out, int num_threads):
    """The maxima, in `out` if that is not None, and their positions row * width + column, int64."""
    cdef cnp.ndarray indices = empty(geometry.axes, geometry.out_shape, cnp.NPY_INT64)
    return run(geometry, False, MAX, x, out, indices, num_threads), indices


def avg_pool(PoolGeometry geometry not None, cnp.ndarray x not None, out, int num_threads):
    """The means, in `out` if that is not None."""
    return run(geometry, False, MEAN, x, out, None, num_threads)


def avg_pool_backward(PoolGeometry geometry not None, cnp.ndarray grad_output not None, int num_threads):
    """The gradient of the input."""
    return run(geometry, True, MEAN_BACKWARD, grad_output, None, None, num_threads)


def max_pool_backward(tuple input_size, bint channels_last, cnp.ndarray grad_output not None,
                      cnp.ndarray indices not None, int num_threads):
    """The gradient of the input, or None where an index is out of range. No axis is empty."""
    cdef int axes = <int>len(input_size)
    cdef cnp.npy_intp shape[4]
    cdef int i
    for i in range(axes):
        shape[i] = input_size[i]
    cdef int typenum = cnp.PyArray_TYPE(grad_output)
    cdef Scattering s
    cdef fc_scatter *job = &s.job
    s.kernels = kernels_for(typenum)
    cdef cnp.ndarray grad_x = empty(axes, shape, typenum)
    cdef Py_ssize_t channels = shape[axes - 1] if channels_last else 1
    cdef Py_ssize_t first = axes - (3 if channels_last else 2), wrong
    still(indices, cnp.NPY_INT64, cnp.PyArray_SIZE(grad_output))
    job.grad_x, job.grad_output = cnp.PyArray_DATA(grad_x), cnp.PyArray_DATA(grad_output)
    job.indices = <const int64_t *>cnp.PyArray_DATA(indices)
    job.channels = channels
    job.width, job.out_width = shape[first + 1], cnp.PyArray_DIM(grad_output, first + 1)
    job.pixels = shape[first] * job.width
    s.images = cnp.PyArray_SIZE(grad_x) // (job.pixels * channels)
    job.outputs = cnp.PyArray_SIZE(grad_output) // (s.images * channels)
    job.stream = (channels == 1 and cnp.PyArray_NBYTES(grad_x) >= FC_STREAMED
                  and job.width * s.kernels.itemsize % LINE_BYTES == 0
                  and <size_t>job.grad_x % LINE_BYTES == 0)
    # Images are shared out over threads; where they are few, their channels (by the cache line) are, too.
    s.parts = s.blocks = 1
    if num_threads > 1:
        s.parts = min(s.images, PARTS * num_threads)
        s.blocks = min(ceil_div(channels, FC_MAX_LANES), ceil_div(PARTS * num_threads, s.parts))
    with nogil:
        wrong = parallel_for(s.parts * s.blocks, num_threads, scatter_part, &s, IN_TURN)
    return None if wrong else grad_x


cdef Py_ssize_t scatter_part(const void *scattering, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Scattering *s = <const Scattering *>scattering
    cdef Py_ssize_t part = item // s.blocks, block = item % s.blocks
    return s.kernels.max_pool_backward(
        &s.job, s.images * part // s.parts, s.images * (part + 1) // s.parts,
        block_start(s.job.channels, block, s.blocks), block_start(s.job.channels, block + 1, s.blocks))


def share_maxima(cnp.ndarray grad_output not None, cnp.ndarray x not None, cnp.ndarray maxima not None,
                 Py_ssize_t size, int num_threads):
    """The gradient of x by its maxima over windows of size x size that tile it, shared by equal pixels.

    x is (N, C, H, W), no axis of it is empty; all arrays are of one dtype.
    """
    cdef int typenum = cnp.PyArray_TYPE(x)
    cdef cnp.ndarray grad_x = empty(4, cnp.PyArray_DIMS(x), typenum)
    cdef Sharing s
    cdef fc_ties *job = &s.job
    s.kernels = kernels_for(typenum)
    still(maxima, typenum, cnp.PyArray_SIZE(grad_output))
    still(x, typenum, cnp.PyArray_SIZE(maxima) * size * size)
    still(grad_output, typenum, cnp.PyArray_SIZE(maxima))
    job.grad_x, job.grad_output = cnp.PyArray_DATA(grad_x), cnp.PyArray_DATA(grad_output)
    job.x, job.maxima = cnp.PyArray_DATA(x), cnp.PyArray_DATA(maxima)
    job.size, job.out_w = size, cnp.PyArray_DIM(maxima, 3)
    s.rows = cnp.PyArray_SIZE(maxima) // job.out_w
    s.step = max(1, SHARED // (job.out_w * size * size))
    with nogil:
        parallel_for(ceil_div(s.rows, s.step), num_threads, share_rows, &s, EVENLY)
    return grad_x


cdef Py_ssize_t share_rows(const void *sharing, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Sharing *s = <const Sharing *>sharing
    s.kernels.share_maxima(&s.job, item * s.step, min((item + 1) * s.step, s.rows))
    return 0


cdef inline Py_ssize_t block_start(Py_ssize_t channels, Py_ssize_t block, Py_ssize_t blocks) noexcept nogil:
    """First channel of a block: a multiple of FC_MAX_LANES, but for the end of the last."""
    return channels if block == blocks else channels * block // blocks // FC_MAX_LANES * FC_MAX_LANES
