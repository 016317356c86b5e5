#include "fake.h"

#include <string.h>

#define TEXT_OF(expanded) #expanded
typedef void any_function(void);

/* By the name that people use and by the versioned one. */
static const struct {
    const char *plain, *versioned;
    any_function *function;
} functions[] = {
#define TCK_CUDA_FUNCTION(name) {#name, TEXT_OF(name), (any_function *)name},
#include <tck/cuda_functions.def>
#undef TCK_CUDA_FUNCTION
};

CUresult cuGetProcAddress(const char *symbol, void **function, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *status)
{
    (void)version;
    (void)flags;
    if (!symbol || !function)
        return CUDA_ERROR_INVALID_VALUE;
    *function = NULL;
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
        if (!strcmp(symbol, functions[i].plain) || !strcmp(symbol, functions[i].versioned))
            memcpy(function, &functions[i].function, sizeof(*function));
    if (status)
        *status = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
