#define FC_ISA avx2
#define FC_ISA_NAME "avx2"
#include "simd_avx2.h"
#include "isa_body.inc.h"
