/*
 * Client memory as an executor of a CUDA device maps it: pieces of VMM memory side by side, or a legacy handle of another allocation.
 *
 * Lives in an executor process; main thread. Owner: struct tcd_ex_memory, which is closed when no request uses it.
 */
#ifndef TCD_CUDA_MEMORY_H
#define TCD_CUDA_MEMORY_H

#include "../client.h"

/* See struct tcd_ex_engine_ops. Descriptors stay the caller's. */
int tcd_cuda_memory_open(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, int *fds, unsigned fd_count,
                         struct tcd_ex_memory *memory, char *text);
void tcd_cuda_memory_close(struct tcd_ex_engine *engine, struct tcd_ex_memory *memory);

#endif
