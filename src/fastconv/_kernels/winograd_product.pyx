"""Winograd's product: tiles of images to tiles of results, by way of U, V and M.

Transformed tiles of one block, V[position][tile][channel], times transformed weights,
U[panel][position][channel][column of the panel], is a matrix product at each of 36 positions, or of 6 where
kernels have one row or column; its result M[position][tile][output channel] is transformed back.

Threads share out blocks of tiles. Where tiles are few, transformed weights are not kept; where they are very
few, all threads transform the tiles together and share out the output channels, so that weights are gone
through once. (Threads that read what others wrote depend on how close their processors are: one virtual
machine's moved between 30 and 180 ns.) No sum depends on how.

Workspace in float32, twice that in float64: for all transformed weights 144 bytes a pair of channels, or 24
where kernels have one row or column, unless there are few tiles; and for each thread, with C input channels
of a group, at most about 144 * 96 * (C + 64) bytes for V and M (11 MB for 512 channels), or for few tiles
144 * (65536 + 256 * 64) bytes and 640 KB (13 MB).
"""

from libc.string cimport memset

from fastconv._kernels cimport memory
from fastconv._kernels.correlation cimport align, ceil_div, movers
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport (
    FC_ADD, fc_fetch_for_later, fc_fetch_rows, fc_kernels, fc_tile, new_tile, rows_of, vectors_for,
)
from fastconv._kernels.memory cimport for_threads, take_workspace
from fastconv._kernels.threads cimport EVENLY, IN_TURN, PRODUCTS, parallel_for
from fastconv._kernels.winograd_tiles cimport (
    Phase, Tiles, are_precise, axis_of, block_tiles, canvas_of, largest_by, load_inputs, part, phases_of,
    positions_of, round_up, scratch_elements, store_outputs, take_largest, tiles_at,
)

cdef enum:
    BLOCK_CHANNELS = 64      # output channels that are transformed back at a time, about
    FEW_TILES = 256          # see are_few
    SMALL_V = 1 << 14        # elements of a position of V that comes from cache for each panel of channels
    MOST_V = 1 << 16         # the same, at most, where tiles are few
    LEAST_TILES = 4          # register tiles a thread; with fewer, not all threads should transform weights
    LARGE_V = 1 << 17        # bytes of a position of V from which on the next one is fetched meanwhile
    LARGE_WEIGHT = 1 << 15   # channels in times out; beyond, the L2 cache does not keep a position of U
    PANEL_BYTES = 16384      # of a panel of U, which stays in the L1 cache
    U_BYTES = 655360         # of a panel that a block transforms for itself: it stays in the L2 cache

# Of all loops below; each has what it needs of it.
cdef struct Job:
    const Product *p
    char *u                      # where all weights are to be, transformed
    char *work                   # for each thread
    Py_ssize_t each
    char *largest                # for each thread, see are_precise
    Tiles v                      # of the block that all threads work on
    Py_ssize_t block, slices     # its number, and how many parts its channels are loaded in


cpdef bint are_few(Py_ssize_t tiles, Py_ssize_t in_channels, Py_ssize_t out_channels) noexcept nogil:
    """Whether tiles are so few that blocks of them transform weights anew: kept ones would have to come from
    memory for each block, unless the tiles have more to be read."""
    return tiles <= FEW_TILES and (tiles <= out_channels or tiles * in_channels <= SMALL_V)


cdef Product product_of(ConvGeometry g, const fc_kernels *table, bint for_grad_input) noexcept nogil:
    """What the geometry of one small kernel settles; the input's gradient goes from output channels to input
    channels, padded by the kernel's reach less what the input was."""
    cdef Product p
    memset(&p, 0, sizeof(p))
    p.table = table
    p.groups = g.groups
    p.in_channels = (g.out_channels if for_grad_input else g.in_channels) // g.groups
    p.out_channels = (g.in_channels if for_grad_input else g.out_channels) // g.groups
    p.u_channels = max(1, p.in_channels)
    p.panels = ceil_div(p.out_channels, table.nr)
    if for_grad_input:
        p.rows = axis_of(g.kernel_h, g.out_h, (g.kernel_h - 1) * g.dilation_h - g.top, g.height, g.dilation_h)
        p.columns = axis_of(g.kernel_w, g.out_w, (g.kernel_w - 1) * g.dilation_w - g.left, g.width,
                            g.dilation_w)
    else:
        p.rows = axis_of(g.kernel_h, g.height, g.top, g.out_h, g.dilation_h)
        p.columns = axis_of(g.kernel_w, g.width, g.left, g.out_w, g.dilation_w)
    p.positions = positions_of(&p.rows, &p.columns)
    return p


# ---- transformed weights ----


cdef inline Py_ssize_t u_position(const Product *p) noexcept nogil:
    """Elements from one position of a panel of U to the next, a cache line more than it needs."""
    return p.u_channels * p.table.nr + 64 // p.table.itemsize


cdef Py_ssize_t slice_channels(const Product *p) noexcept nogil:
    """Input channels of a slice of a panel of U, whose products are summed by themselves: the last one has
    fewer. By sizes alone, since it decides the order of a sum."""
    cdef Py_ssize_t slices = ceil_div(p.in_channels * p.table.nr * p.table.itemsize, PANEL_BYTES)
    return max(1, round_up(ceil_div(p.in_channels, max(1, slices)), p.table.lanes))


cdef Weights weights_of(ConvGeometry g, const char *data, bint for_grad_input) noexcept nogil:
    """For the input's gradient with flipped taps and the channels' roles exchanged."""
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, row = taps * (g.in_channels // g.groups)
    cdef Weights result
    result.data = data
    result.group = g.out_channels // g.groups * row
    result.column = taps if for_grad_input else row
    result.depth = row if for_grad_input else taps
    result.flip = for_grad_input
    return result


cdef void transform_panel(const Product *p, Py_ssize_t group, Py_ssize_t panel, Py_ssize_t channel,
                          char *u) noexcept nogil:
    """Of some input channels, from `channel` on."""
    cdef const Weights *w = &p.weights
    cdef Py_ssize_t first = panel * p.table.nr
    p.table.winograd_weight(
        u, u_position(p),
        w.data + p.table.itemsize * (group * w.group + first * w.column + channel * w.depth), w.column,
        w.depth, min(p.table.nr, p.out_channels - first), min(p.u_channels, p.in_channels - channel), w.flip,
        <int>p.rows.taps, <int>p.columns.taps)


cdef Py_ssize_t packed_elements(const Product *p) noexcept nogil:
    return p.groups * p.panels * p.positions * u_position(p)


cdef void transform_weights(const Product *p, char *u, int num_threads) noexcept:
    """All of U."""
    cdef Job job
    job.p, job.u = p, u
    with nogil:
        parallel_for(p.groups * p.panels, num_threads, transform_item, &job, EVENLY | PRODUCTS)


cdef Py_ssize_t transform_item(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Product *p = (<const Job *>job).p
    cdef Py_ssize_t bytes = p.table.itemsize * p.positions * u_position(p)
    transform_panel(p, item // p.panels, item % p.panels, 0, (<const Job *>job).u + item * bytes)
    return 0


# ---- blocks ----


cdef void set_blocks(Product *p, int num_threads) noexcept nogil:
    """Shares the tiles, and where they are few also the output channels, out to the threads."""
    cdef Py_ssize_t rows = p.table.mr, tiles = p.canvas.tiles
    cdef Py_ssize_t blocks, units
    p.shared = p.few and p.groups == 1 and num_threads > 1 and tiles < LEAST_TILES * rows * num_threads
    if p.few:
        blocks = ceil_div(tiles * p.in_channels, MOST_V * (num_threads if p.shared else 1))
        if p.groups == 1 and not p.shared:
            blocks = round_up(blocks, num_threads)
    else:
        blocks = ceil_div(tiles, block_tiles(p.positions)
                          * (2 if p.in_channels * p.out_channels > LARGE_WEIGHT else 1))
        if num_threads > 1 and p.groups == 1:
            blocks = min(round_up(blocks, num_threads), ceil_div(tiles, 4 * rows))
    p.unit = 1 if p.few else rows
    units = ceil_div(tiles, p.unit)
    p.blocks = max(1, min(blocks, units))
    p.block_tiles = ceil_div(units, p.blocks) * p.unit
    p.range_panels = ceil_div(p.panels, min(p.panels, ceil_div(num_threads, p.blocks * p.groups)))
    p.block_panels = ceil_div(p.range_panels, ceil_div(p.range_panels * p.table.nr, BLOCK_CHANNELS))
    if p.u == NULL:
        p.block_panels = 1
        p.u_channels = slice_channels(p)
        p.u_channels *= max(1, U_BYTES // (p.u_channels * p.table.nr * p.positions * p.table.itemsize))
    elif p.shared:
        p.block_panels = min(ceil_div(BLOCK_CHANNELS, p.table.nr), ceil_div(p.panels, num_threads))
    if p.shared:
        p.range_panels = p.block_panels
    p.ranges = ceil_div(p.panels, p.range_panels)


cdef Py_ssize_t block_start(const Product *p, Py_ssize_t block) noexcept nogil:
    """First tile of a block: blocks are of one size, or differ by one unit."""
    return min(part(block, p.blocks, ceil_div(p.canvas.tiles, p.unit)) * p.unit, p.canvas.tiles)


cdef void multiply(const Product *p, Tiles v, Tiles m, Py_ssize_t tiles, const char *u, Py_ssize_t first,
                   Py_ssize_t out_channels) noexcept nogil:
    """M = V U at each position, for the output channels of some panels and the input channels of U, which are
    those from `first` on; M += it where that isn't 0."""
    cdef const fc_kernels *table = p.table
    cdef Py_ssize_t size = table.itemsize, nr = table.nr
    cdef Py_ssize_t u_step = u_position(p)
    cdef Py_ssize_t channels = min(p.u_channels, p.in_channels - first)
    cdef Py_ssize_t depth = slice_channels(p), slices = max(1, ceil_div(channels, depth))
    cdef Py_ssize_t panels = ceil_div(out_channels, nr), v_bytes = size * tiles * v.tile, v_share
    cdef Py_ssize_t position, panel, i, channel, j, heights, rows, larger, ahead, share
    cdef const char *next_v
    cdef fc_tile tile = new_tile()
    tile.a_row = v.tile
    tile.a_step = 1
    tile.b_step = nr
    tile.c_row = m.tile
    for position in range(p.positions):
        next_v = v.data + size * (position + 1) * v.position
        # Small ones come fast enough as they are, and where tiles are few, U takes the room.
        v_share = 0
        if p.u != NULL and v_bytes >= LARGE_V and position + 1 < p.positions:
            v_share = ceil_div(v_bytes, panels * slices * ceil_div(tiles, table.mr))
        for panel in range(panels):
            tile.vectors = vectors_for(table, out_channels - panel * nr)
            heights = ceil_div(tiles, rows_of(table, tile.vectors))
            rows = tiles // heights
            larger = tiles - rows * heights     # register tiles with a row more
            for i in range(slices):
                channel = i * depth
                tile.depth = min(depth, channels - channel)
                tile.accumulate = FC_ADD if first + channel > 0 else 0
                tile.b = u + size * ((panel * p.positions + position) * u_step + channel * nr)
                ahead = size * nr * tile.depth
                share = ceil_div(ahead, heights)
                tile.a = v.data + size * (position * v.position + first + channel)
                tile.c = m.data + size * (position * m.position + panel * nr)
                for j in range(heights):
                    fc_fetch_rows(<const char *>tile.b + ahead + j * share, 0, 1,
                                  min(share, max(0, ahead - j * share)))
                    fc_fetch_for_later(next_v, v_share)
                    next_v += v_share
                    tile.rows = <int>(rows + (j < larger))
                    table.gemm_tile(&tile)
                    tile.a = <const char *>tile.a + size * tile.rows * v.tile
                    tile.c = <char *>tile.c + size * tile.rows * m.tile


cdef Tiles inputs_at(const Product *p, char *data) noexcept nogil:
    return tiles_at(data, p.block_tiles, round_up(p.in_channels, p.table.lanes), p.table)


cdef Py_ssize_t input_bytes(const Product *p) noexcept nogil:
    """Of a block's V."""
    return align(p.positions * inputs_at(p, NULL).position * p.table.itemsize)


cdef Py_ssize_t lay_out(const Product *p, char *work, Tiles *m, char **u, char **scratch) noexcept nogil:
    """One thread's workspace but for V; its bytes."""
    cdef Py_ssize_t size = p.table.itemsize
    m[0] = tiles_at(work, p.block_tiles, p.block_panels * p.table.nr, p.table)
    u[0] = m.data + align(p.positions * m.position * size)
    scratch[0] = u[0] + (align(p.block_panels * p.positions * u_position(p) * size) if p.u == NULL else 0)
    return scratch[0] - work + align(scratch_elements(p.table, &p.canvas) * size)


cdef void load_block(
        const Product *p, Tiles v, Py_ssize_t group, Py_ssize_t block, Py_ssize_t channel,
        Py_ssize_t channels, char *work) noexcept nogil:
    """Some channels, from a multiple of the lanes on, of the V of a block."""
    cdef Py_ssize_t first = block_start(p, block)
    cdef Tiles m
    cdef char *u
    cdef char *scratch
    lay_out(p, work, &m, &u, &scratch)
    v.data += channel * p.table.itemsize
    load_inputs(p.table, v, &p.x, &p.canvas, first, block_start(p, block + 1) - first,
                group * p.in_channels + channel, channels, scratch)


cdef bint convolve_range(
        const Product *p, Tiles v, Py_ssize_t group, Py_ssize_t block, Py_ssize_t index,
        char *largest, char *work) noexcept nogil:
    """A block's V times one range of output channels. Returns whether all is finite."""
    cdef const fc_kernels *table = p.table
    cdef Py_ssize_t size = table.itemsize, nr = table.nr
    cdef Py_ssize_t first = block_start(p, block)
    cdef Py_ssize_t tiles = block_start(p, block + 1) - first
    cdef Py_ssize_t panel = index * p.range_panels
    cdef Py_ssize_t last_panel = min(panel + p.range_panels, p.panels)
    cdef Py_ssize_t count, channels, channel, i, u_bytes = size * p.positions * u_position(p)
    cdef bint finite = True
    cdef const char *bias
    cdef char *u
    cdef char *own_u
    cdef char *scratch
    cdef Tiles m
    lay_out(p, work, &m, &own_u, &scratch)
    while panel < last_panel:
        count = min(p.block_panels, last_panel - panel)
        channels = min(count * nr, p.out_channels - panel * nr)
        u = own_u if p.u == NULL else <char *>p.u + (group * p.panels + panel) * u_bytes
        channel = 0
        while channel == 0 or channel < p.in_channels:
            if p.u == NULL:
                for i in range(count):
                    transform_panel(p, group, panel + i, channel, u + i * u_bytes)
            multiply(p, v, m, tiles, u, channel, channels)
            channel += p.u_channels
        bias = <const char *>NULL if p.bias == NULL else p.bias + size * (group * p.panels + panel) * nr
        finite &= store_outputs(table, m, &p.y, &p.canvas, first, tiles, group * p.out_channels + panel * nr,
                                channels, bias, p.relu, largest, scratch)
        panel += count
    return finite


cdef Py_ssize_t convolve_item(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """One block of tiles times one range of output channels of one group. Returns 1 unless all is finite."""
    cdef const Job *j = <const Job *>job
    cdef const Product *p = j.p
    cdef char *work = j.work + j.each * thread
    cdef Py_ssize_t group = item // (p.ranges * p.blocks), block = item % p.blocks
    cdef Tiles v = inputs_at(p, work)
    work += input_bytes(p)
    load_block(p, v, group, block, 0, p.in_channels, work)
    return not convolve_range(p, v, group, block, item // p.blocks % p.ranges,
                              largest_by(p.table, j.largest, thread), work)


cdef Py_ssize_t convolve_shared(Job *job, int num_threads) noexcept nogil:
    """All, one block of tiles after the other, and the threads together: V, then ranges of channels.

    Returns how many of the results aren't finite throughout.
    """
    cdef Py_ssize_t block, spoilt = 0
    job.slices = min(ceil_div(job.p.in_channels, job.p.table.lanes), 4 * num_threads)
    for block in range(job.p.blocks):
        job.block = block
        parallel_for(job.slices, num_threads, load_slice, job, EVENLY | PRODUCTS)
        spoilt += parallel_for(job.p.ranges, num_threads, convolve_shared_item, job, IN_TURN | PRODUCTS)
    return spoilt


cdef Py_ssize_t load_slice(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Job *j = <const Job *>job
    cdef Py_ssize_t lanes = j.p.table.lanes, vectors = ceil_div(j.p.in_channels, lanes)
    cdef Py_ssize_t channel = part(item, j.slices, vectors) * lanes
    cdef Py_ssize_t end = min(part(item + 1, j.slices, vectors) * lanes, j.p.in_channels)
    load_block(j.p, j.v, 0, j.block, channel, end - channel, j.work + j.each * thread)
    return 0


cdef Py_ssize_t convolve_shared_item(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Job *j = <const Job *>job
    return not convolve_range(j.p, j.v, 0, j.block, item, largest_by(j.p.table, j.largest, thread),
                              j.work + j.each * thread)


cdef int convolve(Product *p, int num_threads) except -1:
    """All of p.y. Returns whether it is finite, and as precise as results are to be."""
    cdef Job job
    cdef Tiles m
    cdef Phase *phases = NULL
    cdef char *packed = NULL
    cdef char *work = NULL
    cdef char *largest = NULL
    cdef char *u
    cdef char *scratch
    cdef Py_ssize_t items, spoilt
    try:
        phases = <Phase *>take_workspace(phases_of(&p.rows) * <Py_ssize_t>sizeof(Phase))
        p.canvas = canvas_of(p.images, &p.rows, &p.columns, phases)
        if p.canvas.tiles == 0 or p.groups == 0 or p.out_channels == 0:
            return True
        # Few panels would not do for all threads, which share out tiles then.
        p.few = are_few(p.canvas.tiles, p.in_channels, p.out_channels) and p.panels >= num_threads
        if p.u == NULL and not p.few:
            packed = take_workspace(packed_elements(p) * p.table.itemsize)
            transform_weights(p, packed, movers(packed_elements(p) * p.table.itemsize, num_threads))
            p.u = packed
        set_blocks(p, num_threads)
        job.p, job.each = p, lay_out(p, NULL, &m, &u, &scratch)
        job.largest = largest = take_largest(p.table, num_threads)
        if p.shared:
            work = take_workspace(input_bytes(p) + for_threads(job.each, num_threads))
            job.v, job.work = inputs_at(p, work), work + input_bytes(p)
            with nogil:
                spoilt = convolve_shared(&job, num_threads)
        else:
            items = p.groups * p.ranges * p.blocks
            num_threads = min(num_threads, items)
            job.each += input_bytes(p)
            job.work = work = take_workspace(for_threads(job.each, num_threads))
            with nogil:
                spoilt = parallel_for(items, num_threads, convolve_item, &job, IN_TURN | PRODUCTS)
        return spoilt == 0 and are_precise(
            p.table, largest, num_threads, p.y.data, p.images * p.y.image)
    finally:
        memory.give_back(largest)
        memory.give_back(work)
        memory.give_back(packed)
        memory.give_back(phases)
