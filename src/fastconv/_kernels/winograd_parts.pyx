"""Kernels that are large or have a stride, as small ones of stride 1, which Winograd's algorithm can do.

With stride s, each s-th tap of a kernel meets each s-th pixel of an image: those taps are a kernel of
stride 1 on an image of those pixels. Where they are still too many, runs of them are kernels, too, each on an
image that is shifted. All these images are channels of one image, and these kernels, the parts, are one with
as many channels: (N, C, H, W) with (K, C, R, R) becomes

    (N, S*S*C, P + side - 1, Q + side - 1) with (K, S*S*C, side, side),     S parts along an axis,

whose channel (i*S + j)*C + c is part (i, j) of channel c. Padding is pixels of these images, and taps that a
part lacks are zeros. 11x11 with stride 4 is 16 times 3x3, 7x7 with stride 1 is 4 times 4x4. A kernel of one
row or column is cut along it: 1x7 is twice 1x4.

Workspace: the weights of all parts, and the images of parts, as many at a time as take DENSE_BYTES, or one.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastconv._kernels.correlation cimport ceil_div, movers
from fastconv._kernels.memory cimport empty, give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.winograd_tiles cimport View, view_of

cnp.import_array()

cdef enum:
    LEAST_SIDE = 2          # of the kernels of parts
    MOST_SIDE = 5
    MOST_RUNS = 2           # so that parts have four times as many pixels as the image, at most
    DENSE_BYTES = 1 << 24   # of the images of parts at a time, about


cdef Parts parts_of(ConvGeometry g) noexcept nogil:
    """count is 1 for a kernel that is small as it is, and 0 where there is no way."""
    cdef Parts parts
    cdef bint square = g.kernel_h == g.kernel_w > 1 and g.stride_h == g.stride_w
    cdef bint dense = (g.kernel_h == 1 or g.dilation_h == 1) and (g.kernel_w == 1 or g.dilation_w == 1)
    parts.h, parts.w = cut_axis(g.kernel_h, g.stride_h), cut_axis(g.kernel_w, g.stride_w)
    parts.count = parts.h.count * parts.w.count
    if not square and is_left(&parts.h) == is_left(&parts.w):
        parts.count = 0
    if parts.count > 1 and (g.groups > 1 or not dense):
        parts.count = 0
    return parts


cdef Cut cut_axis(Py_ssize_t taps, Py_ssize_t stride) noexcept nogil:
    """count is 0 where there is no way."""
    cdef Py_ssize_t phase = ceil_div(taps, stride)
    cdef Cut cut
    cut.taps, cut.stride = taps, stride
    cut.runs = ceil_div(phase, MOST_SIDE)
    cut.side = ceil_div(phase, cut.runs)
    cut.count = stride * cut.runs
    if cut.runs > MOST_RUNS or (cut.side < LEAST_SIDE and not is_left(&cut)):
        cut.count = 0
    return cut


cdef inline bint is_left(const Cut *cut) noexcept nogil:
    """Whether the axis has one tap, which is left as it is."""
    return cut.taps == cut.stride == 1


cdef inline Py_ssize_t first_tap(const Cut *cut, Py_ssize_t part) noexcept nogil:
    return part % cut.stride + part // cut.stride * cut.stride * cut.side


cdef ConvGeometry dense_geometry(ConvGeometry g, const Parts *parts):
    """The convolution of the parts; g where there is one."""
    if parts.count == 1:
        return g
    channels = parts.count * g.in_channels
    return ConvGeometry(
        (g.batch, channels, g.out_h + parts.h.side - 1, g.out_w + parts.w.side - 1),
        (g.out_channels, channels, parts.h.side, parts.w.side),
        (g.out_h, g.out_w), (1, 1), (1, 1), ((0, 0), (0, 0)), 1, g.channels_last)


cdef Py_ssize_t images_at_once(ConvGeometry dense, const Parts *parts,
                               const fc_kernels *table) noexcept nogil:
    """All, where there is one part."""
    if parts.count == 1:
        return dense.batch
    return max(1, min(dense.batch, DENSE_BYTES // max(1, image_bytes(dense, table))))


cdef inline Py_ssize_t image_bytes(ConvGeometry dense, const fc_kernels *table) noexcept nogil:
    return table.itemsize * dense.in_channels * dense.height * dense.width


cdef char *room_for_images(ConvGeometry dense, const Parts *parts, const fc_kernels *table,
                           Py_ssize_t images) except? NULL:
    """For the images of the parts; for `give_back`. NULL where there is one part."""
    return NULL if parts.count == 1 else take_workspace(images * image_bytes(dense, table))


cdef char *image_at(cnp.ndarray array, Py_ssize_t images, Py_ssize_t image) noexcept:
    """Where an image of an array of them begins."""
    return cnp.PyArray_BYTES(array) + cnp.PyArray_NBYTES(array) // images * image


# ---- weights ----


cdef Py_ssize_t *places_of(ConvGeometry dense, const Parts *parts) except NULL:
    """Where each tap of a channel is in a dense filter whose first channel it is; for `give_back`."""
    cdef const Cut *h = &parts.h
    cdef const Cut *w = &parts.w
    cdef Py_ssize_t part_taps = dense.in_channels // parts.count * h.side * w.side, row, column, part
    cdef Py_ssize_t *places = <Py_ssize_t *>take_workspace(h.taps * w.taps * <Py_ssize_t>sizeof(Py_ssize_t))
    for row in range(h.taps):
        for column in range(w.taps):
            part = part_of(h, row) * w.count + part_of(w, column)
            places[row * w.taps + column] = (
                part * part_taps + row // h.stride % h.side * w.side + column // w.stride % w.side)
    return places


cdef inline Py_ssize_t part_of(const Cut *cut, Py_ssize_t tap) noexcept nogil:
    """The part that has a tap."""
    return tap % cut.stride + tap // (cut.stride * cut.side) * cut.stride


# Both ways, filter by filter.
cdef struct Filters:
    const Parts *parts
    const Py_ssize_t *places
    Py_ssize_t channels          # of the image
    void *small                  # the dense weight
    void *large
    bint single, joining


cdef int move_weight(ConvGeometry dense, const Parts *parts, cnp.ndarray dense_weight, cnp.ndarray weight,
                     bint joining, int num_threads) except -1:
    """To the dense weight, or back when `joining`."""
    cdef Py_ssize_t *places = places_of(dense, parts)
    cdef Filters f
    f.parts, f.places, f.channels = parts, places, dense.in_channels // parts.count
    f.small, f.large = cnp.PyArray_DATA(dense_weight), cnp.PyArray_DATA(weight)
    f.single, f.joining = cnp.PyArray_TYPE(weight) == cnp.NPY_FLOAT32, joining
    num_threads = movers(cnp.PyArray_NBYTES(weight), num_threads)
    with nogil:
        parallel_for(dense.out_channels, num_threads, move_filter, &f, EVENLY)
    give_back(places)
    return 0


cdef Py_ssize_t move_filter(const void *filters, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Filters *f = <const Filters *>filters
    if f.single:
        move_taps(f, <float *>f.small, <float *>f.large, item)
    else:
        move_taps(f, <double *>f.small, <double *>f.large, item)
    return 0


cdef void move_taps(const Filters *f, cython.floating *dense_weight, cython.floating *weight,
                    Py_ssize_t k) noexcept nogil:
    cdef const Py_ssize_t *places = f.places
    cdef Py_ssize_t taps = f.parts.h.taps * f.parts.w.taps, part_taps = f.parts.h.side * f.parts.w.side, c, i
    cdef cython.floating *small
    cdef cython.floating *large
    for c in range(f.channels):
        small = dense_weight + (k * f.parts.count * f.channels + c) * part_taps
        large = weight + (k * f.channels + c) * taps
        for i in range(taps):
            if f.joining:
                large[i] = small[places[i]]
            else:
                small[places[i]] = large[i]


cdef cnp.ndarray dense_weight(ConvGeometry dense, const Parts *parts, int typenum):
    """Room for the weight of the dense convolution."""
    cdef cnp.npy_intp[4] shape
    shape[0], shape[1] = dense.out_channels, dense.in_channels
    shape[2], shape[3] = parts.h.side, parts.w.side
    return empty(4, shape, typenum)


cdef cnp.ndarray split_weight(ConvGeometry dense, const Parts *parts, cnp.ndarray weight, int num_threads):
    """The weight of the dense convolution."""
    if parts.count == 1:
        return weight
    cdef cnp.ndarray result = dense_weight(dense, parts, cnp.PyArray_TYPE(weight))
    memset(cnp.PyArray_DATA(result), 0, cnp.PyArray_NBYTES(result))
    move_weight(dense, parts, result, weight, False, num_threads)
    return result


cdef int join_weight(ConvGeometry dense, const Parts *parts, cnp.ndarray dense_weight, cnp.ndarray weight,
                     int num_threads) except -1:
    """Its gradient as the gradient of the weight."""
    return move_weight(dense, parts, dense_weight, weight, True, num_threads)


# ---- images ----

# What a part has of the image's columns, or rows: column `first` of the part is column `from_first` of the
# image, and `count` columns of the part from there on are in the image.
cdef struct Reach:
    Py_ssize_t first, count, from_first

# Both ways. Rows are moved channel by channel, or where channels come last, with all channels.
cdef struct Move:
    const fc_kernels *table
    Parts parts
    View x, dense
    Py_ssize_t height, width, dense_height, dense_width
    Py_ssize_t seen              # rows: those behind have no tap, only what parts have instead
    Py_ssize_t top
    Py_ssize_t channels
    bint channels_last
    const Reach *rows            # by parts along an axis
    const Reach *columns
    Py_ssize_t paired            # columns, the first ones, of which two parts have the even and the odd ones


cdef Reach reach_of(const Cut *cut, Py_ssize_t part, Py_ssize_t before, Py_ssize_t size,
                    Py_ssize_t dense_size) noexcept nogil:
    cdef Py_ssize_t begin = first_tap(cut, part) - before
    cdef Reach reach
    reach.first = min(ceil_div(max(-begin, 0), cut.stride), dense_size)
    reach.count = max(0, min(dense_size, ceil_div(max(size - begin, 0), cut.stride)) - reach.first)
    reach.from_first = begin + reach.first * cut.stride
    return reach


cdef inline Py_ssize_t seen_of(const Cut *cut, Py_ssize_t size, Py_ssize_t out,
                               Py_ssize_t before) noexcept nogil:
    """How far the windows reach."""
    return max(0, min(size, (out - 1) * cut.stride + cut.taps - before))


cdef inline Py_ssize_t reaches_of(const Parts *parts) noexcept nogil:
    """Room that move_of needs."""
    return parts.h.count + parts.w.count


cdef Move move_of(const fc_kernels *table, ConvGeometry g, ConvGeometry dense, const Parts *parts, char *x,
                  char *dense_x, Reach *reaches) noexcept nogil:
    cdef Move m
    cdef Reach *columns = reaches + parts.h.count
    cdef Py_ssize_t part, seen_w = seen_of(&parts.w, g.width, g.out_w, g.left)
    m.table, m.parts, m.rows, m.columns = table, parts[0], reaches, columns
    m.x = view_of(x, g.in_channels, g.height, g.width, g.channels_last)
    m.dense = view_of(dense_x, dense.in_channels, dense.height, dense.width, g.channels_last)
    m.height, m.width, m.dense_height, m.dense_width = g.height, g.width, dense.height, dense.width
    m.seen = seen_of(&parts.h, g.height, g.out_h, g.top)
    m.top, m.channels, m.channels_last = g.top, g.in_channels, g.channels_last
    for part in range(parts.h.count):
        reaches[part] = reach_of(&parts.h, part, g.top, m.seen, dense.height)
    for part in range(parts.w.count):
        columns[part] = reach_of(&parts.w, part, g.left, seen_w, dense.width)
    m.paired = 0
    if (parts.w.stride == parts.w.count == 2 and parts.h.runs == 1 and not g.channels_last
            and columns[0].from_first + columns[1].from_first == 1
            and 0 <= even_columns(&m).count - odd_columns(&m).count <= 1):
        m.paired = columns[0].count + columns[1].count
    return m


cdef inline const Reach *even_columns(const Move *m) noexcept nogil:
    """Of two parts the one that has column 0."""
    return &m.columns[m.columns[0].from_first]


cdef inline const Reach *odd_columns(const Move *m) noexcept nogil:
    return &m.columns[1 - m.columns[0].from_first]


cdef inline char *part_row(const Move *m, Py_ssize_t image, Py_ssize_t channel, Py_ssize_t row,
                           Py_ssize_t part_h, Py_ssize_t part_w) noexcept nogil:
    """Where a row of a part begins."""
    return m.dense.data + m.table.itemsize * (
        image * m.dense.image + row * m.dense.row
        + ((part_h * m.parts.w.count + part_w) * m.channels + channel) * m.dense.channel)


cdef inline char *image_row(const Move *m, Py_ssize_t image, Py_ssize_t channel, Py_ssize_t y) noexcept nogil:
    return m.x.data + m.table.itemsize * (image * m.x.image + channel * m.x.channel + y * m.x.row)


cdef Py_ssize_t split_row(const void *move, Py_ssize_t item, int thread) noexcept nogil:
    """A row of all parts, of channels that come last."""
    cdef const Move *m = <const Move *>move
    cdef Py_ssize_t image = item // m.dense_height, row = item % m.dense_height
    cdef Py_ssize_t size = m.table.itemsize, pixel = size * m.channels, part_h, part_w, j
    cdef const Reach *rows
    cdef const Reach *reach
    cdef const char *source
    cdef char *target
    cdef bint inside
    for part_h in range(m.parts.h.count):
        rows = &m.rows[part_h]
        inside = rows.first <= row < rows.first + rows.count
        source = image_row(m, image, 0, rows.from_first + (row - rows.first) * m.parts.h.stride)
        for part_w in range(m.parts.w.count):
            reach = &m.columns[part_w]
            target = part_row(m, image, 0, row, part_h, part_w)
            for j in range(m.dense_width):
                if inside and reach.first <= j < reach.first + reach.count:
                    memcpy(target, source + (reach.from_first + (j - reach.first) * m.parts.w.stride) * pixel,
                           pixel)
                else:
                    memset(target, 0, pixel)
                target += size * m.dense.pixel
    return 0


cdef Py_ssize_t split_plane(const void *move, Py_ssize_t item, int thread) noexcept nogil:
    """All parts of a channel that is a plane."""
    cdef const Move *m = <const Move *>move
    cdef Py_ssize_t image = item // m.channels, channel = item % m.channels
    cdef Py_ssize_t row = m.table.itemsize * m.dense.row, part_h, part_w
    cdef const Reach *rows
    cdef const Reach *reach
    cdef char *target
    for part_h in range(m.parts.h.count):
        rows = &m.rows[part_h]
        for part_w in range(m.parts.w.count):
            reach = &m.columns[part_w]
            target = part_row(m, image, channel, 0, part_h, part_w)
            memset(target, 0, rows.first * row)
            target += rows.first * row
            m.table.pad_rows(
                target, m.dense.row,
                image_row(m, image, channel, rows.from_first) + m.table.itemsize * reach.from_first,
                m.parts.h.stride * m.x.row, rows.count, reach.first, reach.count,
                m.dense_width - reach.first - reach.count, m.parts.w.stride)
            memset(target + rows.count * row, 0, (m.dense_height - rows.first - rows.count) * row)
    return 0


cdef int split_images(const fc_kernels *table, ConvGeometry g, ConvGeometry dense, const Parts *parts,
                      const char *x, char *dense_x, Py_ssize_t images, int num_threads) except -1:
    """The images of the parts."""
    cdef Reach *reaches = <Reach *>take_workspace(reaches_of(parts) * <Py_ssize_t>sizeof(Reach))
    cdef Move m = move_of(table, g, dense, parts, <char *>x, dense_x, reaches)
    num_threads = movers(images * m.dense.image * table.itemsize, num_threads)
    with nogil:
        if m.channels_last:
            parallel_for(images * m.dense_height, num_threads, split_row, &m, EVENLY)
        else:
            parallel_for(images * m.channels, num_threads, split_plane, &m, EVENLY)
    give_back(reaches)
    return 0


cdef bint join_pairs(
        const Move *m, Py_ssize_t image, Py_ssize_t channel, Py_ssize_t y, char *target) noexcept nogil:
    """join_row from two parts, without zeros first. False where no part has the row."""
    cdef Py_ssize_t size = m.table.itemsize, stride = m.parts.h.stride
    cdef Py_ssize_t part_h = (y + m.top) % stride, row = (y + m.top) // stride
    cdef const Reach *even = even_columns(m)
    cdef const Reach *odd = odd_columns(m)
    if y >= m.seen or row >= m.dense_height:
        return False
    m.table.zip(target, part_row(m, image, channel, row, part_h, even - m.columns) + size * even.first,
                part_row(m, image, channel, row, part_h, odd - m.columns) + size * odd.first, m.paired)
    memset(target + size * m.paired, 0, size * (m.width - m.paired))
    return True


cdef void join_row(const Move *m, Py_ssize_t image, Py_ssize_t channel, Py_ssize_t y) noexcept nogil:
    """Row y of a channel, or of all channels: each pixel is the sum over the parts that have it."""
    cdef const Cut *cut = &m.parts.h
    cdef Py_ssize_t size = m.table.itemsize, stride = m.parts.w.stride, pixel = size * m.channels
    cdef Py_ssize_t run, part_h, part_w, row, j
    cdef char *target = image_row(m, image, channel, y)
    cdef char *to
    cdef const char *source
    cdef const Reach *reach
    if m.paired and join_pairs(m, image, channel, y, target):
        return
    memset(target, 0, m.width * (pixel if m.channels_last else size))
    if y >= m.seen:
        return
    for run in range(cut.runs):
        part_h = (y + m.top) % cut.stride + run * cut.stride
        row = (y + m.top) // cut.stride - run * cut.side
        if row < 0 or row >= m.dense_height:
            continue
        for part_w in range(m.parts.w.count):
            reach = &m.columns[part_w]
            source = part_row(m, image, channel, row, part_h, part_w)
            if m.channels_last:
                for j in range(reach.count):
                    m.table.add(target + (reach.from_first + j * stride) * pixel,
                                source + (reach.first + j) * size * m.dense.pixel, m.channels)
                continue
            source += size * reach.first
            to = target + size * reach.from_first
            if cut.runs == m.parts.w.runs == 1:
                m.table.scatter(to, stride, source, reach.count)
            else:
                m.table.scatter_add(to, stride, source, reach.count)


cdef Py_ssize_t join_rows(const void *move, Py_ssize_t item, int thread) noexcept nogil:
    """One row of all channels, or a plane."""
    cdef const Move *m = <const Move *>move
    cdef Py_ssize_t y
    if m.channels_last:
        join_row(m, item // m.height, 0, item % m.height)
    else:
        for y in range(m.height):
            join_row(m, item // m.channels, item % m.channels, y)
    return 0


cdef int join_images(const fc_kernels *table, ConvGeometry g, ConvGeometry dense, const Parts *parts, char *x,
                     const char *dense_x, Py_ssize_t images, int num_threads) except -1:
    """The gradient of the images from that of their parts."""
    cdef Reach *reaches = <Reach *>take_workspace(reaches_of(parts) * <Py_ssize_t>sizeof(Reach))
    cdef Move m = move_of(table, g, dense, parts, x, <char *>dense_x, reaches)
    cdef Py_ssize_t each = m.height if m.channels_last else m.channels
    num_threads = movers(images * m.dense.image * table.itemsize, num_threads)
    with nogil:
        parallel_for(images * each, num_threads, join_rows, &m, EVENLY)
    give_back(reaches)
    return 0
