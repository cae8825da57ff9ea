"""Owns the table of kernels, chosen once, at import."""

cimport numpy as cnp

import os

cdef extern from "kernels.h" nogil:
    enum:
        FC_DTYPES
    const char *fc_isa_available(int number)
    const char *fc_isa_compiled(int number)
    const fc_kernels *fc_isa_kernels(const char *isa, int dtype)

cdef extern from *:
    """
    #if defined(_MSC_VER) && !defined(__clang__)
    #define FC_STRING_(x) #x
    #define FC_STRING(x) FC_STRING_(x)
    static const char *const fc_compiler = "MSVC " FC_STRING(_MSC_FULL_VER);
    #elif defined(__clang__)
    static const char *const fc_compiler = __VERSION__;
    #else
    static const char *const fc_compiler = "GCC " __VERSION__;
    #endif
    static const char *const fc_openmp_found = FC_OPENMP;
    static const char *const fc_compile_flags = FC_COMPILE_FLAGS;

    #ifdef _OPENMP
    #include <omp.h>
    static const int fc_openmp_version = _OPENMP;
    #else
    static const int fc_openmp_version = 0;
    #endif

    /* The file that the OpenMP functions come from, where the system tells. */
    #if defined(_OPENMP) && !defined(_WIN32)
    #include <dlfcn.h>
    static const char *fc_openmp_library(void)
    {
        Dl_info info;
        return dladdr((void *)(Py_uintptr_t)&omp_get_max_threads, &info) ? info.dli_fname : "";
    }
    #else
    static const char *fc_openmp_library(void) { return ""; }
    #endif

    /* For tests: stands in for any kernel and does nothing but say that it was called. */
    #include <stddef.h>
    typedef int fc_kernel(void);
    enum { FC_SLOTS = (sizeof(fc_kernels) - offsetof(fc_kernels, gemm_tile)) / sizeof(fc_kernel *) };
    static fc_kernel **fc_slots(const fc_kernels *table) { return (fc_kernel **)&table->gemm_tile; }
    static volatile int fc_called;
    static int fc_idle(void) { return fc_called = 1; }
    """
    ctypedef int fc_kernel()
    enum:
        FC_SLOTS
    fc_kernel **fc_slots(const fc_kernels *table)
    int fc_called
    int fc_idle()
    const char *fc_compiler
    const char *fc_openmp_found
    const char *fc_compile_flags
    const int fc_openmp_version
    const char *fc_openmp_library()

cdef const fc_kernels *active_float32 = NULL
cdef const fc_kernels *active_float64 = NULL


cdef list names(const char *(*name)(int) noexcept nogil):
    result = []
    while name(len(result)) != NULL:
        result.append(name(len(result)).decode())
    return result


def available() -> list:
    """Instruction sets compiled in that this machine has, best first."""
    return names(fc_isa_available)


def compiled() -> list:
    """Instruction sets compiled in, best first."""
    return names(fc_isa_compiled)


def active() -> str:
    """The instruction set in use."""
    return active_float32.isa.decode()


def build_info() -> dict:
    """Compiler, flags and OpenMP as they were when this was built, and where OpenMP's functions are now."""
    return {
        "compiler": fc_compiler.decode(),
        "flags": fc_compile_flags.decode(),
        "openmp": fc_openmp_found.decode(),
        "openmp_version": str(fc_openmp_version or ""),
        "openmp_library": os.fsdecode(<bytes>fc_openmp_library()),
    }


def tile_shape(dtype_char: str) -> tuple:
    """(rows, columns, lanes) of the register tile for "f" (float32) or "d" (float64)."""
    cdef const fc_kernels *table = active_float32 if dtype_char == "f" else active_float64
    return table.mr, table.nr, table.lanes


# ---- for tests ----

cdef fc_kernels altered[FC_DTYPES]


def slots(instruction_set: str, dtype_char: str) -> list:
    """Of each kernel of a table, in the order of kernels.h, whether it is there."""
    cdef const fc_kernels *table
    table = fc_isa_kernels(instruction_set.encode(), FC_FLOAT32 if dtype_char == "f" else FC_FLOAT64)
    return [fc_slots(table)[i] != NULL for i in range(FC_SLOTS)]


def put_out(dtype_char: str, slot: int) -> None:
    """Lets the kernel of that number do nothing from now on, and no other; -1 puts all back."""
    global active_float32, active_float64
    active_float32 = fc_isa_kernels(chosen, FC_FLOAT32)
    active_float64 = fc_isa_kernels(chosen, FC_FLOAT64)
    if slot < 0:
        return
    cdef int dtype = FC_FLOAT32 if dtype_char == "f" else FC_FLOAT64
    altered[dtype] = (active_float32 if dtype == FC_FLOAT32 else active_float64)[0]
    fc_slots(&altered[dtype])[slot] = fc_idle
    if dtype == FC_FLOAT32:
        active_float32 = &altered[dtype]
    else:
        active_float64 = &altered[dtype]


def was_called() -> bool:
    """Whether the kernel that was put out has been called since this was last asked."""
    global fc_called
    called, fc_called = fc_called != 0, 0
    return called


# ---- the choice ----

cdef str choose(str cap):
    """The best available instruction set that is not better than `cap`."""
    known = ["avx512", "avx2", "generic"]
    if not cap:
        return available()[0]
    if cap not in known:
        raise ImportError(f"FASTCONV_ISA={cap!r}: known are {', '.join(reversed(known))}")
    allowed = known[known.index(cap):]
    return next(name for name in available() if name in allowed)


cdef const fc_kernels *kernels_for(int typenum) except NULL:
    """Table for a NumPy type number, NPY_FLOAT32 or NPY_FLOAT64."""
    if typenum == cnp.NPY_FLOAT32:
        return active_float32
    if typenum == cnp.NPY_FLOAT64:
        return active_float64
    raise TypeError(f"no kernels for NumPy's type number {typenum}")


cdef bytes chosen = choose(os.environ.get("FASTCONV_ISA", "")).encode()
active_float32 = fc_isa_kernels(chosen, FC_FLOAT32)
active_float64 = fc_isa_kernels(chosen, FC_FLOAT64)
