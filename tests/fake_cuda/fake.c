#include "fake.h"

#include "context.h"
#include "graph.h"
#include "inject.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool initialized; /* cuInit was called */
static bool is_child;    /* of a process that had called it */

void fake_lock(void)
{
    pthread_mutex_lock(&lock);
}

void fake_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

pthread_mutex_t *fake_mutex(void)
{
    return &lock;
}

void fake_wait(void)
{
    pthread_cond_wait(&changed, &lock);
}

void fake_changed(void)
{
    pthread_cond_broadcast(&changed);
}

void fake_complain(const char *format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    fprintf(stderr, "fake cuda [%d]: %s\n", (int)getpid(), text);
}

void fake_nap(unsigned *naps)
{
    enum { YIELDS = 64, STEP_NS = 20000, LONGEST_NS = 500000 };
    unsigned n = (*naps)++;
    if (n < YIELDS) {
        sched_yield();
        return;
    }
    long ns = (long)(n - YIELDS + 1) * STEP_NS;
    nanosleep(&(struct timespec){.tv_nsec = ns < LONGEST_NS && ns > 0 ? ns : LONGEST_NS}, NULL);
}

/* A thread of the library holds the lock now and then; a child of fork has none of them and must not wait for it. */
static void note_fork(void)
{
    is_child = initialized;
}

CUresult fake_enter(const char *function, unsigned needs)
{
    int injected;
    CUresult result = CUDA_SUCCESS;
    if (is_child)
        return CUDA_ERROR_NOT_INITIALIZED;
    injected = trtcoll_fake_injected(function);
    if (injected)
        return (CUresult)injected;
    fake_lock();
    if (needs && !fake_devices_ready())
        result = CUDA_ERROR_NOT_INITIALIZED;
    if (!result && needs & FAKE_CONTEXT)
        result = fake_context_check(fake_context_current());
    if (!result && needs & FAKE_UNSAFE && fake_capture_forbids())
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (result)
        fake_unlock();
    return result;
}

CUresult fake_leave(CUresult result)
{
    fake_unlock();
    return result;
}

CUresult cuInit(unsigned int flags)
{
    CUresult result = fake_enter("cuInit", 0);
    if (result)
        return result;
    if (flags)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    result = fake_devices_init();
    if (!result && !initialized)
        initialized = !pthread_atfork(NULL, NULL, note_fork);
    return fake_leave(result);
}

CUresult cuDriverGetVersion(int *version)
{
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = 13000;
    return CUDA_SUCCESS;
}
