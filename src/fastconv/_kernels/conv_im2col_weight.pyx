"""The gradient of the weight by the column matrix:

    grad[k, l] = sum over pixels of grad_output[k, pixel] * columns[l, pixel].

Workspace: partial sums for each of up to SPLITS parts of the sum, and for each thread a band of about
BAND_BYTES, a panel of the columns with the rows that it is transposed from, and tables.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels.correlation cimport (
    Correlation, align, ceil_div, channels_last, forward_correlation, strip_height, sum_length,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport FC_ADD, fc_kernels, fc_tile, kernels_for, new_tile
from fastconv._kernels.memory cimport for_threads, give_back, take
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, band_elements, chunk_at, cut, fill_pixels, fill_table, load_band,
)
from fastconv._kernels.threads cimport EVENLY, IN_TURN, PRODUCTS, parallel_for

cnp.import_array()

cdef enum:
    BAND_BYTES = 262144
    PIXELS = 4096             # of a chunk, at most
    SPLITS = 8                # most parts that the sum is cut into
    SPLIT_ITEMS = 16          # fewer independent panels than this make the sum be cut
    SPLIT_BYTES = 1048576     # most bytes of partial sums that cutting may cost


ctypedef struct WeightJob:
    Correlation c                   # the forward one; x is read, out is grad_output, weight unused
    Chunks chunks
    Py_ssize_t strips, height       # of output channels of a group
    Py_ssize_t length, panels       # terms of a forward sum; panels of nr of them
    Py_ssize_t splits               # parts of the sum; split s sums chunks from count*s/splits on
    Py_ssize_t sums_bytes           # of a panel's sums [out channel of the group][nr]
    Py_ssize_t table_bytes, panel_bytes, band_bytes
    char *sums                      # [splits][groups][panels]
    char *private                   # for each thread: two tables, rows to transpose, a panel, a band
    Py_ssize_t each
    char *grad


def grad_weight(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                cnp.ndarray grad not None, int num_threads):
    """grad = gradient of the weight."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef WeightJob job
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t panels
    job.c = forward_correlation(kernels, g, x, grad, None, grad_output, False)
    # These sizes must not depend on the number of threads: they decide the order of the sums.
    job.chunks = cut(&job.c, BAND_BYTES, PIXELS, 1)
    job.length = sum_length(&job.c)
    job.height = strip_height(&job.c)
    job.strips = ceil_div(job.c.out_channels, job.height)
    job.panels = ceil_div(job.length, nr)
    panels = job.panels * g.groups
    job.sums_bytes = align(job.c.out_channels * nr * size)
    job.splits = 1
    if panels < SPLIT_ITEMS:
        job.splits = min(SPLITS, ceil_div(SPLIT_ITEMS, panels), job.chunks.count,
                         SPLIT_BYTES // (panels * job.sums_bytes) + 1)
    cdef Py_ssize_t pixels = job.chunks.images * job.chunks.rows * job.c.out_w
    job.table_bytes = align(max(pixels, job.length) * sizeof(Py_ssize_t))
    job.panel_bytes = align(pixels * nr * size)
    job.band_bytes = align(band_elements(&job.c, job.chunks.images, job.chunks.rows) * size)
    job.each = 2 * job.table_bytes + 2 * job.panel_bytes + job.band_bytes
    job.sums = <char *>take(job.splits * panels * job.sums_bytes)
    job.private = <char *>take(for_threads(job.each, num_threads))
    job.grad = <char *>cnp.PyArray_DATA(grad)
    if job.sums == NULL or job.private == NULL:
        give_back(job.sums)
        give_back(job.private)
        raise MemoryError("no memory for the workspace of a convolution's gradient")
    with nogil:
        parallel_for(job.splits * panels, num_threads, sum_panel, &job, IN_TURN | PRODUCTS)
        parallel_for(panels, num_threads, finish_panel, &job, EVENLY)
        give_back(job.sums)
        give_back(job.private)


cdef Py_ssize_t sum_panel(const void *weight_job, Py_ssize_t item, int thread) noexcept nogil:
    """One split's sums of one panel of one group, over all of the group's output channels."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    cdef const Correlation *c = &job.c
    cdef Py_ssize_t split = item // (job.panels * c.groups), panel = item % (job.panels * c.groups)
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef char *private = job.private + job.each * thread
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef Py_ssize_t *pixel_table = <Py_ssize_t *>(private + job.table_bytes)
    cdef char *turned = private + 2 * job.table_bytes
    cdef char *packed = turned + job.panel_bytes
    cdef char *band_memory = packed + job.panel_bytes
    cdef char *sums = job.sums + item * job.sums_bytes
    cdef Py_ssize_t group = panel // job.panels
    cdef Py_ssize_t term = panel % job.panels * nr
    cdef Py_ssize_t terms = min(nr, job.length - term)
    cdef Py_ssize_t from_chunk = job.chunks.count * split // job.splits
    cdef Py_ssize_t to_chunk = job.chunks.count * (split + 1) // job.splits
    cdef Py_ssize_t index, strip, pixels
    cdef Chunk chunk
    cdef Band band
    cdef fc_tile tile = new_tile()
    tile.vectors = 2
    tile.a_row = c.out_channel
    tile.a_table = pixel_table
    tile.b = packed
    tile.b_step = nr
    tile.c_row = nr
    for index in range(from_chunk, to_chunk):
        chunk = chunk_at(c, &job.chunks, index)
        band = load_band(c, group, &chunk, band_memory)
        fill_table(c, &band, table)
        pixels = fill_pixels(&chunk, c.out_w, c.out_image, c.out_row, c.out_pixel, pixel_table)
        pack_terms(c, &chunk, &band, table + term, terms, pixels, turned, packed)
        tile.depth = pixels
        tile.accumulate = FC_ADD if index > from_chunk else 0
        for strip in range(job.strips):
            tile.rows = <int>min(job.height, c.out_channels - strip * job.height)
            tile.a = c.out + size * (chunk.image * c.out_image + chunk.row * c.out_row
                                     + (group * c.out_channels + strip * job.height) * c.out_channel)
            tile.c = sums + size * strip * job.height * nr
            kernels.gemm_tile(&tile)
    return 0


cdef void pack_terms(
        const Correlation *c, const Chunk *chunk, const Band *band, const Py_ssize_t *table, Py_ssize_t terms,
        Py_ssize_t pixels, char *turned, char *packed) noexcept nogil:
    """packed[pixel][term]: some rows of the column matrix, transposed; zero from `terms` on."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t image, row, at = 0
    for image in range(chunk.images):
        for row in range(chunk.rows):
            kernels.gather_rows(turned + at * size, pixels,
                                band.data + size * (image * band.image + row * c.stride_h * band.row),
                                table, band.step, terms, c.out_w, pixels - at)
            at += c.out_w
    if terms < nr:
        memset(packed, 0, pixels * nr * size)
    kernels.transpose(packed, nr, turned, pixels, terms, pixels)


cdef Py_ssize_t finish_panel(const void *weight_job, Py_ssize_t panel, int thread) noexcept nogil:
    """Adds the splits in order and writes the panel's columns of the gradient."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    cdef const Correlation *c = &job.c
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr, panels = job.panels * c.groups
    cdef Py_ssize_t split, channel, term = panel % job.panels * nr
    cdef Py_ssize_t terms = min(nr, job.length - term)
    cdef char *sums = job.sums + panel * job.sums_bytes
    for split in range(1, job.splits):
        kernels.add(sums, job.sums + (split * panels + panel) * job.sums_bytes, c.out_channels * nr)
    for channel in range(c.out_channels):
        write_terms(c, sums + channel * nr * size, term, terms,
                    job.grad + size * (panel // job.panels * c.weight_group + channel * c.weight_out))
    return 0


cdef void write_terms(
        const Correlation *c, const char *sums, Py_ssize_t term, Py_ssize_t terms, char *out) noexcept nogil:
    """Puts sums of terms [term, term + terms) where the weight has them."""
    cdef Py_ssize_t size = c.kernels.itemsize, k, at
    if not channels_last(c):
        c.kernels.gather(out + term * size, sums, 1, terms)
        return
    for k in range(terms):
        at = (term + k) % c.in_channels * c.weight_in + (term + k) // c.in_channels
        c.kernels.gather(out + at * size, sums + k * size, 1, 1)
