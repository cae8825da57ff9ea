from fastconv._kernels.correlation cimport Correlation

cdef bint correlate(const Correlation *whole, int num_threads) noexcept nogil
