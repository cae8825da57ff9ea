from fastconv._kernels.correlation cimport Correlation, channels_inner, channels_last
from fastconv._kernels.isa cimport FC_TAP_ROWS, fc_ahead
from fastconv._kernels.operands cimport Band, Chunk
from fastconv._kernels.ranges cimport Range

cdef enum:
    TAP_CHANNELS = 32   # fewer make sums of one tap too short
    ACROSS_COLUMNS = 2      # of results: tiles across a batch of images are longer, and see taps alike,
    ACROSS_STRIDED = 4
    ACROSS_PADDED = 8       # which is all that they are better at where rows are longer
    TURNED_CHANNELS = 16    # fewer are not worth a turned band,
    TURNED_PRODUCTS = 128   # nor are fewer products that an input takes part in

ctypedef struct PanelJob:
    const Chunk *chunk
    const Band *band
    const char *x                   # where the windows of the chunk begin in the band
    Py_ssize_t rows                 # of each image of the chunk
    bint by_taps                    # whether the sums of some outputs are taken so
    Range rows_at_once, columns_at_once     # the others
    bint across                     # tiles have a pixel of several images, not several of a line
    bint unpadded                   # the band: no window's part outside of the image is read
    Py_ssize_t *table               # of the terms of a sum, as fill_table has it
    Py_ssize_t *tap_table           # of the same, by taps: pixels, then weights
    Range *seen_rows                # by a row of taps, of the chunk
    Range *seen_columns             # by a column of taps
    const char *weights             # packed, of the panel
    Py_ssize_t channel, channels    # of the panel, counted over all groups
    int vectors                     # of a tile
    Py_ssize_t width                # elements of these
    bint fetch_out                  # into the cache, before they are written
    Py_ssize_t lines_ahead          # that each tile fetches of what the next chunk reads, about
    bint in_place
    bint accumulate                 # sums are added to what is there; not by taps

cdef inline bint sums_by_taps(const Correlation *c) noexcept nogil:
    return c.in_channels >= TAP_CHANNELS and c.kernels.mr >= FC_TAP_ROWS

cdef inline bint goes_across(const Correlation *c) noexcept nogil:
    """Whether tiles go across images, since rows of results are short."""
    cdef Py_ssize_t most = ACROSS_PADDED if c.left > 0 and c.stride_w == 1 else ACROSS_COLUMNS
    if c.stride_w > 1:
        most = ACROSS_STRIDED
    return (sums_by_taps(c) and not channels_last(c) and (c.stride_w > 1 or c.taps_h * c.taps_w > 1)
            and c.out_w <= most and c.batch >= c.kernels.mr // 2)

cdef inline bint turns(const Correlation *c) noexcept nogil:
    """Whether bands of planes are worth turning (see Correlation.turned): tiles of few rows, or of images,
    wait for the cache otherwise, where each term is a line of its own."""
    return goes_across(c) or (
        not channels_last(c) and c.kernels.mr < FC_TAP_ROWS and c.in_channels >= TURNED_CHANNELS
        and c.out_channels * c.taps_h * c.taps_w >= TURNED_PRODUCTS * c.stride_h * c.stride_w)

cdef inline bint packed_by_taps(const Correlation *c) noexcept nogil:
    """Whether channels are the innermost loop of packed weights."""
    return channels_inner(c) or (sums_by_taps(c) and c.stride_w == 1)

cdef inline char *out_pixel(
        const Correlation *c, const PanelJob *job, Py_ssize_t image, Py_ssize_t row) noexcept nogil:
    """The first pixel, of the panel's first channel, in a row of outputs."""
    return c.out + c.kernels.itemsize * (
        (job.chunk.image + image) * c.out_image + (job.chunk.row + row) * c.out_row
        + job.channel * c.out_channel)

cdef Py_ssize_t most_taps(const Correlation *c) noexcept nogil
cdef void set_at_once(const Correlation *c, PanelJob *job) noexcept nogil
cdef void fill_tables(const Correlation *c, PanelJob *job) noexcept nogil
cdef void compute_panel(
    const Correlation *c, const PanelJob *job, fc_ahead *ahead, char *tiles) noexcept nogil
cdef void store_panel(
    const Correlation *c, const PanelJob *job, const char *tiles, char *turned) noexcept nogil
