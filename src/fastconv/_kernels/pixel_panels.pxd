from fastconv._kernels.correlation cimport Correlation
from fastconv._kernels.isa cimport FC_MAX_NR, fc_ahead, fc_fetch_planes
from fastconv._kernels.operands cimport Band, Chunk, Chunks

cdef enum:
    RUNS_AHEAD = 2      # lists of panel_ahead

# Neighbours in one row of outputs.
ctypedef struct Run:
    Py_ssize_t image, row, column, count, at   # image and row counted in the chunk; at: column of the tile

# A tile's worth of pixels of a chunk.
ctypedef struct Panel:
    Run runs[FC_MAX_NR]
    int count                       # of runs
    Py_ssize_t pixels
    bint in_place                   # the tile's rows may be written to the output as they are

# Of each image's part of a chunk the same pixels, [first, first + count), one image after the other, in so
# many columns of tiles each: one that is left over stays zero, and nothing is written for it.
ctypedef struct Span:
    Py_ssize_t first, count, columns

cdef Chunks cut_pixels(const Correlation *c, Py_ssize_t at_least) noexcept nogil
cdef Py_ssize_t pixels_bytes(const Correlation *c, const Chunks *chunks) noexcept nogil
cdef Band load_pixels(
    const Correlation *c, Py_ssize_t group, const Chunk *chunk, char *buffer) noexcept nogil
cdef void fill_pixels_table(const Correlation *c, const Band *band, Py_ssize_t *table) noexcept nogil
cdef void find_panel(
    const Correlation *c, const Chunk *chunk, const Span *span, Py_ssize_t column, Py_ssize_t columns,
    Panel *panel) noexcept nogil
cdef void pack_panel(
    const Correlation *c, const Band *band, const Py_ssize_t *table, Py_ssize_t depth, const Panel *panel,
    char *packed) noexcept nogil
cdef void panel_ahead(
    const Correlation *c, const Chunk *chunk, const Band *band, const Span *span, Py_ssize_t column,
    Py_ssize_t columns, Py_ssize_t term, Py_ssize_t terms, fc_ahead *ahead) noexcept nogil
cdef fc_ahead chunk_ahead(
    const Correlation *c, const Chunks *chunks, Py_ssize_t index, Py_ssize_t next_index,
    Py_ssize_t tiles) noexcept nogil
cdef void write_panel(
    const Correlation *c, const Chunk *chunk, const Panel *panel, Py_ssize_t channel, Py_ssize_t channels,
    const char *results) noexcept nogil

cdef inline char *first_output(const Correlation *c, const Chunk *chunk, Py_ssize_t channel,
                               const Run *run) noexcept nogil:
    """`channel` is counted over all groups."""
    return c.out + c.kernels.itemsize * (
        (chunk.image + run.image) * c.out_image + (chunk.row + run.row) * c.out_row
        + run.column * c.out_pixel + channel * c.out_channel)


cdef inline void fetch_panel(fc_ahead *ahead, Py_ssize_t planes) noexcept nogil:
    """So many planes of each list."""
    cdef int i
    for i in range(RUNS_AHEAD):
        fc_fetch_planes(&ahead[i], planes)
