/* How kernels are given what the end of a run tells others. Owner: nobody, travels by value. */
#ifndef TCK_CUDA_TELL_H
#define TCK_CUDA_TELL_H

#include "cuda/args.h"

#include <tck/cuda_comm.h>

static inline struct tck_cuda_signal tck_cuda_signal_of(const struct tck_cuda_end *end)
{
    return (struct tck_cuda_signal){.first = (void *)end->first,
                                    .second = (uint64_t *)end->second,
                                    .first_value = end->first_value,
                                    .second_value = end->second_value,
                                    .first_is_narrow = end->first_is_narrow};
}

#endif
