"""Convolution straight from the padded image: a tile is some pixels of a row by two vectors of channels, or
one where the last channels fit into it.

Pixels are broadcast from a padded band of the input, wherever stride and dilation put them; output channels
lie in vectors, their weights packed in panels [sum][channels of a tile]. Nothing of the size of a column
matrix exists. The gradient of the weight is the same product with the parts exchanged: input channels (or
taps) are broadcast, the sum runs over pixels, grad_output is transposed panel by panel.

A sum is taken in blocks of PANEL_BYTES of weights: these and the pixels that they meet stay in the
first-level cache while all tiles of a chunk run over them.

Workspace: packed weights up to PACKED_BYTES in all, and for each thread a band of about BAND_BYTES (never
less than the rows that one row of outputs needs), a panel of outputs and the table of the sum.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange
from libc.string cimport memcpy, memset

from fastconv._kernels.correlation cimport (
    Band, Chunk, Chunks, Correlation, a_pass, align, band_elements, band_height, beyond_cache, ceil_div,
    channels_last, chunk_at, compute_forward, compute_grad_input, cut, fill_table, first_window,
    forward_correlation, load_band, movers, pack_weight_panel, part_of, sum_length, weight_correlation,
)
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport FC_MAX_NR, fc_kernels, fc_tile, kernels_for, rows_of, vectors_for
from fastconv._kernels.memory cimport aligned, give_back, take
from fastconv._kernels.threads cimport thread_index

cnp.import_array()

cdef enum:
    PANEL_BYTES = 32768       # of the weights of a panel: terms of a sum at a time
    BAND_BYTES = 327680       # of a band, of which the channels of a block are in use at a time
    PIXELS = 1024             # of a chunk, at most
    SHORTEST_ROW = 96         # pixels that a row is cut into at least
    PACKED_BYTES = 4194304    # of packed weights at a time; more channels take several passes over the input
    SPLITS = 8                # most parts that the sum of a weight's gradient is cut into
    SPLIT_ITEMS = 16          # fewer independent panels than this make the sum be cut
    SPLIT_BYTES = 1048576     # most bytes of partial sums that cutting may cost


def forward(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray weight not None, bias,
            cnp.ndarray out not None, bint relu, int num_threads):
    """out = x convolved with weight, plus bias (or None), clipped at zero if relu."""
    compute_forward(correlate, g, x, weight, bias, out, relu, False, num_threads)


def forward_packed(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray packed not None, bias,
                   cnp.ndarray out not None, bint relu, int num_threads):
    """`forward` with a weight from `pack_weight`."""
    compute_forward(correlate, g, x, packed, bias, out, relu, True, num_threads)


def pack_weight(ConvGeometry g not None, cnp.ndarray weight not None, int num_threads):
    """All panels of the weight, for `forward_packed` with images of any size."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(weight))
    cdef Correlation c = weight_correlation(kernels, g, weight)
    cdef Py_ssize_t panels = c.groups * ceil_div(c.out_channels, kernels.nr), index
    cdef Py_ssize_t panel_bytes = align(sum_length(&c) * kernels.nr * kernels.itemsize)
    cdef cnp.ndarray packed = aligned(panels * panel_bytes, cnp.PyArray_TYPE(weight))
    cdef char *panel = <char *>cnp.PyArray_DATA(packed)
    for index in prange(panels, num_threads=num_threads, nogil=True, schedule="static"):
        pack_panel(&c, index, panel + index * panel_bytes)
    return packed


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, True, num_threads)


# Images' rows that the next chunk will read, fetched into the cache bit by bit while a chunk is computed:
# planes of channels, of which a chunk takes some rows each, are no stream that the processor's own
# prefetching follows.
ctypedef struct Ahead:
    const char *plane
    Py_ssize_t planes, plane_step   # that are left, and bytes from one to the next
    Py_ssize_t runs, run_step       # of rows that follow each other, of a plane; bytes from one to the next
    Py_ssize_t run, fetched         # the current one, and bytes of it that were fetched
    Py_ssize_t bytes                # of a run
    Py_ssize_t share                # bytes to fetch at a time


ctypedef struct PanelJob:
    const Chunk *chunk
    const Band *band
    const char *x                   # where the windows of the chunk begin in the band
    Py_ssize_t rows                 # of each image of the chunk
    Py_ssize_t *table
    const char *weights             # packed, of the panel
    Py_ssize_t channel, channels    # of the panel, counted over all groups
    int vectors                     # of a tile
    Py_ssize_t width                # elements of these
    Py_ssize_t out_table[FC_MAX_NR]  # where a panel's channels of the result begin
    bint fetch_out                  # into the cache, before they are written
    bint in_place


cdef Correlation cut_flat(const Correlation *whole) noexcept nogil:
    """A plane that flatten made one long row as several of one length, with bands of BAND_BYTES at most."""
    cdef Correlation c = whole[0]
    cdef Py_ssize_t most = max(SHORTEST_ROW, BAND_BYTES // (c.kernels.itemsize * max(c.in_channels, 1)))
    cdef Py_ssize_t rows = ceil_div(c.out_w, most)
    if not (c.parts == NULL and c.height == c.out_h == 1 and c.width == c.out_w and c.taps_w == 1):
        return c
    while rows * SHORTEST_ROW <= c.out_w:
        if c.out_w % rows == 0:
            c.out_h = c.height = rows
            c.out_w = c.width = c.out_w // rows
            c.x_row, c.out_row = c.width * c.x_pixel, c.out_w * c.out_pixel
            break
        rows += 1
    return c


cdef bint correlate(const Correlation *whole, int num_threads) noexcept nogil:
    """Computes all of the result. False where there was no memory; nothing is written then."""
    cdef fc_float_mode mode = 0
    cdef Correlation flat = cut_flat(whole)
    cdef const Correlation *c = &flat
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t length = sum_length(c)
    # Of all groups, and of all parts: those of the same channels follow each other.
    cdef Py_ssize_t panels = c.groups * ceil_div(c.out_channels, nr) * c.part_count
    cdef Py_ssize_t panel_bytes = align(length * nr * size)
    cdef Py_ssize_t panels_a_pass = a_pass(c, panels, panel_bytes, PACKED_BYTES)
    cdef Chunks chunks = cut(c, BAND_BYTES, PIXELS, num_threads * 2 if num_threads > 1 else 1)
    cdef Py_ssize_t band_bytes = align(band_elements(c, chunks.images, chunks.rows) * size)
    cdef Py_ssize_t table_bytes = align(length * sizeof(Py_ssize_t))
    cdef Py_ssize_t tiles_bytes = align(chunks.images * chunks.rows * c.out_w * nr * size)
    cdef Py_ssize_t turned_bytes = align(c.out_w * nr * size)
    cdef Py_ssize_t each = band_bytes + table_bytes + tiles_bytes + turned_bytes
    cdef char *packing = NULL if c.packed else <char *>take(panels_a_pass * panel_bytes)
    cdef char *private = <char *>take(each * num_threads)
    cdef const char *packed
    cdef Py_ssize_t first, passed, index, items
    cdef int splits
    if (packing == NULL and not c.packed) or private == NULL:
        give_back(packing)
        give_back(private)
        return False
    first = 0
    while first < panels:
        passed = min(panels_a_pass, panels - first)     # panels [first, first + passed)
        # Where chunks are too few for the threads, the panels of a pass are shared out as well.
        splits = <int>max(1, min(passed, ceil_div(2 * num_threads, chunks.count))) if num_threads > 1 else 1
        if c.packed:
            packed = c.weight + first * panel_bytes
        else:
            packed = packing
            for index in prange(passed, num_threads=movers(passed * panel_bytes, num_threads),
                                schedule="static"):
                pack_panel(c, first + index, packing + index * panel_bytes)
        items = chunks.count * splits
        with parallel(num_threads=num_threads):
            mode = fc_flush_denormals()
            for index in prange(items, schedule="dynamic"):
                compute_chunk(c, &chunks, index // splits, (index + num_threads) // splits, first,
                              first + passed * (index % splits) // splits,
                              first + passed * (index % splits + 1) // splits, packed, panel_bytes,
                              private + each * thread_index(), table_bytes, tiles_bytes, turned_bytes)
            fc_restore_float_mode(mode)
        first += passed
    give_back(packing)
    give_back(private)
    return True


cdef void pack_panel(const Correlation *c, Py_ssize_t index, char *packed) noexcept nogil:
    cdef Py_ssize_t nr = c.kernels.nr, panels = ceil_div(c.out_channels, nr), panel = index // c.part_count
    cdef Py_ssize_t channel = panel % panels * nr
    pack_weight_panel(part_of(c, index % c.part_count), panel // panels, channel,
                      min(nr, c.out_channels - channel), panel_vectors(c, panel) * c.kernels.lanes, packed)


cdef void compute_chunk(
        const Correlation *c, const Chunks *chunks, Py_ssize_t index, Py_ssize_t next_index, Py_ssize_t first,
        Py_ssize_t begin, Py_ssize_t end, const char *packed, Py_ssize_t panel_bytes, char *private,
        Py_ssize_t table_bytes, Py_ssize_t tiles_bytes, Py_ssize_t turned_bytes) noexcept nogil:
    """Output channels of panels [begin, end) for a chunk of pixels; packed holds panels from `first` on.

    Chunk `next_index` is probably this thread's next one.
    """
    cdef Chunk chunk = chunk_at(c, chunks, index)
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef char *tiles = private + table_bytes
    cdef char *turned = tiles + tiles_bytes
    cdef char *band_memory = turned + turned_bytes
    cdef Py_ssize_t panels = ceil_div(c.out_channels, c.kernels.nr)
    cdef Py_ssize_t item, panel, channel, group = -1
    cdef const Correlation *part = NULL
    cdef Band band
    cdef Ahead ahead
    cdef PanelJob job
    ahead.planes = 0
    if next_index != index and next_index < chunks.count and beyond_cache(c, c.x_image):
        ahead = rows_ahead(c, chunk_at(c, chunks, next_index), end - begin)
    job.chunk = &chunk
    job.band = &band
    job.table = table
    job.x = NULL
    job.rows = 0
    for item in range(begin, end):
        panel = item // c.part_count
        if panel // panels != group:
            group = panel // panels
            band = load_band(c, group, &chunk, band_memory)
            part = NULL
        if part != part_of(c, item % c.part_count):
            part = part_of(c, item % c.part_count)
            fill_table(part, &band, table)
            job.x = first_window(c, part, &band)
            job.rows = max(0, min(chunk.rows, part.out_h - chunk.row))
        job.weights = packed + (item - first) * panel_bytes
        job.channel = panel % panels * c.kernels.nr
        job.channels = min(<Py_ssize_t>c.kernels.nr, c.out_channels - job.channel)
        job.channel += group * c.out_channels
        job.vectors = panel_vectors(c, panel)
        job.width = job.vectors * c.kernels.lanes
        # Where a tile's vectors lie in the result as they do in registers, they go there at once.
        job.in_place = c.out_channel == 1 and job.channels == job.width
        job.fetch_out = not job.in_place and beyond_cache(c, c.out_image)
        for channel in range(job.channels):
            job.out_table[channel] = channel * c.out_channel
        compute_panel(part, &job, &ahead, tiles)
        if not job.in_place:
            store_panel(part, &job, tiles, turned)


cdef inline char *out_pixel(
        const Correlation *c, const PanelJob *job, Py_ssize_t image, Py_ssize_t row) noexcept nogil:
    """The first pixel, of the panel's first channel, in a row of outputs."""
    return c.out + c.kernels.itemsize * (
        (job.chunk.image + image) * c.out_image + (job.chunk.row + row) * c.out_row
        + job.channel * c.out_channel)


cdef Ahead rows_ahead(const Correlation *c, Chunk chunk, Py_ssize_t panels) noexcept nogil:
    """What load_band will read for a chunk; in as many parts as so many panels have tiles, at least."""
    cdef Py_ssize_t size = c.kernels.itemsize, top = chunk.row * c.stride_h - c.top
    cdef Py_ssize_t first = max(top, 0), last = min(top + band_height(c, chunk.rows), c.height)
    cdef Ahead ahead
    ahead.plane = c.x + size * (chunk.image * c.x_image + first * c.x_row)
    ahead.planes, ahead.plane_step = chunk.images * c.in_channels, size * c.x_channel
    ahead.run = ahead.fetched = 0
    ahead.run_step = size * c.stride_h * c.x_row
    if c.taps_h == 1 and c.stride_h > 1:    # rows in between are not read
        ahead.runs, ahead.bytes = ceil_div(last - first, c.stride_h), size * c.width * c.x_pixel
    else:
        ahead.runs, ahead.bytes = 1, size * (last - first) * c.x_row
    if c.groups > 1 or channels_last(c) or last <= first:
        ahead.planes = 0
    cdef Py_ssize_t tiles = panels * chunk.images * chunk.rows * ceil_div(c.out_w, c.kernels.mr)
    ahead.share = align(ceil_div(ahead.planes * ahead.runs * ahead.bytes, max(1, tiles)))
    return ahead


cdef inline void fetch(const fc_kernels *kernels, Ahead *ahead) noexcept nogil:
    cdef Py_ssize_t bytes = min(ahead.share, ahead.bytes - ahead.fetched)
    kernels.prefetch(ahead.plane + ahead.run * ahead.run_step + ahead.fetched, bytes)
    ahead.fetched += bytes
    if ahead.fetched == ahead.bytes:
        ahead.fetched = 0
        ahead.run += 1
        if ahead.run == ahead.runs:
            ahead.run = 0
            ahead.plane += ahead.plane_step
            ahead.planes -= 1


cdef void compute_panel(const Correlation *c, const PanelJob *job, Ahead *ahead, char *tiles) noexcept nogil:
    """One panel of channels, all pixels of a chunk: into `tiles` [pixel][channel], or in place."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, width = job.width, length = sum_length(c)
    cdef Py_ssize_t blocks = max(1, ceil_div(length * width * size, PANEL_BYTES))
    cdef Py_ssize_t tiles_a_row = ceil_div(c.out_w, rows_of(kernels, job.vectors))
    cdef Py_ssize_t step = c.stride_w * job.band.pixel
    cdef Py_ssize_t block, image, row, index, pixel, begin
    cdef const char *x
    cdef char *to
    cdef char column_bias[FC_MAX_NR * 8]
    cdef fc_tile tile
    tile.a_row = step
    tile.a_step = 0
    tile.vectors = job.vectors
    tile.b_step = width
    tile.c_row = c.out_pixel if job.in_place else width
    tile.row_bias = NULL
    tile.column_bias = NULL
    if c.bias != NULL:
        memset(column_bias, 0, width * size)
        memcpy(column_bias, c.bias + job.channel * size, job.channels * size)
        tile.column_bias = column_bias
    for block in range(blocks):
        begin = length * block // blocks
        tile.depth = length * (block + 1) // blocks - begin
        tile.a_table = job.table + begin
        tile.b = job.weights + begin * width * size
        tile.accumulate = block > 0
        tile.relu = c.relu and block == blocks - 1
        for image in range(job.chunk.images):
            for row in range(job.rows):
                x = job.x + size * (image * job.band.image + row * c.stride_h * job.band.row)
                if job.in_place:
                    to = out_pixel(c, job, image, row)
                else:
                    to = tiles + (image * job.rows + row) * c.out_w * width * size
                pixel = 0
                for index in range(tiles_a_row):
                    tile.rows = <int>((c.out_w - pixel) // (tiles_a_row - index))   # as even as possible
                    tile.a = x + pixel * step * size
                    tile.c = to + pixel * tile.c_row * size
                    if ahead.planes > 0:
                        fetch(kernels, ahead)
                    if block == blocks - 1 and job.fetch_out:   # what store_panel will write
                        kernels.fetch_rows(out_pixel(c, job, image, row) + pixel * c.out_pixel * size,
                                           job.out_table, job.channels, (tile.rows - 1) * c.out_pixel + 1)
                    kernels.gemm_tile(&tile)
                    pixel += tile.rows


cdef void store_panel(
        const Correlation *c, const PanelJob *job, const char *tiles, char *turned) noexcept nogil:
    """Moves a panel of outputs from `tiles` [pixel][channel] into place."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, width = job.width
    cdef Py_ssize_t image, row, index
    cdef char *out
    if c.out_pixel == 1 and c.out_row == c.out_w:   # rows follow each other
        for image in range(job.chunk.images):
            kernels.transpose(out_pixel(c, job, image, 0), c.out_channel, tiles, width,
                              job.rows * c.out_w, job.channels)
            tiles += job.rows * c.out_w * width * size
        return
    for image in range(job.chunk.images):
        for row in range(job.rows):
            out = out_pixel(c, job, image, row)
            if c.out_channel == 1:
                for index in range(c.out_w):
                    kernels.gather(out + index * c.out_pixel * size, tiles + index * width * size,
                                   1, job.channels)
            else:
                kernels.transpose(turned, c.out_w, tiles, width, c.out_w, job.channels)
                for index in range(job.channels):
                    kernels.scatter(out + index * c.out_channel * size, c.out_pixel,
                                    turned + index * c.out_w * size, c.out_w)
            tiles += c.out_w * width * size


# The gradient of the weight:
# grad[k, c, i, j] = sum over pixels of grad_output[k, pixel] * band[c, pixel + (i, j)].

ctypedef struct WeightJob:
    Correlation c                   # the forward one; x is read, out is grad_output, weight unused
    Chunks chunks
    Py_ssize_t panels               # of output channels, all groups
    Py_ssize_t splits               # parts of the sum; split s sums chunks from count*s/splits on
    Py_ssize_t length               # terms of a forward sum: elements of a row of grad
    Py_ssize_t panel_bytes          # of partial sums [length][nr]
    Py_ssize_t table_bytes, turned_bytes, band_bytes
    Py_ssize_t first, passed        # panels of this pass over the images
    char *sums                      # [splits][panels of a pass]
    char *private                   # for each thread: table, turned panel of grad_output, band
    Py_ssize_t each


def grad_weight(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                cnp.ndarray grad not None, int num_threads):
    """grad = gradient of the weight."""
    cdef fc_float_mode mode = 0
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef WeightJob job
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t index, items, ranges, panels_a_pass
    cdef char *out = <char *>cnp.PyArray_DATA(grad)
    job.c = forward_correlation(kernels, g, x, grad, None, grad_output, False)
    # These sizes must not depend on the number of threads: they decide the order of the sums.
    job.chunks = cut(&job.c, BAND_BYTES, PIXELS, 1)
    job.length = sum_length(&job.c)
    job.panels = ceil_div(job.c.out_channels, nr) * g.groups
    job.panel_bytes = align(job.length * nr * size)
    job.splits = 1
    if job.panels < SPLIT_ITEMS:
        job.splits = min(SPLITS, ceil_div(SPLIT_ITEMS, job.panels), job.chunks.count,
                         SPLIT_BYTES // (job.panels * job.panel_bytes) + 1)
    cdef Py_ssize_t pixels = job.chunks.images * job.chunks.rows * job.c.out_w
    job.table_bytes = align(pixels * sizeof(Py_ssize_t))
    job.turned_bytes = align(pixels * nr * size)
    job.band_bytes = align(band_elements(&job.c, job.chunks.images, job.chunks.rows) * size)
    job.each = job.table_bytes + job.turned_bytes + job.band_bytes
    panels_a_pass = a_pass(&job.c, job.panels, job.panel_bytes, PACKED_BYTES)
    job.sums = <char *>take(job.splits * panels_a_pass * job.panel_bytes)
    job.private = <char *>take(job.each * num_threads)
    if job.sums == NULL or job.private == NULL:
        give_back(job.sums)
        give_back(job.private)
        raise MemoryError("no memory for the workspace of a convolution's gradient")
    with nogil:
        job.first = 0
        while job.first < job.panels:
            job.passed = min(panels_a_pass, job.panels - job.first)
            ranges = min(job.passed, ceil_div(3 * num_threads, job.splits)) if num_threads > 1 else 1
            items = job.splits * ranges
            with parallel(num_threads=num_threads):
                mode = fc_flush_denormals()
                for index in prange(items, schedule="dynamic"):
                    sum_panels(&job, index // ranges, job.passed * (index % ranges) // ranges,
                               job.passed * (index % ranges + 1) // ranges,
                               job.private + job.each * thread_index())
                fc_restore_float_mode(mode)
            for index in prange(job.passed, schedule="static", num_threads=movers(
                    job.splits * job.passed * job.panel_bytes, num_threads)):
                finish_panel(&job, index, out)
            job.first += job.passed
        give_back(job.sums)
        give_back(job.private)


cdef void sum_panels(
        const WeightJob *job, Py_ssize_t split, Py_ssize_t begin, Py_ssize_t end,
        char *private) noexcept nogil:
    """One split's sums of panels [begin, end) of the pass."""
    cdef const Correlation *c = &job.c
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef char *turned = private + job.table_bytes
    cdef char *band_memory = turned + job.turned_bytes
    cdef Py_ssize_t panels = ceil_div(c.out_channels, c.kernels.nr)
    cdef Py_ssize_t from_chunk = job.chunks.count * split // job.splits
    cdef Py_ssize_t to_chunk = job.chunks.count * (split + 1) // job.splits
    cdef Py_ssize_t index, panel, group, last, pixels
    cdef Chunk chunk
    cdef Band band
    cdef Ahead ahead
    for index in range(from_chunk, to_chunk):
        chunk = chunk_at(c, &job.chunks, index)
        panel = begin
        while panel < end:
            group = (job.first + panel) // panels
            last = min(end, (group + 1) * panels - job.first)
            band = load_band(c, group, &chunk, band_memory)
            pixels = fill_pixel_table(c, &chunk, &band, table)
            while panel < last:
                turn_panel(c, &chunk, job.first + panel, turned)
                if panel + 1 < end:
                    ahead = grads_ahead(c, chunk, job.first + panel + 1)
                else:   # a chunk of no rows, and nothing to fetch, behind the last one
                    ahead = grads_ahead(c, chunk_at(c, &job.chunks, index + 1), job.first + begin)
                add_products(
                    c, &band, table, pixels, turned, panel_vectors(c, job.first + panel), index > from_chunk,
                    &ahead, job.sums + (split * job.passed + panel) * job.panel_bytes)
                panel += 1


cdef Py_ssize_t fill_pixel_table(
        const Correlation *c, const Chunk *chunk, const Band *band, Py_ssize_t *table) noexcept nogil:
    """table[p]: where pixel p's first tap lies in the band; returns the number of pixels."""
    cdef Py_ssize_t image, row, column, p = 0
    for image in range(chunk.images):
        for row in range(chunk.rows):
            for column in range(c.out_w):
                table[p] = image * band.image + row * c.stride_h * band.row + column * c.stride_w * band.pixel
                p += 1
    return p


cdef inline int panel_vectors(const Correlation *c, Py_ssize_t panel) noexcept nogil:
    """Of a tile of this panel, counted over all groups."""
    cdef Py_ssize_t panels = ceil_div(c.out_channels, c.kernels.nr)
    return vectors_for(c.kernels, c.out_channels - panel % panels * c.kernels.nr)


cdef Ahead grads_ahead(const Correlation *c, Chunk chunk, Py_ssize_t panel) noexcept nogil:
    """What turn_panel will read; add_products sets the share."""
    cdef Py_ssize_t size = c.kernels.itemsize, nr = c.kernels.nr, panels = ceil_div(c.out_channels, nr)
    cdef Py_ssize_t channel = panel % panels * nr
    cdef Ahead ahead
    ahead.planes, ahead.plane_step = min(nr, c.out_channels - channel), size * c.out_channel
    channel += panel // panels * c.out_channels
    ahead.plane = c.out + size * (
        chunk.image * c.out_image + channel * c.out_channel + chunk.row * c.out_row)
    ahead.runs, ahead.run_step = chunk.images, size * c.out_image
    ahead.run = ahead.fetched = ahead.share = 0
    ahead.bytes = size * chunk.rows * c.out_w
    if c.out_pixel != 1 or ahead.runs * ahead.bytes <= 0 or not beyond_cache(c, c.out_image):
        ahead.planes = 0
    return ahead


cdef void turn_panel(const Correlation *c, const Chunk *chunk, Py_ssize_t panel, char *turned) noexcept nogil:
    """turned[pixel][channel] = grad_output of one panel's channels, zero past the last one in a tile."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr, panels = ceil_div(c.out_channels, nr)
    cdef Py_ssize_t channel = panel % panels * nr
    cdef Py_ssize_t channels = min(nr, c.out_channels - channel)
    cdef Py_ssize_t width = panel_vectors(c, panel) * kernels.lanes
    cdef Py_ssize_t image, p, pixels = chunk.rows * c.out_w
    cdef const char *source
    channel += panel // panels * c.out_channels
    if channels < width:
        memset(turned, 0, chunk.images * pixels * width * size)
    for image in range(chunk.images):
        source = c.out + size * (
            (chunk.image + image) * c.out_image + channel * c.out_channel + chunk.row * c.out_row)
        if c.out_pixel == 1:
            kernels.transpose(turned, width, source, c.out_channel, channels, pixels)
        else:
            for p in range(pixels):
                kernels.gather(turned + p * width * size, source + p * c.out_pixel * size, 1, channels)
        turned += pixels * width * size


cdef void add_products(
        const Correlation *c, const Band *band, const Py_ssize_t *table, Py_ssize_t pixels,
        const char *turned, int vectors, bint accumulate, Ahead *ahead, char *sums) noexcept nogil:
    """sums[c, i, j][channel] += band . turned; a tile's rows: input channels or taps, as fits better."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, width = vectors * kernels.lanes, mr = rows_of(kernels, vectors)
    cdef Py_ssize_t row_step = c.dilation_h * band.row, column_step = c.dilation_w * band.pixel
    cdef bint along_taps = ceil_div(c.taps_w, mr) * c.in_channels < ceil_div(c.in_channels, mr) * c.taps_w
    cdef Py_ssize_t count = c.taps_w if along_taps else c.in_channels
    cdef Py_ssize_t others = c.in_channels if along_taps else c.taps_w
    cdef Py_ssize_t tiles = ceil_div(count, mr)
    cdef Py_ssize_t index, at = 0, i, other, channel, tap
    cdef fc_tile tile
    ahead.share = align(ceil_div(ahead.planes * ahead.runs * ahead.bytes, tiles * c.taps_h * others))
    tile.depth = pixels
    tile.a_row = column_step if along_taps else band.channel
    tile.a_step = 0
    tile.a_table = table
    tile.b = turned
    tile.b_step = width
    tile.vectors = vectors
    tile.c_row = width if along_taps else c.taps_h * c.taps_w * width
    tile.accumulate = accumulate
    tile.relu = 0
    tile.row_bias = tile.column_bias = NULL
    for index in range(tiles):
        tile.rows = <int>((count - at) // (tiles - index))
        for i in range(c.taps_h):
            for other in range(others):
                channel, tap = (other, at) if along_taps else (at, other)
                tile.a = band.data + size * (channel * band.channel + i * row_step + tap * column_step)
                tile.c = sums + size * width * ((channel * c.taps_h + i) * c.taps_w + tap)
                if ahead.planes > 0:
                    fetch(kernels, ahead)
                kernels.gemm_tile(&tile)
        at += tile.rows


cdef void finish_panel(const WeightJob *job, Py_ssize_t panel, char *out) noexcept nogil:
    """Adds the splits of a panel of the pass in order and writes the panel's rows of the gradient."""
    cdef const fc_kernels *kernels = job.c.kernels
    cdef Py_ssize_t nr = kernels.nr, panels = ceil_div(job.c.out_channels, nr), split
    cdef Py_ssize_t channel = (job.first + panel) % panels * nr
    cdef Py_ssize_t channels = min(nr, job.c.out_channels - channel)
    cdef Py_ssize_t width = panel_vectors(&job.c, job.first + panel) * kernels.lanes
    cdef char *sums = job.sums + panel * job.panel_bytes
    for split in range(1, job.splits):
        kernels.add(sums, job.sums + (split * job.passed + panel) * job.panel_bytes, job.length * width)
    channel += (job.first + panel) // panels * job.c.out_channels
    kernels.transpose(out + channel * job.length * kernels.itemsize, job.length,
                      sums, width, job.length, channels)
