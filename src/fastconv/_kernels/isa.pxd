from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.string cimport memset


cdef extern from "kernels.h" nogil:
    enum:
        FC_FLOAT32
        FC_FLOAT64
        FC_MAX_MR
        FC_MAX_NR
        FC_MAX_WINDOW
        FC_TAP_ROWS
        FC_POINTER_ROWS
        FC_DOT_ROWS
        FC_SLIDING_ROWS
        FC_DOT_COLUMNS
        FC_MAX_LANES
        FC_POOL_LINES
        FC_FAR_FLOAT32
        FC_FAR_FLOAT64
        FC_SUM_PLAIN
        FC_SUM_SQUARES
        FC_SUM_PRODUCTS
        FC_RESPONSE_PIXELS

    ctypedef struct fc_ahead:
        const char *plane
        Py_ssize_t planes, plane_step, runs, run_step, bytes
        Py_ssize_t run, fetched
        Py_ssize_t share

    void fc_fetch_share(fc_ahead *)
    void fc_fetch_rows(const char *first, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t bytes)
    void fc_fetch_for_later(const char *first, Py_ssize_t bytes)
    void fc_fetch_planes(fc_ahead *, Py_ssize_t)

    enum:
        FC_CHAIN
        FC_ADD
        FC_GO_ON
        FC_STREAMED
    void fc_streamed()

    ctypedef struct fc_tile:
        Py_ssize_t depth
        const void *a
        Py_ssize_t a_row
        Py_ssize_t a_step
        const Py_ssize_t *a_table
        const void *b
        Py_ssize_t b_step
        const Py_ssize_t *b_table
        void *c
        Py_ssize_t c_row
        int rows
        int vectors
        int accumulate
        int relu
        int stream
        const void *row_bias
        const void *column_bias
        fc_ahead *ahead
        Py_ssize_t ahead_terms

    ctypedef struct fc_pool:
        Py_ssize_t images, height, width, channels, out_h, out_w
        int channels_last, far_positions, even
        const Py_ssize_t *row_first
        const Py_ssize_t *row_count
        const Py_ssize_t *column_first
        const Py_ssize_t *column_count
        Py_ssize_t row_step, column_step
        Py_ssize_t stride, left, kernel_w
        Py_ssize_t line_before, line_after, line_elements, lines, pitch, row_stride
        const void *row_divisor
        const void *column_divisor

    ctypedef struct fc_scatter:
        void *grad_x
        const void *grad_output
        const int64_t *indices
        Py_ssize_t pixels, width, outputs, out_width, channels
        int stream

    ctypedef struct fc_ties:
        void *grad_x
        const void *grad_output
        const void *x
        const void *maxima
        Py_ssize_t size, out_w
    ctypedef struct fc_dot:
        Py_ssize_t depth
        const void *a
        Py_ssize_t a_row
        const void *b
        Py_ssize_t b_row
        void *c
        Py_ssize_t c_row
        const void *bias
        int rows
        int columns
        int relu
    ctypedef struct fc_window_sums:
        const void *a
        Py_ssize_t planes, a_plane, a_image, a_row
        const void *b
        const Py_ssize_t *b_table
        Py_ssize_t terms, b_image, b_row
        Py_ssize_t images, rows, width
        void *sums
        void *own
    ctypedef struct fc_depthwise:
        Py_ssize_t planes, x_plane, out_plane, weight_plane
        const void *x
        Py_ssize_t height, width, x_row, x_pixel
        void *out
        Py_ssize_t out_h, out_w, out_row, out_pixel
        const void *weight
        Py_ssize_t taps_h, taps_w, weight_h, weight_w
        Py_ssize_t stride_h, stride_w, dilation_h, dilation_w, top, left
        const void *bias
        const void *zeros
        int relu

    ctypedef struct fc_affine:
        void *dst
        const void *x
        const void *y
        Py_ssize_t channels
        const void *offset
        const void *scale
        const void *shift
        const void *center
        const void *slope

    ctypedef struct fc_response:
        void *dst
        const void *x
        const void *grad_output
        Py_ssize_t channels, plane, before, after
        double scale, beta, k

    ctypedef struct fc_cross_entropy:
        void *grad
        const void *logits
        const void *probability
        const void *weight
        const int64_t *target
        Py_ssize_t classes, inner
        double total_weight, smoothing, scale

    ctypedef struct fc_adam:
        void *data
        void *mean
        void *square
        void *largest
        const void *grad
        int maximize
        double decay, shrink, beta1, beta2, step_size, root_of_correction, eps

    ctypedef struct fc_sgd:
        void *data
        void *velocity
        const void *grad
        int maximize, first, nesterov
        double decay, lr, momentum, damped

    ctypedef void fc_unary(void *, const void *, Py_ssize_t, double) noexcept nogil
    ctypedef void fc_binary(void *, const void *, const void *, Py_ssize_t, double) noexcept nogil

    ctypedef struct fc_kernels:
        const char *isa
        int itemsize
        int lanes
        int mr
        int nr
        int narrow_mr
        void (*gemm_tile)(const fc_tile *) noexcept nogil
        void (*dot)(const fc_dot *) noexcept nogil
        void (*combine)(const fc_tile *, Py_ssize_t) noexcept nogil
        void (*gemm_window)(const fc_tile *) noexcept nogil
        void (*window_sums)(const fc_window_sums *) noexcept nogil
        void (*transpose)(void *, Py_ssize_t, const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*gather)(void *, const void *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*scatter)(void *, Py_ssize_t, const void *, Py_ssize_t) noexcept nogil
        void (*gather_rows)(void *, Py_ssize_t, const void *, const Py_ssize_t *, Py_ssize_t, Py_ssize_t,
                            Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*pad_rows)(void *, Py_ssize_t, const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                         Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*add)(void *, const void *, Py_ssize_t) noexcept nogil
        void (*scatter_add)(void *, Py_ssize_t, const void *, Py_ssize_t) noexcept nogil
        void (*add_sum)(void *, const void *, Py_ssize_t) noexcept nogil
        void (*max_pool)(const fc_pool *, const void *, void *, int64_t *, Py_ssize_t, Py_ssize_t,
                         void *) noexcept nogil
        void (*avg_pool)(const fc_pool *, const void *, void *, Py_ssize_t, Py_ssize_t, void *) noexcept nogil
        void (*avg_pool_backward)(const fc_pool *, const void *, void *, Py_ssize_t, Py_ssize_t,
                                  void *) noexcept nogil
        int (*max_pool_backward)(const fc_scatter *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                 Py_ssize_t) noexcept nogil
        void (*share_maxima)(const fc_ties *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*lanes_from)(void *, const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                           Py_ssize_t) noexcept nogil
        void (*lanes_to)(void *, Py_ssize_t, Py_ssize_t, const void *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*winograd_input)(
            void *v, Py_ssize_t v_position, Py_ssize_t v_tile, void *x, Py_ssize_t x_row,
            Py_ssize_t columns, Py_ssize_t tiles, Py_ssize_t step, int height, int width) noexcept nogil
        void (*winograd_grad_output)(
            void *w, Py_ssize_t w_position, Py_ssize_t w_tile, void *y, Py_ssize_t y_row,
            Py_ssize_t columns, Py_ssize_t tiles, Py_ssize_t step, int height, int width) noexcept nogil
        int (*winograd_output)(
            void *y, Py_ssize_t y_row, const void *m, Py_ssize_t m_position, Py_ssize_t m_tile,
            Py_ssize_t tiles, Py_ssize_t step, const void *bias, int relu, void *largest, int height,
            int width) noexcept nogil
        void (*winograd_weight)(
            void *u, Py_ssize_t u_position, const void *g, Py_ssize_t column_step, Py_ssize_t depth_step,
            Py_ssize_t columns, Py_ssize_t depth, int flip, int height, int width) noexcept nogil
        void (*winograd_grad_weight)(
            void *g, Py_ssize_t lane_step, const void *s, Py_ssize_t s_position, Py_ssize_t lanes,
            void *largest, int height, int width) noexcept nogil
        int (*join_sums)(
            void *dst, const void *a, const void *b, const void *bias, Py_ssize_t rows, int vectors,
            int relu) noexcept nogil
        void (*strassen_operands)(
            const void *a0, const void *a1, void *b0, const void *b1, void *s1, void *s2, void *s4,
            Py_ssize_t count) noexcept nogil
        int (*strassen_results)(
            void **dst, const Py_ssize_t *dst_row, const void *products, Py_ssize_t product_step,
            const void **bias, Py_ssize_t rows, int vectors, int relu) noexcept nogil
        void (*depthwise)(const fc_depthwise *) noexcept nogil
        void (*depthwise_pixels)(const fc_depthwise *) noexcept nogil
        void (*depthwise_spread)(const fc_depthwise *) noexcept nogil
        void (*depthwise_weight)(const fc_depthwise *, void *) noexcept nogil
        void (*depthwise_weight_finish)(void *, const void *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*depthwise_pixels_weight)(const fc_depthwise *, void *, Py_ssize_t) noexcept nogil
        void (*zip)(void *, const void *, const void *, Py_ssize_t) noexcept nogil
        fc_unary *relu
        fc_unary *leaky_relu
        fc_unary *sigmoid
        fc_unary *tanh
        fc_binary *relu_backward
        fc_binary *leaky_relu_backward
        fc_binary *sigmoid_backward
        fc_binary *tanh_backward
        void (*relu_bits)(void *, uint8_t *, const void *, Py_ssize_t, double) noexcept nogil
        void (*relu_backward_bits)(void *, const void *, const uint8_t *, Py_ssize_t) noexcept nogil
        void (*softmax)(void *, const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                        int) noexcept nogil
        void (*softmax_backward)(void *, const void *, const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                                 Py_ssize_t, int) noexcept nogil
        double (*sum_row)(const void *, const void *, double, Py_ssize_t, int) noexcept nogil
        void (*sum_pixels)(double *, const void *, const void *, const void *, Py_ssize_t, Py_ssize_t,
                           int) noexcept nogil
        void (*affine_rows)(const fc_affine *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*affine_pixels)(const fc_affine *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*response_norm)(const fc_response *, Py_ssize_t, Py_ssize_t, void *) noexcept nogil
        fc_binary *plus
        fc_binary *minus
        fc_binary *plus_relu
        void (*keep)(void *, const void *, const uint8_t *, Py_ssize_t, double) noexcept nogil
        double (*squared_error)(void *, const void *, const void *, Py_ssize_t, double) noexcept nogil
        double (*cross_entropy)(const fc_cross_entropy *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*adam)(const fc_adam *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*sgd)(const fc_sgd *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*from_half)(float *, const uint16_t *, Py_ssize_t) noexcept nogil
        void (*to_half)(uint16_t *, const float *, Py_ssize_t) noexcept nogil

# A tile of the fewest vectors that hold so many columns, two at most: how many these are, and its most rows.
cdef inline int vectors_for(const fc_kernels *kernels, Py_ssize_t columns) noexcept nogil:
    return 1 if columns <= kernels.lanes else 2

cdef inline int rows_of(const fc_kernels *kernels, int vectors) noexcept nogil:
    return kernels.narrow_mr if vectors == 1 else kernels.mr

cdef inline fc_tile new_tile() noexcept nogil:
    """All of it zero or NULL: no tables, no bias, nothing added to, fetched or streamed."""
    cdef fc_tile tile
    memset(&tile, 0, sizeof(tile))
    return tile

cdef const fc_kernels *kernels_for(int typenum) except NULL
