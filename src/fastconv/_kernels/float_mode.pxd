cdef extern from "float_mode.h" nogil:
    ctypedef unsigned long fc_float_mode
    fc_float_mode fc_flush_denormals()
    void fc_restore_float_mode(fc_float_mode before)
