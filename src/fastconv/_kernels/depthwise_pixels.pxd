from fastconv._kernels.correlation cimport Correlation

# Each computes all of c.out; False where there was no memory, and nothing is written then.
cdef bint correlate_pixels(const Correlation *c, int num_threads) noexcept nogil
cdef bint correlate_turned(const Correlation *c, int num_threads) noexcept nogil
cdef bint turns(const Correlation *c) noexcept nogil
