/* Included by each isa_<name>.c after its simd header: every body once, for the dtype FC_DTYPE that the build defines,
 * and the table that names them, fc_kernels_<name>_f32 or _f64. */
#include "kernels.h"

#include "half.inc.h"
#include "copy.inc.h"
#include "combine.inc.h"
#include "dot.inc.h"
#include "conv_depthwise.inc.h"
#include "conv_depthwise_pixels.inc.h"
#include "conv_depthwise_spread.inc.h"
#include "conv_depthwise_weight.inc.h"
#include "gemm.inc.h"
#include "pool_global.inc.h"
#include "pool.inc.h"
#include "pool_scatter.inc.h"
#include "strassen.inc.h"
#include "window_sums.inc.h"
#include "winograd.inc.h"
#include "map.inc.h"
#include "exp.inc.h"
#include "activation.inc.h"
#include "elementwise.inc.h"
#include "loss.inc.h"
#include "normalization.inc.h"
#include "optimizer.inc.h"
#include "pool_ties.inc.h"
#include "response_norm.inc.h"

extern const fc_kernels FC(FC_PASTE(fc_kernels_, FC_ISA));
const fc_kernels FC(FC_PASTE(fc_kernels_, FC_ISA)) = {
    .isa = FC_ISA_NAME,
    .itemsize = sizeof(T),
    .lanes = LANES,
    .mr = FC(MR),
    .nr = FC(NR),
    .narrow_mr = NARROW_ROWS,
    .gemm_tile = FC(gemm_tile),
    .dot = FC(dot),
    .combine = FC(combine),
    .gemm_window = FC(gemm_window),
    .window_sums = FC(window_sums),
    .transpose = FC(transpose),
    .gather = FC(gather),
    .scatter = FC(scatter),
    .gather_rows = FC(gather_rows),
    .pad_rows = FC(pad_rows),
    .add = FC(add),
    .scatter_add = FC(scatter_add),
    .add_sum = FC(add_sum),
    .depthwise = FC(depthwise),
    .depthwise_spread = FC(depthwise_spread),
    .depthwise_weight = FC(depthwise_weight),
    .depthwise_weight_finish = FC(depthwise_weight_finish),
    .depthwise_pixels = FC(depthwise_pixels),
    .depthwise_pixels_weight = FC(depthwise_pixels_weight),
    .zip = FC(zip),
    .relu = FC(relu),
    .leaky_relu = FC(leaky_relu),
    .sigmoid = FC(sigmoid),
    .tanh = FC(tanh),
    .relu_backward = FC(relu_backward),
    .relu_bits = FC(relu_bits),
    .relu_backward_bits = FC(relu_backward_bits),
    .leaky_relu_backward = FC(leaky_relu_backward),
    .sigmoid_backward = FC(sigmoid_backward),
    .tanh_backward = FC(tanh_backward),
    .softmax = FC(softmax),
    .softmax_backward = FC(softmax_backward),
    .sum_row = FC(sum_row),
    .sum_pixels = FC(sum_pixels),
    .affine_rows = FC(affine_rows),
    .affine_pixels = FC(affine_pixels),
    .response_norm = FC(response_norm),
    .plus = FC(plus),
    .minus = FC(minus),
    .plus_relu = FC(plus_relu),
    .keep = FC(keep),
    .squared_error = FC(squared_error),
    .cross_entropy = FC(cross_entropy),
    .adam = FC(adam),
    .sgd = FC(sgd),
    .from_half = from_half,
    .to_half = to_half,
    .max_pool = FC(max_pool),
    .avg_pool = FC(avg_pool),
    .avg_pool_backward = FC(avg_pool_backward),
    .max_pool_backward = FC(max_pool_backward),
    .share_maxima = FC(share_maxima),
    .lanes_from = FC(lanes_from),
    .lanes_to = FC(lanes_to),
    .join_sums = FC(join_sums),
    .strassen_operands = FC(strassen_operands),
    .strassen_results = FC(strassen_results),
    .winograd_input = FC(winograd_input),
    .winograd_grad_output = FC(winograd_grad_output),
    .winograd_output = FC(winograd_output),
    .winograd_weight = FC(winograd_weight),
    .winograd_grad_weight = FC(winograd_grad_weight),
};
