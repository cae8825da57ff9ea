"""The only omp_* calls, and what a forked child must know."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    static int omp_get_thread_num(void) { return 0; }
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
    int fc_forked
    void fc_watch_forks()


cdef int thread_index() noexcept nogil:
    return omp_get_thread_num()


def forked() -> bool:
    """Whether this process was forked after fastconv was imported: such a process gets one thread."""
    return bool(fc_forked)


fc_watch_forks()
