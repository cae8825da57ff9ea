"""Convolution by Winograd's F(5x5, 2x2), F(4x4, 3x3), F(3x3, 4x4) and F(2x2, 5x5), forward and backward.

An image is cut into tiles of 5x5 to 2x2 outputs, each seeing 6x6 inputs, or for kernels of one row or column
into lines of 5 to 2 outputs along it, F(5, 2) to F(2, 5). How tiles and weights are transformed, multiplied
and transformed back is in winograd_product.pyx, the gradient of the weight in conv_winograd_weight.pyx.

A NaN or an infinity would spoil its whole tile, and numbers near the largest overflow before their sums do.
The transform back notices it, almost for nothing, and the direct kernels then compute the call again.

A dilated convolution is computed as many dense ones, see winograd_tiles.pyx, and one with a larger kernel or
a stride as one with a small kernel, see winograd_parts.pyx.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastconv._kernels import conv_direct, conv_winograd_weight

from fastconv._kernels cimport memory
from fastconv._kernels.correlation cimport check_arrays
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport kernels_for
from fastconv._kernels.memory cimport take_workspace
from fastconv._kernels.winograd_parts cimport (
    Parts, dense_geometry, image_at, images_at_once, join_images, parts_of, room_for_images, split_images,
    split_weight,
)
from fastconv._kernels.winograd_product cimport (
    Product, convolve, packed_elements, product_of, transform_weights, weights_of,
)
from fastconv._kernels.winograd_tiles cimport Phase, View, canvas_of, phases_of, round_up, view_of

cnp.import_array()


def supports(ConvGeometry g) -> bool:
    """Whether this algorithm can do the convolution."""
    return parts_of(g).count > 0


def tiling(ConvGeometry g, bint for_grad_input) -> tuple:
    """How many tiles g's results are cut into, those of all images; results of a tile; positions of a
    transformed one; and parts of the kernel. All are 0 where this algorithm cannot do it."""
    cdef Parts parts = parts_of(g)
    cdef ConvGeometry dense
    cdef Product p
    cdef Phase *phases
    if parts.count == 0:
        return 0, 0, 0, 0
    dense = dense_geometry(g, &parts)
    p = product_of(dense, kernels_for(cnp.NPY_FLOAT32), for_grad_input)
    phases = <Phase *>take_workspace(phases_of(&p.rows) * <Py_ssize_t>sizeof(Phase))
    p.canvas = canvas_of(g.batch, &p.rows, &p.columns, phases)
    memory.give_back(phases)
    return p.canvas.tiles, p.canvas.tile_h * p.canvas.tile_w, p.positions, parts.count


def pack_weight(ConvGeometry g, cnp.ndarray weight, int num_threads) -> cnp.ndarray:
    """The transformed weights that `forward_packed` takes, and behind them the weights as they are."""
    cdef int typenum = cnp.PyArray_TYPE(weight)
    cdef Parts parts = parts_of(g)
    cdef ConvGeometry dense = dense_geometry(g, &parts)
    cdef Product p = product_of(dense, kernels_for(typenum), False)
    cdef Py_ssize_t bytes = packed_elements(&p) * p.table.itemsize
    cdef cnp.ndarray packed = memory.aligned(bytes + cnp.PyArray_NBYTES(weight), typenum)
    cdef cnp.ndarray small = split_weight(dense, &parts, weight, num_threads)
    p.weights = weights_of(dense, cnp.PyArray_BYTES(small), False)
    transform_weights(&p, cnp.PyArray_BYTES(packed), num_threads)
    memcpy(cnp.PyArray_BYTES(packed) + bytes, cnp.PyArray_BYTES(weight), cnp.PyArray_NBYTES(weight))
    return packed


def forward(ConvGeometry g, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out, bint relu,
            int num_threads) -> None:
    """out = x * weight + bias, then max(out, 0) with `relu`; bias may be None."""
    cdef Parts parts = parts_of(g)
    cdef ConvGeometry dense = dense_geometry(g, &parts)
    cdef Product p = product_of(dense, kernels_for(cnp.PyArray_TYPE(x)), False)
    check_arrays(g, cnp.PyArray_TYPE(x), x, weight, bias, out)
    cdef cnp.ndarray small = split_weight(dense, &parts, weight, num_threads)
    p.weights = weights_of(dense, cnp.PyArray_BYTES(small), False)
    if not run_forward(&p, g, dense, &parts, x, bias, out, relu, num_threads):
        conv_direct.forward(g, x, weight, bias, out, relu, num_threads)


def forward_packed(ConvGeometry g, cnp.ndarray x, cnp.ndarray packed, bias, cnp.ndarray out, bint relu,
                   int num_threads) -> None:
    """`forward` with weights from `pack_weight`."""
    cdef Parts parts = parts_of(g)
    cdef ConvGeometry dense = dense_geometry(g, &parts)
    cdef Product p = product_of(dense, kernels_for(cnp.PyArray_TYPE(x)), False)
    check_arrays(g, cnp.PyArray_TYPE(x), x, None, bias, out)
    p.u = cnp.PyArray_BYTES(packed)
    if not run_forward(&p, g, dense, &parts, x, bias, out, relu, num_threads):
        conv_direct.forward(g, x, packed[packed_elements(&p):], bias, out, relu, num_threads)


cdef int run_forward(Product *p, ConvGeometry g, ConvGeometry dense, const Parts *parts, cnp.ndarray x, bias,
                     cnp.ndarray out, bint relu, int num_threads) except -1:
    """`run`, with the bias in whole panels of each group."""
    cdef Py_ssize_t size = p.table.itemsize, group
    cdef Py_ssize_t padded = size * round_up(p.out_channels, p.table.nr), filled = size * p.out_channels
    cdef char *panels = NULL
    p.relu = relu
    if bias is None:
        return run(p, g, dense, parts, x, out, False, num_threads)
    panels = take_workspace(p.groups * padded)
    try:
        memset(panels, 0, p.groups * padded)
        for group in range(p.groups):
            memcpy(panels + group * padded, cnp.PyArray_BYTES(bias) + group * filled, filled)
        p.bias = panels
        return run(p, g, dense, parts, x, out, False, num_threads)
    finally:
        memory.give_back(panels)


def grad_input(ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight, cnp.ndarray grad_x,
               int num_threads) -> None:
    """grad_x: grad_output convolved with the flipped weights, padded by their reach less what x was."""
    cdef Parts parts = parts_of(g)
    cdef ConvGeometry dense = dense_geometry(g, &parts)
    cdef Product p = product_of(dense, kernels_for(cnp.PyArray_TYPE(grad_output)), True)
    check_arrays(g, cnp.PyArray_TYPE(grad_output), grad_x, weight, None, grad_output)
    cdef cnp.ndarray small = split_weight(dense, &parts, weight, num_threads)
    p.weights = weights_of(dense, cnp.PyArray_BYTES(small), True)
    if not run(&p, g, dense, &parts, grad_x, grad_output, True, num_threads):
        conv_direct.grad_input(g, grad_output, weight, grad_x, num_threads)


cdef int run(const Product *p, ConvGeometry g, ConvGeometry dense, const Parts *parts, cnp.ndarray inputs,
             cnp.ndarray results, bint for_grad_input, int num_threads) except -1:
    """From images of g's inputs to images of its results, or back; as many at a time as parts are made of.

    Returns whether all is finite.
    """
    cdef Py_ssize_t each = images_at_once(dense, parts, p.table), image = 0
    cdef bint finite = True
    cdef Product some
    cdef View x, y
    cdef char *dense_x = room_for_images(dense, parts, p.table, each)
    cdef char *data
    try:
        while finite and image < g.batch:
            some = p[0]
            some.images = min(each, g.batch - image)
            data = image_at(inputs, g.batch, image)
            if dense_x != NULL and not for_grad_input:
                split_images(p.table, g, dense, parts, data, dense_x, some.images, num_threads)
            x = view_of(data if dense_x == NULL else dense_x, dense.in_channels, dense.height, dense.width,
                        g.channels_last)
            y = view_of(image_at(results, g.batch, image), g.out_channels, g.out_h, g.out_w, g.channels_last)
            some.x = y if for_grad_input else x
            some.y = x if for_grad_input else y
            finite = convolve(&some, num_threads)
            if dense_x != NULL and for_grad_input:
                join_images(p.table, g, dense, parts, data, dense_x, some.images, num_threads)
            image += some.images
    finally:
        memory.give_back(dense_x)
    return finite


grad_weight = conv_winograd_weight.grad_weight
