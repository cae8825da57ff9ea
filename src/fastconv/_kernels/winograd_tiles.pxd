from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport fc_kernels

cdef enum:
    PATCH = 6               # inputs of a tile along an axis of more than one tap
    BLOCK_POSITIONS = 1728  # of tiles that are transformed at a time, about

# An array of images. Steps count elements, here and below.
ctypedef struct View:
    char *data
    Py_ssize_t image, channel, row, pixel

# An axis of a correlation with stride 1: result o meets inputs o - before + i*dilation, i < taps, of which
# those from 0 to size - 1 exist.
ctypedef struct Axis:
    Py_ssize_t taps, size, before, out, dilation

# Every dilation-th pixel of an axis, from the first on; `before` zeros before them.
ctypedef struct Span:
    Py_ssize_t first, size, before

# What a phase of a dilation has of an axis: a correlation of neighbours.
ctypedef struct Phase:
    Span x, y                    # inputs, results
    Py_ssize_t after             # zeros behind the inputs

# Several images on one plane, cut into tiles; with dilated rows each phase of an image is one. Pixels of a
# tile are `apart` along a row, and tiles of these many phases interleave. Results of image (i, j) of a canvas
# begin at pixel (i * period_h, j * period_w), and windows with them.
ctypedef struct Canvas:
    int taps_h, taps_w           # both 2 to 5 and the same, or one of them 1
    int tile_h, tile_w           # outputs of a tile
    int patch_h                  # rows of its inputs
    int positions                # of a transformed tile
    Py_ssize_t images
    Py_ssize_t phases            # image n*phases + i is phase i of the rows of n
    Py_ssize_t step              # from a row of a phase to its next
    Py_ssize_t apart
    const Phase *rows            # by phases
    Phase columns                # all of them as one
    Py_ssize_t down, across      # images of a canvas
    Py_ssize_t period_h, period_w
    Py_ssize_t out_h, out_w      # of the largest phase
    Py_ssize_t tiles_h, tiles_w  # of a canvas
    Py_ssize_t tiles             # of all canvases

# Transformed tiles: element [position][tile][channel].
ctypedef struct Tiles:
    char *data
    Py_ssize_t position, tile

cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    return ceil_div(n, step) * step

cdef inline int patch_of(Py_ssize_t taps) noexcept nogil:
    """Inputs of a tile along an axis; an axis of one tap is not transformed."""
    return PATCH if taps > 1 else 1

cdef inline int positions_of(const Axis *rows, const Axis *columns) noexcept nogil:
    return patch_of(rows.taps) * patch_of(columns.taps)

cdef inline Py_ssize_t block_tiles(int positions) noexcept nogil:
    return BLOCK_POSITIONS // positions

cdef inline Py_ssize_t part(Py_ssize_t i, Py_ssize_t parts, Py_ssize_t n) noexcept nogil:
    """Where part i of n things begins, in parts that differ by one at most."""
    return i * n // parts

cdef inline Tiles tiles_at(
        char *data, Py_ssize_t tiles, Py_ssize_t channels, const fc_kernels *table) noexcept nogil:
    """Room for transformed tiles. Positions are a cache line apart, or all might share sets of the cache."""
    cdef Tiles result
    result.data = data
    result.tile = channels
    result.position = tiles * channels + 64 // table.itemsize
    return result

cdef View view_of(char *data, Py_ssize_t channels, Py_ssize_t height, Py_ssize_t width,
                  bint channels_last) noexcept nogil
cdef Axis axis_of(Py_ssize_t taps, Py_ssize_t size, Py_ssize_t before, Py_ssize_t out,
                  Py_ssize_t dilation) noexcept nogil
cdef Py_ssize_t phases_of(const Axis *axis) noexcept nogil
cdef Canvas canvas_of(Py_ssize_t images, const Axis *rows, const Axis *columns, Phase *phases) noexcept nogil
cdef Py_ssize_t scratch_elements(const fc_kernels *table, const Canvas *canvas) noexcept nogil
cdef void load_inputs(
    const fc_kernels *table, Tiles to, const View *x, const Canvas *canvas, Py_ssize_t tile,
    Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, char *scratch) noexcept nogil
cdef void load_grad_outputs(
    const fc_kernels *table, Tiles to, const View *y, const Canvas *canvas, Py_ssize_t tile,
    Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, char *scratch) noexcept nogil
cdef bint store_outputs(
    const fc_kernels *table, Tiles tiles, const View *y, const Canvas *canvas, Py_ssize_t tile,
    Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, const char *bias, bint relu,
    char *largest, char *scratch) noexcept nogil
cdef char *take_largest(const fc_kernels *table, int num_threads) except NULL
cdef char *largest_by(const fc_kernels *table, char *largest, int thread) noexcept nogil
cdef bint are_precise(
    const fc_kernels *table, char *largest, int num_threads, const char *results,
    Py_ssize_t count) noexcept nogil
