#include "cuda/driver.h"

#include <tcw/types.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* cuda.h renames functions to the versions that it declares; the library has them under those names. */
#define TEXT_OF(expanded) #expanded

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
#define TCK_CUDA_FUNCTION(name) {TEXT_OF(name), offsetof(struct tck_cuda_driver, name)},
#include <tck/cuda_functions.def>
#undef TCK_CUDA_FUNCTION
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tck_cuda_driver table;
static _Atomic(const struct tck_cuda_driver *) loaded; /* &table, when it is complete and CUDA is initialized */
static pid_t initialized_by;

const struct tck_cuda_driver *tck_cuda_driver(void)
{
    return atomic_load_explicit(&loaded, memory_order_acquire);
}

static int fill_table(void *library, char *why, size_t why_bytes)
{
    _Static_assert(sizeof(void *) == sizeof(table.cuInit), "functions have addresses like data");
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *function = dlsym(library, functions[i].name);
        if (!function) {
            snprintf(why, why_bytes, "the CUDA driver is too old: it has no %s (made for CUDA %d.%d)", functions[i].name,
                     CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
            return TCW_ENOTSUP;
        }
        memcpy((unsigned char *)&table + functions[i].offset, &function, sizeof(function));
    }
    return 0;
}

static const char *text_of(CUresult result, char *text, size_t bytes)
{
    const char *name = NULL, *meaning = NULL;
    if (table.cuGetErrorName(result, &name) || !name || table.cuGetErrorString(result, &meaning) || !meaning)
        snprintf(text, bytes, "CUDA error %d", (int)result);
    else
        snprintf(text, bytes, "%s: %s", name, meaning);
    return text;
}

/* What people can do about the ways in which CUDA is most often not usable. */
static const char *advice_on(CUresult result)
{
    switch (result) {
    case CUDA_ERROR_NOT_INITIALIZED:
        return " (this process was forked from one that had used CUDA; CUDA works only after an exec)";
    case CUDA_ERROR_STUB_LIBRARY:
        return " (the libcuda.so.1 that was found is the toolkit's stub and no driver)";
    case CUDA_ERROR_SYSTEM_NOT_READY:
        return " (is the fabric manager running?)";
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        return " (the libcuda.so.1 that was found does not belong to the kernel module: restart after driver updates)";
    case CUDA_ERROR_MPS_CONNECTION_FAILED:
        return " (an MPS control daemon is there, but does not serve this process)";
    case CUDA_ERROR_MPS_SERVER_NOT_READY:
        return " (the MPS server is starting, or recovers from a process that was killed while its kernels ran: start this one again)";
    default:
        return "";
    }
}

static int initialize(char *why, size_t why_bytes)
{
    char text[160];
    CUresult result = table.cuInit(0);
    if (result == CUDA_SUCCESS)
        return 0;
    snprintf(why, why_bytes, "CUDA cannot be initialized: %s%s", text_of(result, text, sizeof(text)), advice_on(result));
    return result == CUDA_ERROR_NO_DEVICE ? TCW_ENOTSUP : TCW_EDEVICE;
}

static int load(char *why, size_t why_bytes)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        snprintf(why, why_bytes, "no CUDA driver: %s", reason ? reason : "libcuda.so.1 cannot be loaded");
        return TCW_ENOTSUP;
    }
    int code = fill_table(library, why, why_bytes);
    if (code)
        dlclose(library);
    /* From here on it stays: it may have started threads, even if it says no. */
    return code ? code : initialize(why, why_bytes);
}

int tck_cuda_driver_load(char *why, size_t why_bytes)
{
    int code = 0;
    pthread_mutex_lock(&lock);
    if (!tck_cuda_driver()) {
        code = load(why, why_bytes);
        if (!code) {
            initialized_by = getpid();
            atomic_store_explicit(&loaded, &table, memory_order_release);
        }
    } else if (initialized_by != getpid()) {
        /* The parent's contexts are not usable here, and CUDA cannot start anew. */
        snprintf(why, why_bytes, "process %d was forked from process %d after that one had initialized CUDA; CUDA works only after an exec",
                 (int)getpid(), (int)initialized_by);
        code = TCW_EDEVICE;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

int tck_cuda_code(CUresult result)
{
    switch (result) {
    case CUDA_SUCCESS:
        return 0;
    case CUDA_ERROR_OUT_OF_MEMORY:
        return TCW_ENOMEM;
    case CUDA_ERROR_NOT_READY:
        return TCW_EAGAIN;
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
    case CUDA_ERROR_STREAM_CAPTURE_MERGE:
    case CUDA_ERROR_STREAM_CAPTURE_UNMATCHED:
    case CUDA_ERROR_STREAM_CAPTURE_UNJOINED:
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
    case CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
        return TCW_ECAPTURE;
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_PEER_ACCESS_UNSUPPORTED:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
        return TCW_ENOTSUP;
    default:
        return TCW_EDEVICE;
    }
}

const char *tck_cuda_text(CUresult result, char *text, size_t bytes)
{
    if (!tck_cuda_driver()) {
        snprintf(text, bytes, "CUDA error %d", (int)result);
        return text;
    }
    return text_of(result, text, bytes);
}
