/* What kernels that use multicast objects need of them. Owner: nobody, functions only. */
#ifndef TESTS_FAKE_CUDA_MULTICAST_H
#define TESTS_FAKE_CUDA_MULTICAST_H

#include "twins.h"

/* Whether stores to this address would reach all ranks: complains, and says what becomes of the device. Without the lock. */
CUresult fake_multicast_check(const struct fake_launch *launch, const void *address);

#endif
