"""Convolution by Strassen's product (see strassen_parts.pyx) of images: sums of halves, by direct's tiles.

With m and n for sums of products, p1 to p7, and a and b for rows of an image, or pixels of one long row:

    m = p1                  first channels of a:  m + p2
    n = p3, m += p4         last channels of a:   m + n + p5
    m += p6                 last channels of b:   m + n,         first channels of b:  m + p7

(in the manner of Huss-Lederman et al., "Implementation of Strassen's algorithm for matrix multiplication",
1996).

Workspace: packed weights (see passes.pyx), and for each thread about BAND_BYTES of sums of the input (and
padded copies of it), sums of results of at most SUMS_BYTES and the tables of the sums.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastconv._kernels.correlation cimport (
    SEPARATELY, Correlation, align, band_height, band_width, beyond_cache, ceil_div, channels_last,
    compute_forward, compute_grad_input, panel_vectors, sum_length, weight_correlation,
)
from fastconv._kernels.direct_panel cimport PanelJob, compute_panel, set_at_once, store_panel
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport FC_MAX_NR, fc_ahead, fc_binary, kernels_for
from fastconv._kernels.operands cimport (
    Band, Chunk, band_elements, fill_table, load_band, needs_bands, new_band,
)
from fastconv._kernels.passes cimport Passes, Portion, passes_of, run_passes
from fastconv._kernels.read_ahead cimport lines_of, nothing_ahead, rows_ahead
from fastconv._kernels.strassen_parts cimport (
    A0, A1, B1, PRODUCTS, S1, S2, S3, S4, halved, halves, mend, pack_products, pack_with_weight,
)

cnp.import_array()

cdef enum:
    BAND_BYTES = 1179648      # of the input of a piece and of sums of it, about
    PIXELS = 1024             # of half a piece, at most
    SUMS_BYTES = 393216       # of m, n and their sum


# One convolution. A piece is some pixels of an image, cut in two: a and b, which share the one in the middle
# where their number is odd. Of a plane that is one long row pixels are counted, else rows.
cdef struct Product:
    const Correlation *whole
    Correlation half             # see halved
    bint flat                    # planes are one long row
    bint copies                  # whether a and b are copied, for their padding
    Py_ssize_t pieces            # of an image
    Py_ssize_t panels            # of half of the output channels
    Py_ssize_t panel_bytes       # of each of the seven packed ones
    Py_ssize_t group             # panels whose results are in the workspace together


# ---- weights ----


cdef void pack_panel(const void *product, Py_ssize_t panel, char *packed) noexcept nogil:
    """The seven panels for the output channels of this panel of a half."""
    cdef const Product *p = <const Product *>product
    cdef const Correlation *c = &p.half
    cdef Py_ssize_t nr = c.kernels.nr, channel = panel * nr
    pack_products(c, channel, min(nr, c.out_channels - channel), panel_vectors(c, panel) * c.kernels.lanes,
                  packed, p.panel_bytes)


cdef Passes passes_of_panels(const Product *p, int num_threads) noexcept nogil:
    return passes_of(
        p.whole, p.panels, PRODUCTS * p.panel_bytes, p.whole.batch * p.pieces, p.group, num_threads)


# ---- pieces ----


cdef Correlation piece_of(const Product *p, Py_ssize_t index, Chunk *a, Chunk *b) noexcept nogil:
    """The correlation that a and b are chunks of."""
    cdef Correlation c = p.whole[0]
    cdef Py_ssize_t piece = index % p.pieces, lines = c.out_w if p.flat else c.out_h
    cdef Py_ssize_t begin = lines * piece // p.pieces, count = lines * (piece + 1) // p.pieces - begin
    cdef Py_ssize_t half = ceil_div(count, 2)
    if p.flat:      # two rows
        c.x += begin * c.x_pixel * c.kernels.itemsize
        c.out += begin * c.out_pixel * c.kernels.itemsize
        c.width = c.out_w = half
        c.height = c.out_h = 2
        c.x_row, c.out_row = (count - half) * c.x_pixel, (count - half) * c.out_pixel
        begin, count, half = 0, 2, 1
    a.image = b.image = index // p.pieces
    a.images = b.images = 1
    a.rows = b.rows = half
    a.row, b.row = begin, begin + count - half
    return c


cdef Correlation largest_half(const Product *p) noexcept nogil:
    """The largest a, as one chunk of a correlation."""
    cdef Correlation c = p.whole[0]
    cdef Py_ssize_t lines = ceil_div(ceil_div(c.out_w if p.flat else c.out_h, p.pieces), 2)
    if p.flat:
        c.out_w = lines
    else:
        c.out_h = lines
    return c


# A thread's workspace.
cdef struct Room:
    Py_ssize_t *table            # of the terms of a sum in a and b
    Py_ssize_t *sums_table       # in sums of these
    char *a
    char *b
    char *sums
    char *m                      # [panel of the group][pixel][channel], as the next two
    char *n
    char *o
    char *turned


cdef Py_ssize_t lay_out(const Product *p, char *work, Room *room) noexcept nogil:
    """Returns the bytes."""
    cdef Correlation c = largest_half(p), half = halved(&c)
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef Py_ssize_t table_bytes = align(sum_length(&half) * <Py_ssize_t>sizeof(Py_ssize_t))
    cdef Py_ssize_t copy = align(band_elements(&c, 1, c.out_h) * size) if p.copies else 0
    cdef Py_ssize_t panel = half_panel_bytes(p)
    room.table = <Py_ssize_t *>work
    room.sums_table = <Py_ssize_t *>(work + table_bytes)
    room.a = work + 2 * table_bytes
    room.b = room.a + copy
    room.sums = room.b + copy
    room.m = room.sums + align(band_elements(&half, 1, c.out_h) * size)
    room.n = room.m + p.group * panel
    room.o = room.n + p.group * panel
    room.turned = room.o + p.group * panel
    return room.turned - work + panel


# ---- sums of images ----


cdef Band upper(const Correlation *half, const Band *band) noexcept nogil:
    """The other channels."""
    cdef Band result = band[0]
    result.data += half.in_channels * band.channel * half.kernels.itemsize
    return result


cdef void add_bands(
        const Correlation *half, Py_ssize_t rows, const Band *to, const Band *a, const Band *b,
        bint minus) noexcept nogil:
    """to = a + b, or a - b: run by run of what is dense in all three."""
    cdef bint last = channels_last(half)
    cdef Py_ssize_t height = band_height(half, rows), width = band_width(half), size = half.kernels.itemsize
    cdef Py_ssize_t outer = height if last else half.in_channels, inner = width if last else height
    cdef Py_ssize_t count = half.in_channels if last else width, i, j
    cdef fc_binary *add = half.kernels.minus if minus else half.kernels.plus
    cdef const Band *bands[3]
    cdef Py_ssize_t outer_step[3]
    cdef Py_ssize_t inner_step[3]
    bands[0], bands[1], bands[2] = to, a, b
    for i in range(3):
        outer_step[i] = size * (bands[i].row if last else bands[i].channel)
        inner_step[i] = size * (bands[i].pixel if last else bands[i].row)
    if inner_step[0] == inner_step[1] == inner_step[2] == size * count:
        count, inner = count * inner, 1
    for i in range(outer):
        for j in range(inner):
            add(<char *>to.data + i * outer_step[0] + j * inner_step[0],
                a.data + i * outer_step[1] + j * inner_step[1],
                b.data + i * outer_step[2] + j * inner_step[2], count, 0)


# ---- products ----


# Some panels of both halves of the output channels, for a piece.
cdef struct Task:
    const Product *product
    Correlation c                # of the piece, from half to half of the channels
    Portion panels               # of half of the output channels
    Py_ssize_t first_channel     # of the half of the output channels that is to be finished next
    PanelJob job
    fc_ahead ahead[2]


cdef bint compute_piece(
        const void *product, Py_ssize_t index, Py_ssize_t next_index, const Portion *panels,
        char *work) noexcept nogil:
    """Some panels of both halves of the output channels. Returns whether all is finite."""
    cdef const Product *p = <const Product *>product
    cdef bint goes_on = next_index != index and next_index < p.whole.batch * p.pieces
    cdef Chunk a, b, next_a, next_b
    cdef Correlation whole = piece_of(p, index, &a, &b)
    cdef Correlation later = piece_of(p, next_index if goes_on else index, &next_a, &next_b)
    cdef Band a0, a1, b0, b1, s
    cdef Room room
    cdef Task t
    cdef const Correlation *c = &t.c
    cdef bint finite = True
    lay_out(p, work, &room)
    t.product, t.c, t.panels = p, halved(&whole), panels[0]
    a0, b0 = load_band(&whole, 0, &a, room.a, p.copies), load_band(&whole, 0, &b, room.b, p.copies)
    a1, b1 = upper(c, &a0), upper(c, &b0)
    s = new_band(c, a.rows, room.sums)
    fill_table(c, &a0, room.table)
    fill_table(c, &s, room.sums_table)
    t.job.rows = a.rows
    t.job.accumulate = t.job.across = t.job.in_place = t.job.fetch_out = False
    set_at_once(c, &t.job)
    t.job.chunk, t.first_channel = &a, 0

    look_ahead(&t, 2, &whole if not p.copies else &later if goes_on else NULL,
               &next_a if p.copies else &b)
    multiply(&t, &a0, room.table, A0, room.m)
    expect(&t, &a, 0)
    multiply(&t, &a1, room.table, A1, room.n)
    finite &= finish(&t, room.o, room.m, room.n, room.turned)

    look_ahead(&t, 5, &later if goes_on else NULL, &next_b if p.copies else &next_a)
    add_bands(c, a.rows, &s, &b0, &b1, False)
    multiply(&t, &s, room.sums_table, S1, room.n)
    t.job.accumulate = True
    add_bands(c, a.rows, &s, &s, &a0, True)
    multiply(&t, &s, room.sums_table, S2, room.m)
    c.kernels.plus(room.o, room.m, room.n, (panels.end - panels.begin) * panel_elements(&t), 0)
    add_bands(c, a.rows, &s, &a1, &s, True)
    expect(&t, &a, 1)
    multiply(&t, &s, room.sums_table, S4, room.o)
    finite &= finish(&t, room.o, room.o, NULL, room.turned)
    add_bands(c, a.rows, &s, &a0, &b0, True)
    expect(&t, &b, 1)
    multiply(&t, &s, room.sums_table, S3, room.m)
    finite &= finish(&t, room.o, room.m, room.n, room.turned)
    expect(&t, &b, 0)
    multiply(&t, &b1, room.table, B1, room.m)
    finite &= finish(&t, room.m, room.m, NULL, room.turned)
    return finite


cdef void look_ahead(Task *t, int products, const Correlation *c, const Chunk *chunk) noexcept nogil:
    """Has the tiles of so many products fetch a chunk; c may be NULL."""
    cdef Py_ssize_t tiles = t.job.rows * ceil_div(t.c.out_w, t.c.kernels.mr)
    tiles *= products * (t.panels.end - t.panels.begin)
    t.ahead[0] = t.ahead[1] = nothing_ahead()
    if c != NULL and beyond_cache(c, c.x_image):
        t.ahead[0] = rows_ahead(c, chunk[0])
    t.job.lines_ahead = ceil_div(lines_of(&t.ahead[0]), max(1, tiles))


cdef void expect(Task *t, const Chunk *chunk, int half) noexcept nogil:
    """The next product is the last one for these results, whose lines are fetched meanwhile."""
    t.job.chunk, t.first_channel = chunk, half * t.c.out_channels
    t.job.fetch_out = beyond_cache(&t.c, t.c.out_image)


cdef void set_panel(Task *t, Py_ssize_t panel) noexcept nogil:
    cdef Py_ssize_t nr = t.c.kernels.nr
    t.job.vectors = panel_vectors(&t.c, panel)
    t.job.width = t.job.vectors * t.c.kernels.lanes
    t.job.channel = t.first_channel + panel * nr
    t.job.channels = min(nr, t.c.out_channels - panel * nr)


cdef inline Py_ssize_t panel_elements(const Task *t) noexcept nogil:
    """From a panel of results in the workspace to the next."""
    return t.job.rows * t.c.out_w * t.c.kernels.nr


cdef void multiply(Task *t, const Band *band, Py_ssize_t *table, int number, char *results) noexcept nogil:
    """results = the product of an operand with its weights, or += with job.accumulate."""
    cdef Py_ssize_t panel
    t.job.band, t.job.x, t.job.table = band, band.data, table
    for panel in range(t.panels.begin, t.panels.end):
        set_panel(t, panel)
        t.job.weights = t.panels.packed + (
            (panel - t.panels.first) * PRODUCTS + number) * t.product.panel_bytes
        compute_panel(&t.c, &t.job, t.ahead, results)
        results += panel_elements(t) * t.c.kernels.itemsize
    t.job.fetch_out = False


cdef bint finish(Task *t, char *to, const char *x, const char *y, char *turned) noexcept nogil:
    """The results x + y, or x where y is NULL, by way of `to`, which may be x.

    Returns whether all is finite.
    """
    cdef const Correlation *whole = t.product.whole
    cdef Py_ssize_t size = whole.kernels.itemsize, step = panel_elements(t) * size, panel
    cdef char bias[FC_MAX_NR * 8]
    cdef bint finite = True
    for panel in range(t.panels.begin, t.panels.end):
        set_panel(t, panel)
        if whole.bias != NULL:
            memset(bias, 0, sizeof(bias))
            memcpy(bias, whole.bias + t.job.channel * size, t.job.channels * size)
        finite &= whole.kernels.join_sums(to, x, y, <char *>NULL if whole.bias == NULL else bias,
                                          t.job.rows * t.c.out_w, t.job.vectors, whole.relu)
        store_panel(&t.c, &t.job, to, turned)
        to += step
        x += step
        if y != NULL:
            y += step
    return finite


# ---- whole convolutions ----


cdef Product product_of(const Correlation *whole) noexcept nogil:
    cdef Product p
    p.whole = whole
    p.half = halved(whole)
    p.flat = whole.height == whole.out_h == 1 and whole.width == whole.out_w and whole.taps_w == 1
    p.copies = needs_bands(whole)
    p.panels = ceil_div(p.half.out_channels, whole.kernels.nr)
    p.panel_bytes = align(sum_length(&p.half) * whole.kernels.nr * whole.kernels.itemsize)
    p.pieces = p.group = 1
    if whole.x != NULL:
        cut_pieces(&p)
    return p


cdef void cut_pieces(Product *p) noexcept nogil:
    """As few as there may be. They depend on the sizes alone, and with them which pixels are added."""
    cdef Py_ssize_t lines = p.whole.out_w if p.flat else p.whole.out_h
    cdef Py_ssize_t shortest = 2 * p.whole.kernels.mr if p.flat else 1
    while 2 * shortest * (p.pieces + 1) <= lines and is_large(p):
        p.pieces += 1
    p.group = max(1, min(p.panels, SUMS_BYTES // (3 * half_panel_bytes(p))))


cdef Py_ssize_t half_panel_bytes(const Product *p) noexcept nogil:
    """Of a panel of results of half a piece."""
    cdef Correlation c = largest_half(p)
    return align(c.out_h * c.out_w * c.kernels.nr * c.kernels.itemsize)


cdef bint is_large(const Product *p) noexcept nogil:
    cdef Correlation c = largest_half(p), half = halved(&c)
    cdef Py_ssize_t elements = 2 * band_elements(&c, 1, c.out_h) + band_elements(&half, 1, c.out_h)
    return c.out_h * c.out_w > PIXELS or elements * c.kernels.itemsize > BAND_BYTES


cdef bint correlate(const Correlation *whole, int num_threads) noexcept nogil:
    """Computes all of the result. False where there was no memory."""
    cdef Product p = product_of(whole)
    cdef Passes passes = passes_of_panels(&p, num_threads)
    cdef Room room
    p.group = passes.at_once
    return mend(whole, &passes, run_passes(
        &passes, &p, pack_panel, compute_piece, lay_out(&p, NULL, &room), num_threads), num_threads)


def supports(ConvGeometry g, bint for_grad_input=False) -> bool:
    """Whether this algorithm can do the convolution, or the gradient of its input."""
    cdef Py_ssize_t rows = g.height if for_grad_input else g.out_h
    cdef Py_ssize_t columns = g.width if for_grad_input else g.out_w
    cdef bint flat = (g.kernel_h == g.kernel_w == g.stride_h == g.stride_w == 1 and g.top == g.left == 0
                      and g.height == g.out_h and g.width == g.out_w)
    return halves(g, for_grad_input) and (rows > 1 or (flat and rows * columns > 1))


def forward(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray weight not None, bias,
            cnp.ndarray out not None, bint relu, int num_threads):
    """out = x convolved with weight, plus bias (or None), clipped at zero if relu."""
    compute_forward(correlate, g, x, weight, bias, out, relu, False, num_threads)


def forward_packed(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray packed not None, bias,
                   cnp.ndarray out not None, bint relu, int num_threads):
    """`forward` with a weight from `pack_weight`."""
    compute_forward(correlate, g, x, packed, bias, out, relu, True, num_threads)


def pack_weight(ConvGeometry g not None, cnp.ndarray weight not None, int num_threads):
    """All panels of the weight, for `forward_packed` with images of any size, and behind them the weight."""
    cdef Correlation c = weight_correlation(kernels_for(cnp.PyArray_TYPE(weight)), g, weight)
    cdef Product p = product_of(&c)
    cdef Passes passes = passes_of_panels(&p, num_threads)
    return pack_with_weight(&passes, &p, pack_panel, weight, num_threads)


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, SEPARATELY, num_threads)
