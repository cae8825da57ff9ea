# Before a parallel region of a function without the GIL, Cython asks whether the GIL is held after all. Up to
# Python 3.11 the answer is always yes once there has been a second interpreter, and the process would end.
cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030C0000
    static CYTHON_UNUSED CYTHON_INLINE int fc_holds_gil(void)
    {
        PyThreadState *holder = _PyThreadState_UncheckedGet();
        return holder != NULL && holder == PyGILState_GetThisThreadState();
    }
    #define PyGILState_Check fc_holds_gil
    #endif
    """

cdef int thread_index() noexcept nogil
