"""All of OpenMP: the loop that threads share, the only omp_* calls, and what a forked child must know."""

from cython.parallel cimport parallel
from libc.limits cimport INT_MAX
from libc.stdlib cimport getenv
from libc.string cimport memset

from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.isa cimport fc_streamed

import os

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    static int omp_get_thread_num(void) { return 0; }
    static int omp_get_num_threads(void) { return 1; }
    static int omp_get_max_threads(void) { return 1; }
    #endif

    /* MSVC's OpenMP, which is older, binds nothing. */
    #if defined(_OPENMP) && _OPENMP >= 201307
    static int fc_bound_processors(void) { return omp_get_proc_bind() ? omp_get_num_procs() : 0; }
    #else
    static int fc_bound_processors(void) { return 0; }
    #endif

    /* Before a parallel region of a function without the GIL, Cython asks whether the GIL is held after
     * all. Up to Python 3.11 the answer is always yes once there has been a second interpreter, and the
     * process would end. */
    #if PY_VERSION_HEX < 0x030C0000
    static CYTHON_UNUSED CYTHON_INLINE int fc_holds_gil(void)
    {
        PyThreadState *holder = _PyThreadState_UncheckedGet();
        return holder != NULL && holder == PyGILState_GetThisThreadState();
    }
    #define PyGILState_Check fc_holds_gil
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
    int omp_get_num_threads() noexcept nogil
    int omp_get_max_threads() noexcept nogil
    int fc_bound_processors() noexcept nogil
    int FC_FREE_THREADED
    int fc_forked
    void fc_watch_forks()

cdef extern from "team.h" nogil:
    ctypedef struct fc_team:
        int stay
        Py_ssize_t total
    void fc_take_part(
        fc_team *team, int thread, int threads, Py_ssize_t items, int in_turn, Body body, const void *job)


cdef inline fc_float_mode begin(int loop) noexcept nogil:
    return fc_flush_denormals() if loop & PRODUCTS else <fc_float_mode>0


cdef inline void end(int loop, fc_float_mode mode) noexcept nogil:
    """What this thread wrote past the caches is there for all before it goes on."""
    fc_streamed()
    if loop & PRODUCTS:
        fc_restore_float_mode(mode)


cdef Py_ssize_t parallel_for(
        Py_ssize_t items, int num_threads, Body body, const void *job, int loop) noexcept nogil:
    """Has all items computed, in any order; returns the sum of what `body` returns.

    One thread goes without OpenMP: libgomp takes a microsecond to make a team of one.
    """
    cdef fc_float_mode mode = 0
    cdef Py_ssize_t item, total = 0
    cdef fc_team team
    if num_threads <= 1 or items <= 1:
        mode = begin(loop)
        for item in range(items):
            total += body(job, item, 0)
        end(loop, mode)
        return total
    memset(&team, 0, sizeof(team))
    team.stay = threads_stay
    with parallel(num_threads=num_threads):
        mode = begin(loop)
        fc_take_part(&team, omp_get_thread_num(), omp_get_num_threads(), items, loop & IN_TURN, body, job)
        end(loop, mode)
    return team.total


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


def bound_processors() -> int:
    """The processors that the OpenMP library binds its threads to, one each; 0 where it binds none.

    The affinity of a thread that is bound is its own, and says nothing of the process.
    """
    return fc_bound_processors()


def environment(bytes name) -> str:
    """An environment variable's value, as `os.environ` would give it at a tenth of the time; "" if unset.

    The GIL keeps Python code from changing the environment meanwhile; without one, `os.environ` is asked.
    """
    cdef const char *value
    if FC_FREE_THREADED:
        return os.environ.get(name.decode(), "")
    value = getenv(name)
    return "" if value == NULL else (<bytes>value).decode("utf-8", "replace")


cdef bint threads_stay = environment(b"OMP_PROC_BIND").strip().lower() == "false"
fc_watch_forks()
