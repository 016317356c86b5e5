/* The steps of multicast objects in an executor, see engine.h. Keeps nothing. Threads: any. */
#ifndef TCD_EXECUTOR_CUDA_MULTICAST_H
#define TCD_EXECUTOR_CUDA_MULTICAST_H

#include "../engine.h"

int tcd_cuda_multicast(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, const int *fds, int *object, char *text);

#endif
