cdef extern from "kernels.h" nogil:
    enum:
        FC_FLOAT32
        FC_FLOAT64
        FC_MAX_MR
        FC_MAX_NR

    ctypedef struct fc_tile:
        Py_ssize_t depth
        const void *a
        Py_ssize_t a_row
        Py_ssize_t a_step
        const Py_ssize_t *a_table
        const void *b
        Py_ssize_t b_step
        void *c
        Py_ssize_t c_row
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
        void (*transpose)(void *, Py_ssize_t, const void *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*gather)(void *, const void *, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*scatter)(void *, Py_ssize_t, const void *, Py_ssize_t) noexcept nogil
        void (*gather_rows)(void *, Py_ssize_t, const void *, const Py_ssize_t *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*add)(void *, const void *, Py_ssize_t) noexcept nogil
        void (*add_sum)(void *, const void *, Py_ssize_t) noexcept nogil

cdef const fc_kernels *kernels_for(int typenum) except NULL
