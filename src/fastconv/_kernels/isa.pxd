cdef extern from "kernels.h" nogil:
    enum:
        FC_FLOAT32
        FC_FLOAT64
        FC_MAX_MR
        FC_MAX_NR

    ctypedef struct fc_tile:
        ptrdiff_t depth
        const void *a
        ptrdiff_t a_row
        ptrdiff_t a_step
        const ptrdiff_t *a_table
        const void *b
        ptrdiff_t b_step
        void *c
        ptrdiff_t c_row
        int rows
        int accumulate
        int relu
        const void *row_bias
        const void *column_bias

    ctypedef struct fc_kernels:
        const char *isa
        int itemsize
        int lanes
        int mr
        int nr
        void (*gemm_tile)(const fc_tile *) noexcept nogil
        void (*transpose)(void *, ptrdiff_t, const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*gather)(void *, const void *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*scatter)(void *, ptrdiff_t, const void *, ptrdiff_t) noexcept nogil
        void (*gather_rows)(void *, ptrdiff_t, const void *, const ptrdiff_t *, ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*add)(void *, const void *, ptrdiff_t) noexcept nogil
        void (*add_sum)(void *, const void *, ptrdiff_t) noexcept nogil

cdef const fc_kernels *kernels_for(int typenum) except NULL
