"""The gradient of the weight by the direct kernels:

    grad[k, c, i, j] = sum over pixels of grad_output[k, pixel] * band[c, pixel + (i, j)].

The product of conv_direct.pyx with the parts exchanged: input channels (or taps) are broadcast, the sum runs
over pixels, grad_output is transposed panel by panel.

Workspace: partial sums up to PACKED_BYTES for each of up to SPLITS parts of the sum, and for each thread a
band of about BAND_BYTES (SMALL_BYTES of small images), panels of grad_output up to TURNED_BYTES and the
table of the pixels.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels.correlation cimport (
    Correlation, align, ceil_div, forward_correlation, movers, panel_vectors, sum_length,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport FC_ADD, fc_ahead, fc_kernels, fc_tile, kernels_for, new_tile, rows_of
from fastconv._kernels.memory cimport for_threads, give_back, take
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, a_pass, band_elements, chunk_at, cut, cut_flat, fill_pixels, load_band,
    needs_bands,
)
from fastconv._kernels.read_ahead cimport grads_ahead, lines_of, nothing_ahead, pace, planes_ahead
from fastconv._kernels.threads cimport EVENLY, IN_TURN, PRODUCTS, parallel_for

cnp.import_array()

cdef enum:
    BAND_BYTES = 327680       # of a band that is copied
    MOST_BYTES = 1 << 30      # of one that lies in the image, of which some channels are in use at a time
    SMALL_BYTES = 1048576     # of one of small images, so that a chunk has
    LEAST_PIXELS = 128        # if there are so many: sums are read and written for each chunk
    PIXELS = 1024             # of a chunk, at most;
    POINT_PIXELS = 256        # for 1x1 kernels, whose chunks share no rows: panels stay in the nearest cache
    PACKED_BYTES = 6291456    # of partial sums at a time: more channels take several passes over the images
    TURNED_BYTES = 262144     # of panels of grad_output at a time, or one panel
    SPLITS = 8                # most parts that the sum is cut into
    LEAST_SPLITS = 4          # where the partial sums allow: threads that share a part read the same input
    SPLIT_ITEMS = 16          # fewer independent panels than this make the sum be cut into more parts
    SPLIT_BYTES = 4194304     # most bytes of partial sums that cutting may cost


ctypedef struct WeightJob:
    Correlation c                   # the forward one; x is read, out is grad_output, weight unused
    Chunks chunks
    Py_ssize_t panels               # of output channels, all groups
    Py_ssize_t splits               # parts of the sum; split s sums chunks from count*s/splits on
    Py_ssize_t length               # terms of a forward sum: elements of a row of grad
    Py_ssize_t panel_bytes          # of partial sums [length][nr]
    Py_ssize_t table_bytes, turned_bytes, band_bytes    # turned_bytes: of one panel
    Py_ssize_t together             # panels of grad_output in the workspace
    Py_ssize_t first, passed        # panels of this pass over the images
    Py_ssize_t ranges               # that they are shared out in
    char *sums                      # [splits][panels of a pass]
    char *private                   # for each thread: table, turned panels of grad_output, band
    Py_ssize_t each
    char *grad


def grad_weight(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                cnp.ndarray grad not None, int num_threads):
    """grad = gradient of the weight."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef WeightJob job
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t panels_a_pass
    cdef Correlation whole = forward_correlation(kernels, g, x, grad, None, grad_output, False)
    cdef Py_ssize_t most = POINT_PIXELS if sum_length(&whole) == whole.in_channels else PIXELS
    job.c = cut_flat(&whole, most)
    # These sizes must not depend on the number of threads: they decide the order of the sums.
    cdef Py_ssize_t band_bytes = BAND_BYTES if needs_bands(&job.c) else MOST_BYTES
    job.chunks = cut(&job.c, band_bytes, most, 1)
    if job.chunks.images * job.chunks.rows * job.c.out_w < LEAST_PIXELS:
        job.chunks = cut(&job.c, max(<Py_ssize_t>SMALL_BYTES, band_bytes), LEAST_PIXELS, 1)
    job.length = sum_length(&job.c)
    job.panels = ceil_div(job.c.out_channels, nr) * g.groups
    job.panel_bytes = align(job.length * nr * size)
    job.splits = 1
    if job.panels > 0:
        job.splits = min(max(LEAST_SPLITS, ceil_div(SPLIT_ITEMS, job.panels)), SPLITS,
                         max(1, job.chunks.count), SPLIT_BYTES // (job.panels * job.panel_bytes) + 1)
    cdef Py_ssize_t pixels = job.chunks.images * job.chunks.rows * job.c.out_w
    job.table_bytes = align(pixels * sizeof(Py_ssize_t))
    job.turned_bytes = align(pixels * nr * size)
    job.band_bytes = align(band_elements(&job.c, job.chunks.images, job.chunks.rows) * size)
    panels_a_pass = a_pass(&job.c, job.panels, job.panel_bytes, PACKED_BYTES)
    job.together = max(1, min(panels_a_pass, TURNED_BYTES // max(1, job.turned_bytes)))
    job.together = ceil_div(panels_a_pass, max(1, ceil_div(panels_a_pass, job.together)))
    job.each = job.table_bytes + job.together * job.turned_bytes + job.band_bytes
    job.sums = <char *>take(job.splits * panels_a_pass * job.panel_bytes)
    job.private = <char *>take(for_threads(job.each, num_threads))
    job.grad = <char *>cnp.PyArray_DATA(grad)
    if job.sums == NULL or job.private == NULL:
        give_back(job.sums)
        give_back(job.private)
        raise MemoryError("no memory for the workspace of a convolution's gradient")
    with nogil:
        job.first = 0
        while job.first < job.panels:
            job.passed = min(panels_a_pass, job.panels - job.first)
            job.ranges = ranges_of(&job, num_threads)
            parallel_for(job.splits * job.ranges, num_threads, sum_panels, &job, IN_TURN | PRODUCTS)
            parallel_for(job.passed, movers(job.splits * job.passed * job.panel_bytes, num_threads),
                         finish_panel, &job, EVENLY)
            job.first += job.passed
        give_back(job.sums)
        give_back(job.private)


cdef Py_ssize_t ranges_of(const WeightJob *job, int num_threads) noexcept nogil:
    """Each range loads all bands of its split: no more of them than threads where these get equal shares."""
    if num_threads == 1 or (job.splits == 1 and job.passed % num_threads == 0):
        return num_threads
    return min(job.passed, ceil_div(2 * num_threads, job.splits))


cdef Py_ssize_t sum_panels(const void *weight_job, Py_ssize_t item, int thread) noexcept nogil:
    """One split's sums of a range of panels of the pass."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    cdef const Correlation *c = &job.c
    cdef Py_ssize_t split = item // job.ranges, number = item % job.ranges
    cdef Py_ssize_t begin = job.passed * number // job.ranges
    cdef Py_ssize_t end = job.passed * (number + 1) // job.ranges
    cdef char *private = job.private + job.each * thread
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef char *turned = private + job.table_bytes
    cdef char *band_memory = turned + job.together * job.turned_bytes
    cdef Py_ssize_t panels = ceil_div(c.out_channels, c.kernels.nr)
    cdef Py_ssize_t from_chunk = job.chunks.count * split // job.splits
    cdef Py_ssize_t to_chunk = job.chunks.count * (split + 1) // job.splits
    cdef Py_ssize_t index, panel, group, last, count, pixels, i
    cdef Chunk chunk
    cdef Band band
    cdef fc_ahead ahead[2]
    for index in range(from_chunk, to_chunk):
        chunk = chunk_at(c, &job.chunks, index)
        panel = begin
        while panel < end:
            group = (job.first + panel) // panels
            last = min(end, (group + 1) * panels - job.first)
            band = load_band(c, group, &chunk, band_memory)
            pixels = fill_pixels(    # where their first taps lie in the band
                &chunk, c.out_w, band.image, c.stride_h * band.row, band.step, table)
            ahead[1] = nothing_ahead()
            while panel < last:
                count = min(job.together, last - panel)
                for i in range(count):
                    turn_panel(c, &chunk, job.first + panel + i, turned + i * job.turned_bytes)
                if panel + count < end:
                    ahead[0] = grads_ahead(c, chunk, job.first + panel + count, job.together)
                else:   # a chunk of no rows, and nothing to fetch, behind the last one
                    ahead[0] = grads_ahead(
                        c, chunk_at(c, &job.chunks, index + 1), job.first + begin, job.together)
                if band.data != band_memory:
                    ahead[1] = planes_ahead(c, chunk, &band)
                add_products(job, &band, table, pixels, turned, job.first + panel, count, index > from_chunk,
                             ahead, job.sums + (split * job.passed + panel) * job.panel_bytes)
                panel += count
    return 0


cdef void turn_panel(const Correlation *c, const Chunk *chunk, Py_ssize_t panel, char *turned) noexcept nogil:
    """turned[pixel][channel] = grad_output of one panel's channels, zero past the last one in a tile."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr, panels = ceil_div(c.out_channels, nr)
    cdef Py_ssize_t channel = panel % panels * nr
    cdef Py_ssize_t channels = min(nr, c.out_channels - channel)
    cdef Py_ssize_t width = panel_vectors(c, panel) * kernels.lanes
    cdef Py_ssize_t image, pixels = chunk.rows * c.out_w
    cdef const char *source
    channel += panel // panels * c.out_channels
    if channels < width and c.out_pixel == 1:
        memset(turned, 0, chunk.images * pixels * width * size)
    for image in range(chunk.images):
        source = c.out + size * (
            (chunk.image + image) * c.out_image + channel * c.out_channel + chunk.row * c.out_row)
        if c.out_pixel == 1:
            kernels.transpose(turned, width, source, c.out_channel, channels, pixels)
        else:
            kernels.pad_rows(turned, width, source, c.out_pixel, pixels, 0, channels, width - channels, 1)
        turned += pixels * width * size


cdef void add_products(
        const WeightJob *job, const Band *band, const Py_ssize_t *table, Py_ssize_t pixels,
        const char *turned, Py_ssize_t first, Py_ssize_t panels, bint accumulate, fc_ahead *ahead,
        char *sums) noexcept nogil:
    """sums[panel][c, i, j][channel] += band . turned[panel], of some panels from number `first` on.

    A tile's rows: input channels or taps, as fits better. What they read stays in cache for all of the
    panels, while that of the next ones is fetched.
    """
    cdef const Correlation *c = &job.c
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, mr = rows_of(kernels, panel_vectors(c, first))
    cdef Py_ssize_t row_step = c.dilation_h * band.row, column_step = c.dilation_w * band.pixel
    cdef bint along_taps = ceil_div(c.taps_w, mr) * c.in_channels < ceil_div(c.in_channels, mr) * c.taps_w
    cdef Py_ssize_t count = c.taps_w if along_taps else c.in_channels
    cdef Py_ssize_t others = c.in_channels if along_taps else c.taps_w
    cdef Py_ssize_t tiles = ceil_div(count, mr), a_block = panels * c.taps_h * others
    cdef Py_ssize_t index, at = 0, i, other, channel, tap, panel, width
    cdef fc_tile tile = new_tile()
    tile.depth = pixels
    tile.a_row = column_step if along_taps else band.channel
    tile.a_table = table
    tile.accumulate = FC_ADD if accumulate else 0
    if along_taps:
        ahead[1].planes = 0
    pace(&tile, ahead, ceil_div(lines_of(&ahead[0]), tiles * a_block),
         ceil_div(lines_of(&ahead[1]), max(1, (tiles - 1) * a_block)))
    for index in range(tiles):
        tile.rows = <int>((count - at) // (tiles - index))
        for panel in range(panels):
            tile.vectors = panel_vectors(c, first + panel)
            width = tile.vectors * kernels.lanes
            tile.b = turned + panel * job.turned_bytes
            tile.b_step = width
            tile.c_row = width if along_taps else c.taps_h * c.taps_w * width
            for i in range(c.taps_h):
                for other in range(others):
                    channel, tap = (other, at) if along_taps else (at, other)
                    tile.a = band.data + size * (channel * band.channel + i * row_step + tap * column_step)
                    tile.c = sums + panel * job.panel_bytes + size * width * (
                        (channel * c.taps_h + i) * c.taps_w + tap)
                    kernels.gemm_tile(&tile)
        at += tile.rows


cdef Py_ssize_t finish_panel(const void *weight_job, Py_ssize_t panel, int thread) noexcept nogil:
    """Adds the splits of a panel of the pass in order and writes the panel's rows of the gradient."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    cdef const fc_kernels *kernels = job.c.kernels
    cdef Py_ssize_t nr = kernels.nr, panels = ceil_div(job.c.out_channels, nr), split
    cdef Py_ssize_t channel = (job.first + panel) % panels * nr
    cdef Py_ssize_t channels = min(nr, job.c.out_channels - channel)
    cdef Py_ssize_t width = panel_vectors(&job.c, job.first + panel) * kernels.lanes
    cdef char *sums = job.sums + panel * job.panel_bytes
    for split in range(1, job.splits):
        kernels.add(sums, job.sums + (split * job.passed + panel) * job.panel_bytes, job.length * width)
    channel += (job.first + panel) // panels * job.c.out_channels
    kernels.transpose(job.grad + channel * job.length * kernels.itemsize, job.length,
                      sums, width, job.length, channels)
    return 0
