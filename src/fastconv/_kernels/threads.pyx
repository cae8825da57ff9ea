"""The only omp_* calls, and what a forked child must know."""

from libc.limits cimport INT_MAX
from libc.stdlib cimport getenv

import os

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    static int omp_get_thread_num(void) { return 0; }
    static int omp_get_max_threads(void) { return 1; }
    #endif

    #ifdef Py_GIL_DISABLED
    #define FC_FREE_THREADED 1
    #else
    #define FC_FREE_THREADED 0
    #endif

    /* libgomp cannot start threads in a child that was forked after a parallel region ran:
     * it waits forever for threads that only the parent has. So a forked child stays on one. */
    static volatile int fc_forked = 0;
    #ifndef _WIN32
    #include <pthread.h>
    static void fc_note_fork(void) { fc_forked = 1; }
    static void fc_watch_forks(void) { pthread_atfork(NULL, NULL, fc_note_fork); }
    #else
    static void fc_watch_forks(void) {}
    #endif
    """
    int omp_get_thread_num() noexcept nogil
    int omp_get_max_threads() noexcept nogil
    int FC_FREE_THREADED
    int fc_forked
    void fc_watch_forks()


cdef int thread_index() noexcept nogil:
    return omp_get_thread_num()


def forked() -> bool:
    """Whether this process was forked after fastconv was imported: such a process gets one thread."""
    return bool(fc_forked)


cdef int max_threads_at_first = omp_get_max_threads()


def openmp_limit() -> int:
    """The most threads that the OpenMP library now allows the calling thread, where someone has changed that.

    Unchanged, it says what OMP_NUM_THREADS and affinity were when the library was loaded, and binds nobody.
    """
    cdef int limit = omp_get_max_threads()
    return INT_MAX if limit == max_threads_at_first else limit


def environment(bytes name) -> str:
    """An environment variable's value, as `os.environ` would give it at a tenth of the time; "" if unset.

    The GIL keeps Python code from changing the environment meanwhile; without one, `os.environ` is asked.
    """
    cdef const char *value
    if FC_FREE_THREADED:
        return os.environ.get(name.decode(), "")
    value = getenv(name)
    return "" if value == NULL else (<bytes>value).decode("utf-8", "replace")


fc_watch_forks()
