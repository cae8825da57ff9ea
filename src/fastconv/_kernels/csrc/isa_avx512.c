#define FC_ISA avx512
#define FC_ISA_NAME "avx512"
#include "simd_avx512.h"
#include "isa_body.inc.h"
