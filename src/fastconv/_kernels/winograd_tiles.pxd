from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport fc_kernels

cdef enum:
    PATCH = 6              # inputs of a tile along an axis
    POSITIONS = 36         # of a transformed tile
    BLOCK_TILES = 48       # that are transformed at a time, about

# An array of images. Steps count elements, here and below.
ctypedef struct View:
    char *data
    Py_ssize_t height, width
    Py_ssize_t image, channel, row, pixel

# Several images on one plane, cut into tiles. Image (i, j) of a canvas has its first output at pixel
# (i * period_h, j * period_w), its first input `top` and `left` pixels further on.
ctypedef struct Canvas:
    int side                     # taps along an axis, 3 or 5
    int tile                     # outputs of a tile along an axis, PATCH + 1 - side
    Py_ssize_t images
    Py_ssize_t down, across      # images of a canvas
    Py_ssize_t period_h, period_w
    Py_ssize_t top, left
    Py_ssize_t out_h, out_w
    Py_ssize_t tiles_h, tiles_w  # of a canvas
    Py_ssize_t tiles             # of all canvases

# Transformed tiles: element [position][tile][channel].
ctypedef struct Tiles:
    char *data
    Py_ssize_t position, tile

cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    return ceil_div(n, step) * step

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
cdef Canvas canvas_of(int side, Py_ssize_t images, const View *x, Py_ssize_t top, Py_ssize_t bottom,
                      Py_ssize_t left, Py_ssize_t right, Py_ssize_t out_h, Py_ssize_t out_w) noexcept nogil
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
    char *scratch) noexcept nogil
