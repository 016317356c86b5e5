/*
 * The forms of the all-reduce that use NVLink multicast (seed-spec 12, 13, 15), in place of MNNVL, SYMM_MEM and UB where a group's
 * workspaces have a multicast object. Their kernels are named tck_nvls_<form>_<type>_<plain or norm>, for any number of ranks; SM 9.0 and
 * newer.
 *
 *   oneshot  MNNVL, short messages: one store reaches all ranks. The same bits as without multicast
 *   twoshot  MNNVL, longer ones: sums are stored to all ranks at once. The same bits as without multicast
 *   reduce   SYMM_MEM and UB: the switch adds (fp32 inside, rounded once), in an order of its own, so that the last bit may differ from
 * what the unicast forms compute. Every sum is asked for by one rank alone, so that all ranks have the same
 *
 * Owner: nobody, constants and pure functions. Threads: any.
 */
#ifndef TCK_CUDA_NVLS_H
#define TCK_CUDA_NVLS_H

#include "cuda/family.h"

enum { TCK_NVLS_BLOCKS = 128 }; /* of a launch at most. Each waits for those of its number only, so not all need to find room at once */

tck_cuda_shape_function tck_cuda_nvls_oneshot_shape, tck_cuda_nvls_shape;

#endif
