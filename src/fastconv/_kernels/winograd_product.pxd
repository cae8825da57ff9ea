from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels
from fastconv._kernels.winograd_tiles cimport Axis, Canvas, View

# The weights as they come. Steps count elements.
cdef struct Weights:
    const char *data
    Py_ssize_t group, column, depth
    bint flip

# y = x * weights, one convolution. Channels are those of one group.
cdef struct Product:
    const fc_kernels *table
    int positions                # of a transformed tile
    Py_ssize_t images
    View x, y
    Axis rows, columns
    Canvas canvas
    Py_ssize_t groups, in_channels, out_channels
    Weights weights
    const char *u                # transformed weights; NULL where each block transforms what it needs
    const char *bias             # NULL, or `panels` whole panels a group
    bint relu
    Py_ssize_t blocks, block_tiles   # block_tiles: of the largest
    Py_ssize_t unit                  # tiles, of which blocks are multiples
    Py_ssize_t panels            # of a group's output channels
    Py_ssize_t ranges, range_panels
    Py_ssize_t block_panels
    Py_ssize_t u_channels        # input channels that U has: all, or those a block transforms at a time
    bint few                     # tiles: as few blocks as possible, for each goes through all weights
    bint shared                  # all threads work on one block of tiles

cdef Product product_of(ConvGeometry g, const fc_kernels *table, bint for_grad_input) noexcept nogil
cdef Weights weights_of(ConvGeometry g, const char *data, bint for_grad_input) noexcept nogil
cdef Py_ssize_t packed_elements(const Product *p) noexcept nogil
cdef void transform_weights(const Product *p, char *u, int num_threads) noexcept
cdef int convolve(Product *p, int num_threads) except -1
