# How an item of a loop is computed; `thread` is from 0 to num_threads - 1. What it returns is added up.
ctypedef Py_ssize_t (*Body)(const void *job, Py_ssize_t item, int thread) noexcept nogil

cdef enum Loop:
    EVENLY = 0     # each thread gets as many neighbouring items as the others
    IN_TURN = 1    # the next thread that is free gets the next item
    PRODUCTS = 2   # float_mode.h: denormals are zeros

cdef Py_ssize_t parallel_for(
    Py_ssize_t items, int num_threads, Body body, const void *job, int loop) noexcept nogil
