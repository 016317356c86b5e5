/*
 * Loading of the CUDA driver: the private half of tck/cuda_driver.h. Owner: the process; what has been loaded stays. Threads: any.
 */
#ifndef TCK_CUDA_DRIVER_PRIVATE_H
#define TCK_CUDA_DRIVER_PRIVATE_H

#include <tck/cuda_driver.h>

/*
 * Finds libcuda.so.1 and everything of cuda_functions.def in it, and initializes CUDA; does nothing when that has been done. A failure is
 * not remembered: the next call tries again. 0; ENOTSUP: no driver, too old, no GPU; EDEVICE: the driver refuses; *why says what and why.
 */
int tck_cuda_driver_load(char *why, size_t why_bytes);

#endif
