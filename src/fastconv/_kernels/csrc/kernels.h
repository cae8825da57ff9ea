/* The table of kernels: the only C header that Cython sees.
 *
 * One table exists per instruction set and dtype. All pointers into arrays are
 * `void` here and point to elements of the table's dtype; every stride and
 * every offset counts elements, never bytes. Nothing here checks anything:
 * callers guarantee alignment to the element, in-range indices and the absence
 * of overlap between what is read and what is written.
 */
#ifndef FASTCONV_KERNELS_H
#define FASTCONV_KERNELS_H

#include "read_ahead.h"

#include <stddef.h>
#include <stdint.h>
#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

enum { FC_FLOAT32 = 0, FC_FLOAT64 = 1, FC_DTYPES = 2 };

/* Upper bounds over all instruction sets, for scratch on the stack. */
enum { FC_MAX_MR = 14, FC_MAX_NR = 32, FC_MAX_WINDOW = 4 };

/* Tiles of at least so many rows take sums of single taps; those of fewer begin a sum too slowly. */
#define FC_TAP_ROWS 12

/* Tiles of at most so many rows take rows of A that lie apart, with a pointer each, as fast as packed ones. */
enum { FC_POINTER_ROWS = 6 };

/* Most terms of a sum that are added one to the other. Of longer sums such chains are added up: the errors of equal
 * numbers, all rounded the same way, would grow with the length of the sum (docs/algorithms.md). */
enum { FC_CHAIN = 576 };

/* What a tile does with the old C: see fc_tile. */
enum { FC_ADD = 1, FC_GO_ON = 2 };

/* Bytes of a result from which on it is written past the cache: nothing of it would still be there when it is read,
 * and what is written otherwise is read from memory first. */
enum { FC_STREAMED = 1 << 25 };

/* Has what this thread wrote past the cache arrive before what it writes next. */
static inline void fc_streamed(void)
{
#if defined(__SSE__) || defined(_M_X64)
    _mm_sfence();
#endif
}

/* One tile of a matrix product,
 *     C[i*c_row + j] = sum_k A[i*a_row + offset(k)] * B[at(k) + j],
 * for i < rows and j < vectors * lanes (columns past the end must be readable
 * in B and writable in C; use scratch at edges).
 * offset(k) is a_table[k], or k*a_step where a_table is NULL; at(k) is b_table[k], or k*b_step where b_table is NULL.
 * gemm_tile takes a b_table only together with an a_table, and only from mr FC_TAP_ROWS on; with an a_table alone,
 * b_step is vectors * lanes.
 * ahead, read where a_table is the only table: NULL, or two lists of lines, of each of which a share is fetched before
 * every ahead_terms terms.
 * The sum runs over k in order, one fused accumulator an element, so the result depends on the operands alone: as one
 * chain, or as equal ones of at most FC_CHAIN terms where it is longer.
 *
 * stream, heeded where a_row is 1, there is no table and the sum is one chain: C is written past the cache. c and c_row
 * are multiples of a cache line then, accumulate is 0, and fc_streamed() must follow in the end.
 *
 * accumulate: FC_ADD adds the sum to the old C; with FC_GO_ON the old C is the first term of the sum. With neither (0)
 * that term is row_bias[i], or column_bias[j], or zero where both are NULL.
 * relu: the stored value is max(sum, 0), and NaN where the sum is NaN.
 */
typedef struct {
    ptrdiff_t depth;
    const void *a;
    ptrdiff_t a_row;
    ptrdiff_t a_step;
    const ptrdiff_t *a_table;
    const void *b;
    ptrdiff_t b_step;
    const ptrdiff_t *b_table;
    void *c;
    ptrdiff_t c_row;
    int rows;    /* 1 .. mr; 1 .. narrow_mr with one vector */
    int vectors; /* of columns: 2, or 1; gemm_window takes 4 as well */
    int accumulate;
    int relu;
    int stream;
    const void *row_bias;
    const void *column_bias;
    fc_ahead *ahead;
    ptrdiff_t ahead_terms;
} fc_tile;

/* The windows of a pool over `images` arrays of height x width pixels of `channels` elements.
 *
 * Output row i sees the input rows row_first[i] + k*row_step, k < row_count[i], all inside the image; columns alike.
 * Where channels_last is 0, channels is 1 and every channel is an image of its own.
 *
 * The gradient of a mean is a pool too, "adjoint" to the first: its input is the gradient of the output, its output
 * the gradient of the input, and its windows are the outputs that saw a pixel (there may be none).
 *
 * row_divisor[i] * column_divisor[j] (elements of the dtype) is what the mean at output pixel (i, j) of the forward
 * pool is divided by. column_divisor has one more element for each of FC_MAX_LANES and, where lines > 1, of a line.
 *
 * For planes of one channel only:
 * - stride, left, kernel_w: column j sees j*stride - left + k*column_step, k < kernel_w, as far as inside. An adjoint
 *   pool has those of its forward pool. stride is 0 where only the tables tell.
 * - a line of the workspace has line_before elements of padding before the image's columns and line_after behind them;
 *   with slack for whole vectors it takes line_elements. A call needs FC_POOL_LINES times two of them (avg_pool but
 *   one).
 * - lines > 1: so many output rows are reduced together, `pitch` elements apart in a line. Asks for no padding, windows
 *   that don't reach into the next one, equal divisors, and positions in the plane that store_index can hold.
 * - row_stride: output row i, counted through all images, begins at input row i*row_stride and sees row_count[0] rows;
 *   0 where it is not so, or lines is 1. Of an adjoint pool: input row i goes to output rows i*row_stride up to
 *   (i+1)*row_stride, equally, and columns tile the image, too; begin and end are multiples of row_stride, then.
 * even: all divisors are equal.
 * far_positions: a window spans more elements than store_index can hold.
 */
enum { FC_POOL_LINES = 4, FC_MAX_LANES = 16, FC_FAR_FLOAT32 = 1 << 24, FC_FAR_FLOAT64 = 0x7fffffff };

typedef struct {
    ptrdiff_t images, height, width, channels, out_h, out_w;
    int channels_last, far_positions, even;
    const ptrdiff_t *row_first, *row_count, *column_first, *column_count;
    ptrdiff_t row_step, column_step;
    ptrdiff_t stride, left, kernel_w;
    ptrdiff_t line_before, line_after, line_elements, lines, pitch, row_stride;
    const void *row_divisor, *column_divisor;
} fc_pool;

/* The gradient of maxima that lie at `indices`: of each image
 *     grad_x[i*channels + c] = the sum, in order, of grad_output[o*channels + c] over the o < outputs
 *                              with indices[o*channels + c] == i,   i < pixels.
 * Rows have `width` pixels and `out_width` outputs. stream: rows of one channel are multiples of a cache line, and
 * may be written past the cache; fc_streamed() must follow in the end. */
typedef struct {
    void *grad_x;
    const void *grad_output;
    const int64_t *indices;
    ptrdiff_t pixels, width, outputs, out_width, channels;
    int stream;
} fc_scatter;

/* The gradient of `maxima` over windows of size x size pixels that tile the images x: each number of grad_output is
 * shared evenly among the pixels of its window that equal the maximum; a window with a NaN gets zeros. Rows of out_w
 * windows each, of all images, lie one after the other. */
typedef struct {
    void *grad_x;
    const void *grad_output, *x, *maxima;
    ptrdiff_t size, out_w;
} fc_ties;

/* Some products of rows with rows,
 *     C[i*c_row + j] = sum_k A[i*a_row + k] * B[j*b_row + k] + bias[j],
 * for i < rows and j < columns, no bias where it is NULL; then max(C, 0) with relu. Lanes lie along k, so nothing
 * has to be packed. The order of a sum depends on depth alone.
 */
enum { FC_DOT_ROWS = 2, FC_DOT_COLUMNS = 4 };
typedef struct {
    ptrdiff_t depth;
    const void *a;
    ptrdiff_t a_row;
    const void *b;
    ptrdiff_t b_row;
    void *c;
    ptrdiff_t c_row;
    const void *bias;
    int rows;    /* 1 or FC_DOT_ROWS */
    int columns; /* 1 .. FC_DOT_COLUMNS */
    int relu;
} fc_dot;

/* Sums along rows of their products with windows, for each plane i and each term j:
 *     sums[(i*terms + j)*L + p % L] += sum over image, row and p < width of
 *         a[i*a_plane + image*a_image + row*a_row + p] * b[b_table[j] + image*b_image + row*b_row + p]
 * where L is the table's lanes; who adds these up has the sum over all p. Where own isn't NULL, the sums of a alone,
 *     own[i*L + p % L] += sum over image, row and p < width of a[i*a_plane + image*a_image + row*a_row + p]. */
typedef struct {
    const void *a;
    ptrdiff_t planes, a_plane, a_image, a_row;
    const void *b;
    const ptrdiff_t *b_table;
    ptrdiff_t terms, b_image, b_row;
    ptrdiff_t images, rows, width;
    void *sums, *own;
} fc_window_sums;

/* A depthwise correlation: each channel has one filter of its own,
 *     out[o*out_row + p] = bias + sum over i, j of weight[i*weight_h + j*weight_w]
 *                          * x[(o*stride_h + i*dilation_h - top)*x_row + p*stride_w + j*dilation_w - left]
 * where x is zero outside height x width; relu as in fc_tile. Sizes are at least 1.
 *
 * depthwise does `planes` of these one after the other, the given steps apart (bias: 1; NULL is zero).
 * Steps of the weight may be negative. out_row is at least out_w; between rows, and nowhere else, up to a vector
 * past each may be written. zeros are `width` zeros.
 *
 * depthwise_pixels does one image of `planes` channels that are dense in memory, with pixels x_pixel and out_pixel
 * apart; weight is [taps_h][taps_w][planes] (weight_h, weight_w and zeros are not read).
 */
enum { FC_SLIDING_ROWS = 12 }; /* of a register tile: with fewer, registers don't hold all taps of 5x5 */
typedef struct {
    ptrdiff_t planes, x_plane, out_plane, weight_plane;
    const void *x;
    ptrdiff_t height, width, x_row, x_pixel;
    void *out;
    ptrdiff_t out_h, out_w, out_row, out_pixel;
    const void *weight;
    ptrdiff_t taps_h, taps_w, weight_h, weight_w;
    ptrdiff_t stride_h, stride_w, dilation_h, dilation_w, top, left;
    const void *bias;
    const void *zeros;
    int relu;
} fc_depthwise;

/* Elementwise functions of one array and of two, with a number: dst[i] from x[i], or from a[i] and b[i], i < count.
 * dst may be one of the sources. An element's bits depend on its operands alone, not on where it stands. */
typedef void fc_unary(void *dst, const void *x, ptrdiff_t count, double parameter);
typedef void fc_binary(void *dst, const void *a, const void *b, ptrdiff_t count, double parameter);

/* Per channel, c being an element's, dst = ((y - center[c]) * slope[c] + x - offset[c]) * scale[c] + shift[c];
 * without y (NULL) the first term is absent, and center and slope aren't looked at. dst may be x or y. */
typedef struct {
    void *dst;
    const void *x, *y;
    ptrdiff_t channels;
    const void *offset, *scale, *shift, *center, *slope;
} fc_affine;

/* A local response normalization along the channels,
 *     dst = x / r^beta  with  r = k + scale * (the sum of x^2 over channels c - before .. c + after, where they exist),
 * or, where grad_output isn't NULL, the gradient by x. before and after are less than `channels`. Arrays are
 * [..][channels][plane]. A unit of work is FC_RESPONSE_PIXELS pixels of a plane, or those that are left of it. The
 * workspace has (before + channels + after) * step + FC_MAX_LANES elements, for the gradient twice as many, where
 * step is FC_RESPONSE_PIXELS, or 1 with planes of one pixel. */
enum { FC_RESPONSE_PIXELS = 32 };
typedef struct {
    void *dst;
    const void *x, *grad_output;
    ptrdiff_t channels, plane, before, after;
    double scale, beta, k;
} fc_response;

/* The cross entropy of logits [..][classes][inner], and its gradient times `scale`. A position p of the other axes
 * has the class target[p], or counts for nothing if that is negative; or, where target is NULL, a probability for
 * each class. `smoothing` of that is spread evenly over the classes. weight: one for each class, total_weight in all. */
typedef struct {
    void *grad;
    const void *logits, *probability, *weight;
    const int64_t *target;
    ptrdiff_t classes, inner;
    double total_weight, smoothing, scale;
} fc_cross_entropy;

/* Sums of x, of (x - center)^2, of x * (y - center). y must be readable; x itself will do where it isn't looked at. */
enum { FC_SUM_PLAIN, FC_SUM_SQUARES, FC_SUM_PRODUCTS };

/* A step of Adam: with g = grad (negated to maximize) + decay * data, after data *= shrink,
 *     mean += (1 - beta1) * (g - mean),  square = beta2 * square + (1 - beta2) * g^2,
 *     data -= step_size * mean / (sqrt(square) / root_of_correction + eps)
 * where the largest square so far, kept in `largest`, takes the place of square unless `largest` is NULL. */
typedef struct {
    void *data, *mean, *square, *largest;
    const void *grad;
    int maximize;
    double decay, shrink, beta1, beta2, step_size, root_of_correction, eps;
} fc_adam;

/* A step of gradient descent: with g as above, velocity = momentum * velocity + damped * g (g where `first`), and
 *     data -= lr * velocity, or lr * (g + momentum * velocity) with nesterov, or lr * g where velocity is NULL. */
typedef struct {
    void *data, *velocity;
    const void *grad;
    int maximize, first, nesterov;
    double decay, lr, momentum, damped;
} fc_sgd;

typedef struct {
    const char *isa;
    int itemsize;
    int lanes; /* elements in a vector */
    int mr;    /* most rows of a tile of two vectors */
    int nr;    /* columns of such a tile */
    int narrow_mr; /* most rows of a tile of one vector: as many as keep the multipliers busy */

    void (*gemm_tile)(const fc_tile *tile);
    void (*dot)(const fc_dot *dot);

    /* The sum of gemm_tile, in other chains, for any number of rows and for j < columns, touching nothing beyond: for
     * long rows of B that are read once, in order. depth is at least 1; accumulate, a_table, relu and the biases are
     * not looked at. */
    void (*combine)(const fc_tile *tile, ptrdiff_t columns);

    /* The same with A packed (a_row 1) and row k of B at b + b_table[k], anywhere; at most mr rows with one vector
     * too, and mr / 2 with four, which few rows need for accumulators enough to hide the latency. */
    void (*gemm_window)(const fc_tile *tile);

    void (*window_sums)(const fc_window_sums *job);

    /* dst[j*dst_row + i] = src[i*src_row + j], i < rows, j < columns. */
    void (*transpose)(void *dst, ptrdiff_t dst_row, const void *src, ptrdiff_t src_row,
                      ptrdiff_t rows, ptrdiff_t columns);

    /* dst[i] = src[i*step], i < count: a strided row made dense. */
    void (*gather)(void *dst, const void *src, ptrdiff_t step, ptrdiff_t count);

    /* dst[i*step] = src[i], i < count. */
    void (*scatter)(void *dst, ptrdiff_t step, const void *src, ptrdiff_t count);

    /* dst[k*dst_row + i] = src[table[k] + i*step], k < depth, i < count; for count <= i < room it may become 0. */
    void (*gather_rows)(void *dst, ptrdiff_t dst_row, const void *src, const ptrdiff_t *table,
                        ptrdiff_t step, ptrdiff_t depth, ptrdiff_t count, ptrdiff_t room);

    /* dst[k*dst_row + i] = 0 for i < left, src[k*src_row + (i - left)*step] for the next `columns` of i, 0 for the
     * last `right` of them; k < rows. */
    void (*pad_rows)(void *dst, ptrdiff_t dst_row, const void *src, ptrdiff_t src_row, ptrdiff_t rows,
                     ptrdiff_t left, ptrdiff_t columns, ptrdiff_t right, ptrdiff_t step);

    /* dst[i] += src[i], i < count. */
    void (*add)(void *dst, const void *src, ptrdiff_t count);

    /* dst[i*step] += src[i], i < count. */
    void (*scatter_add)(void *dst, ptrdiff_t step, const void *src, ptrdiff_t count);

    /* The sum of src[i], i < count, in an order that depends on count alone; added to *dst. */
    void (*add_sum)(void *dst, const void *src, ptrdiff_t count);

    /* Pools: output rows begin .. end-1, counted through all images. Of a row only its own elements are read
     * after the call; those past `end` are not touched.
     * max_pool: indices, the position row*width + column of each maximum, may be NULL. NaN wins over every number,
     * a later one over an earlier; of equal numbers the first wins.
     * avg_pool_backward: `adjoint` as above. */
    void (*max_pool)(const fc_pool *pool, const void *x, void *out, int64_t *indices, ptrdiff_t begin, ptrdiff_t end,
                     void *workspace);
    void (*avg_pool)(const fc_pool *pool, const void *x, void *out, ptrdiff_t begin, ptrdiff_t end, void *workspace);
    void (*avg_pool_backward)(const fc_pool *adjoint, const void *grad_output, void *grad_x, ptrdiff_t begin,
                              ptrdiff_t end, void *workspace);

    /* fc_scatter for channels first .. last-1 of images begin .. end-1. Returns nonzero where an index is outside
     * 0 .. pixels-1; the values of grad_x are of no use then. */
    int (*max_pool_backward)(const fc_scatter *job, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t first, ptrdiff_t last);

    /* fc_ties for rows of windows begin .. end-1. */
    void (*share_maxima)(const fc_ties *job, ptrdiff_t begin, ptrdiff_t end);

    /* dst[i*L + j] = src[i*step + j*lane_step], i < count, for j < lanes, and 0 for lanes <= j < L, where L
     * is the table's lanes: channels side by side in vectors. lanes_to is the way back, for j < lanes. */
    void (*lanes_from)(void *dst, const void *src, ptrdiff_t lane_step, ptrdiff_t step, ptrdiff_t lanes,
                       ptrdiff_t count);
    void (*lanes_to)(void *dst, ptrdiff_t lane_step, ptrdiff_t step, const void *src, ptrdiff_t lanes,
                     ptrdiff_t count);

    /* Winograd's F(5x5, 2x2) to F(2x2, 5x5), see winograd.inc.h: transforms of a row of tiles, for as
     * many channels as a vector has lanes, of kernels of height x width taps: 2x2 to 5x5, or 2 to 5 in one row or
     * column. `patch` is 6 pixels along an axis, `tile` is 7 less its taps; both are 1 along an axis of one tap. A
     * pixel is one vector; so is each of the 36 positions of a transformed tile, or 6 of a line, *_position apart.
     * Pixels of a tile are `step` apart along a row, and between them are those of step - 1 tiles more.
     *   winograd_input        v = B^T x B      x: `patch` rows of `columns` pixels, overwritten
     *   winograd_grad_output  w = A y A^T      y: `tile` rows of `columns` pixels in room for `patch`, overwritten
     *   winograd_output       y = A^T m A + bias, then max(y, 0) with relu; bias: one vector, or NULL.
     *                         Returns whether m is finite: a NaN or an infinity spoils its whole tile
     * largest: a vector that grows to the largest absolute values of some elements of m, by lanes. Where these are
     * far larger than results, so is their rounding. */
    void (*winograd_input)(void *v, ptrdiff_t v_position, ptrdiff_t v_tile, void *x, ptrdiff_t x_row,
                           ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t step, int height, int width);
    void (*winograd_grad_output)(void *w, ptrdiff_t w_position, ptrdiff_t w_tile, void *y, ptrdiff_t y_row,
                                 ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t step, int height, int width);
    int (*winograd_output)(void *y, ptrdiff_t y_row, const void *m, ptrdiff_t m_position, ptrdiff_t m_tile,
                           ptrdiff_t tiles, ptrdiff_t step, const void *bias, int relu, void *largest, int height,
                           int width);

    /* u[k*nr + j] = G g G^T of the taps at g + k*depth_step + j*column_step, k < depth, for j < columns,
     * and 0 for columns <= j < nr. flip: the taps are taken backwards. */
    void (*winograd_weight)(void *u, ptrdiff_t u_position, const void *g, ptrdiff_t column_step,
                            ptrdiff_t depth_step, ptrdiff_t columns, ptrdiff_t depth, int flip, int height,
                            int width);

    /* g = G^T s G: taps at g + j*lane_step, j < lanes, from one vector at each position; `largest` as above, of
     * s. */
    void (*winograd_grad_weight)(void *g, ptrdiff_t lane_step, const void *s, ptrdiff_t s_position,
                                 ptrdiff_t lanes, void *largest, int height, int width);

    /* dst = a + b + bias, then max(dst, 0) with relu: `rows` rows of `vectors` vectors, as bias is one. b and bias
     * may be NULL, dst may be a. Returns whether all of a + b is finite. */
    int (*join_sums)(void *dst, const void *a, const void *b, const void *bias, ptrdiff_t rows, int vectors, int relu);

    /* Operands of a Strassen product, `count` elements each, whole vectors: s1 = b0 + b1, s2 = s1 - a0, b0 = a0 - b0,
     * s4 = a1 - s2. */
    void (*strassen_operands)(const void *a0, const void *a1, void *b0, const void *b1, void *s1, void *s2, void *s4,
                              ptrdiff_t count);

    /* Results of a Strassen product from its seven products p1 to p7, product_step apart, rows nr apart:
     *     dst[0] = p1 + p2, dst[1] = p1 + p4 + p3 + p5, dst[2] = p1 + p4 + p6 + p7, dst[3] = p1 + p4 + p6 + p3,
     * plus bias[0] or, in dst[1] and dst[3], bias[1], an element a row (NULL: none), then max(dst, 0) with relu:
     * `rows` rows of `vectors` vectors, dst_row[0] apart in dst[0] and dst[1], dst_row[1] apart in the others. dst may
     * be some of the products, rows nr apart. Returns whether all of the sums is finite. */
    int (*strassen_results)(void *const *dst, const ptrdiff_t *dst_row, const void *products, ptrdiff_t product_step,
                            const void *const *bias, ptrdiff_t rows, int vectors, int relu);

    void (*depthwise)(const fc_depthwise *job);
    void (*depthwise_pixels)(const fc_depthwise *job);

    /* The transpose of depthwise, for its gradient: out[o*stride_h + i*dilation_h - top] += weight[i] * x[o] and so on,
     * from zero; here out is the larger. Strides are 2, dilations 1, taps 3x3 or 5x5; top may be any number >= 0.
     * No bias, no relu; zeros are not read. */
    void (*depthwise_spread)(const fc_depthwise *job);

    /* The gradient of the weight of such a job, whose out is grad_output and is only read: added to sums, a vector
     * (lanes elements, aligned to their size) for each plane and tap, which depthwise_weight_finish adds up for
     * one plane into weight[taps_h][taps_w]. */
    void (*depthwise_weight)(const fc_depthwise *job, void *sums);
    void (*depthwise_weight_finish)(void *weight, const void *sums, ptrdiff_t taps_h, ptrdiff_t taps_w);

    /* The same for pixels, added to sums[tap*sums_step + channel]; sums_step is a multiple of lanes, and elements
     * past the last channel are written. */
    void (*depthwise_pixels_weight)(const fc_depthwise *job, void *sums, ptrdiff_t sums_step);

    /* dst[2*i] = even[i], dst[2*i + 1] = odd[i], `count` elements of dst in all. */
    void (*zip)(void *dst, const void *even, const void *odd, ptrdiff_t count);

    /* Activations. A NaN in x gives NaN; its gradient by relu is grad_output. (parameter)
     *   relu                  min(max(x, 0), ceiling)
     *   relu_backward         grad_output where 0 < x < ceiling, else 0; an infinite ceiling is none
     *   leaky_relu            x where x > 0, else slope * x
     *   leaky_relu_backward   grad_output where x > 0, else slope * grad_output
     *   sigmoid, tanh         within a few units of the last place everywhere; of the backwards, b is the output */
    fc_unary *relu, *leaky_relu, *sigmoid, *tanh;
    fc_binary *relu_backward, *leaky_relu_backward, *sigmoid_backward, *tanh_backward;

    /* relu that also keeps, in bit i % 8 of byte i / 8, whether the gradient of element i passes, and the backward
     * that is told so. A call writes whole bytes. */
    void (*relu_bits)(void *dst, uint8_t *bits, const void *x, ptrdiff_t count, double ceiling);
    void (*relu_backward_bits)(void *dst, const void *grad_output, const uint8_t *bits, ptrdiff_t count);

    /* Of arrays [..][classes][inner], positions begin .. end-1 of the others, counted outer * inner + inner's:
     *   softmax                exp(x - max) / sum(exp(x - max)), or the logarithm of that
     *   softmax_backward       output * (grad_output - sum(grad_output * output)), or, of the logarithm,
     *                          grad_output - exp(output) * sum(grad_output)
     * An element's bits depend on its class, its fellows and on whether inner is 1. */
    void (*softmax)(void *dst, const void *x, ptrdiff_t classes, ptrdiff_t inner, ptrdiff_t begin, ptrdiff_t end,
                    int logarithm);
    void (*softmax_backward)(void *dst, const void *grad_output, const void *output, ptrdiff_t classes,
                             ptrdiff_t inner, ptrdiff_t begin, ptrdiff_t end, int logarithm);

    /* Sums for normalization: of a row, and of each channel of [pixels][channels], added to sums. Few numbers are
     * summed in T at a time, and these sums in double, in an order that depends on the sizes alone. */
    double (*sum_row)(const void *x, const void *y, double center, ptrdiff_t count, int kind);
    void (*sum_pixels)(double *sums, const void *x, const void *y, const void *center, ptrdiff_t pixels,
                       ptrdiff_t channels, int kind);

    /* fc_affine for rows begin .. end-1 of [..][channels][plane], or pixels begin .. end-1 of [..][channels]. */
    void (*affine_rows)(const fc_affine *job, ptrdiff_t plane, ptrdiff_t begin, ptrdiff_t end);
    void (*affine_pixels)(const fc_affine *job, ptrdiff_t begin, ptrdiff_t end);

    /* fc_response for units begin .. end-1. */
    void (*response_norm)(const fc_response *job, ptrdiff_t begin, ptrdiff_t end, void *workspace);

    /* a + b; a - b; relu of a + b (parameter: its ceiling); x * scale where the mask's byte isn't 0, else x * 0, which
     * is NaN for what isn't finite. */
    fc_binary *plus, *minus, *plus_relu;
    void (*keep)(void *dst, const void *x, const uint8_t *mask, ptrdiff_t count, double scale);

    /* Losses, summed in double as sums for normalization are: of (x - y)^2, whose dst is (x - y) * factor; and
     * fc_cross_entropy for positions begin .. end-1. */
    double (*squared_error)(void *dst, const void *x, const void *y, ptrdiff_t count, double factor);
    double (*cross_entropy)(const fc_cross_entropy *job, ptrdiff_t begin, ptrdiff_t end);

    /* Elements begin .. end-1. */
    void (*adam)(const fc_adam *job, ptrdiff_t begin, ptrdiff_t end);
    void (*sgd)(const fc_sgd *job, ptrdiff_t begin, ptrdiff_t end);

    /* IEEE half precision to float, which is exact, and back, to the nearest, ties to even. The same in the tables
     * of both dtypes. */
    void (*from_half)(float *dst, const uint16_t *src, ptrdiff_t count);
    void (*to_half)(uint16_t *dst, const float *src, ptrdiff_t count);
} fc_kernels;

/* Of the instruction sets compiled in and usable on this machine, best first, the one of that number; or NULL. */
const char *fc_isa_available(int number);

/* The same of all that are compiled in, usable here or not. */
const char *fc_isa_compiled(int number);

/* Table of `isa` (a name that fc_isa_compiled gives) for a dtype; NULL if there is none. */
const fc_kernels *fc_isa_kernels(const char *isa, int dtype);

#endif
