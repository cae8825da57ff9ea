#define FC_ISA generic
#define FC_ISA_NAME "generic"
#include "simd_generic.h"
#include "isa_body.inc.h"
