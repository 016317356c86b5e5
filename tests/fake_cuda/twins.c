#include "twins.h"

#include "cuda/args.h"
#include "cuda/copy.h"

#include <string.h>

static const struct fake_twin twins[] = {
    {"tck_oneshot_", sizeof(struct tck_cuda_args), fake_twin_all_reduce},
    {"tck_twoshot_", sizeof(struct tck_cuda_args), fake_twin_all_reduce},
    {"tck_nvls_", sizeof(struct tck_cuda_args), fake_twin_all_reduce},
    {"tck_finalize", sizeof(struct tck_cuda_args), fake_twin_all_reduce},
    {"tck_epilogue_", sizeof(struct tck_cuda_args), fake_twin_epilogue},
    {"tck_copy", sizeof(struct tck_copy_args), fake_twin_copy},
    {"tck_tell", sizeof(struct tck_cuda_signal), fake_twin_tell},
};

const struct fake_twin *fake_twin_find(const char *name)
{
    for (size_t i = 0; i < sizeof(twins) / sizeof(twins[0]); i++)
        if (!strncmp(name, twins[i].prefix, strlen(twins[i].prefix)))
            return &twins[i];
    return NULL;
}
