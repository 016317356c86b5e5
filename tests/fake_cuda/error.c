#include "fake.h"

/* Those that are answered here or that tests inject. */
#define ERRORS(X)                                                                                                                          \
    X(CUDA_SUCCESS, "no error")                                                                                                            \
    X(CUDA_ERROR_INVALID_VALUE, "invalid argument")                                                                                        \
    X(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                                                                           \
    X(CUDA_ERROR_NOT_INITIALIZED, "initialization error")                                                                                  \
    X(CUDA_ERROR_DEINITIALIZED, "driver shutting down")                                                                                    \
    X(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                                                                          \
    X(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                                                                 \
    X(CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                                                                \
    X(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered")                                                                 \
    X(CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS")                                                 \
    X(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                                                                \
    X(CUDA_ERROR_NOT_FOUND, "named symbol not found")                                                                                      \
    X(CUDA_ERROR_NOT_READY, "device not ready")                                                                                            \
    X(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                                                              \
    X(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")                                                       \
    X(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated")                                                                \
    X(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed")                                                                             \
    X(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the requested memory range is already mapped")                            \
    X(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region")                                  \
    X(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")                                                                              \
    X(CUDA_ERROR_NOT_PERMITTED, "operation not permitted")                                                                                 \
    X(CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                                                                 \
    X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing")                                           \
    X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture")                                    \
    X(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not initiated in this stream")                                                     \
    X(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work")                                                            \
    X(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream")                                      \
    X(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream")                  \
    X(CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream")                                \
    X(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "attempt to terminate a thread-local capture sequence from another thread")                  \
    X(CUDA_ERROR_UNKNOWN, "unknown error")

CUresult cuGetErrorName(CUresult error, const char **text)
{
    switch (error) {
#define NAME(code, string)                                                                                                                 \
    case code:                                                                                                                             \
        *text = #code;                                                                                                                     \
        return CUDA_SUCCESS;
        ERRORS(NAME)
#undef NAME
    default:
        *text = NULL;
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    switch (error) {
#define STRING(code, string)                                                                                                               \
    case code:                                                                                                                             \
        *text = string;                                                                                                                    \
        return CUDA_SUCCESS;
        ERRORS(STRING)
#undef STRING
    default:
        *text = NULL;
        return CUDA_ERROR_INVALID_VALUE;
    }
}
