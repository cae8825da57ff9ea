/* Included by each isa_<name>.c after its simd header; defines fc_kernels_<name>. */
#include "kernels.h"
#include "half.inc.h"

#define FC_DTYPE 32
#include "isa_table.inc.h"
#undef FC_DTYPE
#define FC_DTYPE 64
#include "isa_table.inc.h"
#undef FC_DTYPE

extern const fc_kernels *const FC_PASTE(fc_kernels_, FC_ISA)[FC_DTYPES];
const fc_kernels *const FC_PASTE(fc_kernels_, FC_ISA)[FC_DTYPES] = {&kernels_f32, &kernels_f64};
