from fastconv._kernels.correlation cimport Correlation

# One of the three loops of a sum over channels and taps, in elements.
ctypedef struct Axis:
    Py_ssize_t count
    Py_ssize_t weight_step
    Py_ssize_t band_step      # set by load_band

# Input rows of a chunk (some images, some rows of outputs) with their padding in place.
ctypedef struct Band:
    const char *data
    Py_ssize_t image, channel, row, pixel
    Py_ssize_t step      # between what neighbouring outputs of a row see

# How a correlation is cut into chunks: either whole images, or rows of one image.
ctypedef struct Chunks:
    Py_ssize_t images, rows          # of a chunk
    Py_ssize_t per_batch, per_image  # how many
    Py_ssize_t count                 # product of these

ctypedef struct Chunk:
    Py_ssize_t image, images, row, rows

cdef inline const char *first_window(
        const Correlation *c, const Correlation *part, const Band *band) noexcept nogil:
    """Where in a band of c the windows of a part begin."""
    return band.data + c.kernels.itemsize * (
        (c.top - part.top) * band.row + (c.left - part.left) * band.pixel)

cdef void sum_axes(const Correlation *c, bint by_taps, Axis *axes) noexcept nogil
cdef Band new_band(const Correlation *c, Py_ssize_t rows, char *buffer) noexcept nogil
cdef Py_ssize_t band_elements(const Correlation *c, Py_ssize_t images, Py_ssize_t rows) noexcept nogil
cdef Correlation cut_flat(const Correlation *whole, Py_ssize_t most) noexcept nogil
cdef Chunks cut(
    const Correlation *c, Py_ssize_t band_bytes, Py_ssize_t pixels, Py_ssize_t at_least) noexcept nogil
cdef Py_ssize_t a_pass(
    const Correlation *c, Py_ssize_t parts, Py_ssize_t bytes, Py_ssize_t most) noexcept nogil
cdef Chunk chunk_at(const Correlation *c, const Chunks *chunks, Py_ssize_t index) noexcept nogil
cdef bint needs_bands(const Correlation *c) noexcept nogil
cdef Band load_band(
    const Correlation *c, Py_ssize_t group, const Chunk *chunk, char *buffer, bint copy=*,
    bint unpadded=*) noexcept nogil
cdef void fill_table(const Correlation *c, const Band *band, Py_ssize_t *table) noexcept nogil
cdef Py_ssize_t sorted_elements(const Correlation *c, Py_ssize_t images, Py_ssize_t rows) noexcept nogil
cdef Band load_sorted(
    const Correlation *c, Py_ssize_t group, const Chunk *chunk, char *buffer, bint copy=*) noexcept nogil
cdef void fill_sorted_table(const Correlation *c, const Band *band, Py_ssize_t *table) noexcept nogil
cdef Py_ssize_t fill_pixels(
    const Chunk *chunk, Py_ssize_t columns, Py_ssize_t image_step, Py_ssize_t row_step,
    Py_ssize_t column_step, Py_ssize_t *table) noexcept nogil
cdef bint terms_follow(const Correlation *c, bint by_taps) noexcept nogil
cdef void pack_weight_panel(
    const Correlation *c, Py_ssize_t group, Py_ssize_t first, Py_ssize_t width, Py_ssize_t padded,
    char *packed, bint by_taps) noexcept nogil
