cdef int thread_index() noexcept nogil
