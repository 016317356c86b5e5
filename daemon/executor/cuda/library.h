/*
 * The collective library of CUDA devices, NCCL: libnccl.so.2 loaded with dlopen by the executor, and by nobody else. Types and reductions
 * are ours here, so that only library.c knows nccl.h. Environment variables of NCCL work as ever.
 *
 * Owner: an executor process; loaded once, never unloaded. Threads: calls on one communicator are the caller's to order, but
 * tcd_library_abort may come from any thread once no other call is under way.
 */
#ifndef TCD_CUDA_LIBRARY_H
#define TCD_CUDA_LIBRARY_H

#include "../../shared/executor_wire.h"

#include <cuda.h>

#include <stdbool.h>
#include <stddef.h>

struct tcd_library_comm; /* the library's own */
struct tcd_library_window;

/* 0 with *version as NCCL counts; TCW_ENOTSUP with `why`: not there, too old, not built in. */
int tcd_library_open(uint32_t *version, char *why, size_t why_bytes);

/* What follows needs the context of the device to be current. 0 or a code with `text` (TCW_TEXT_BYTES). */
int tcd_library_unique_id(unsigned char blob[TCD_EX_BLOB_BYTES], char *text);
/*
 * Makes and ends a communicator of one rank: what the library does once in a process, half a second, is done then. Who is to do so says so
 * beforehand, and in the end that it is over, if it has not come so far: until then others had better wait.
 */
int tcd_library_warm_up(char *text);
void tcd_library_set_warming(bool warming);
bool tcd_library_is_warming(void);
/* Starts to connect; returns at once. tcd_library_state tells when it is done. Whatever becomes of it: tcd_library_abort. */
int tcd_library_begin(const unsigned char blob[TCD_EX_BLOB_BYTES], uint32_t rank, uint32_t nranks, struct tcd_library_comm **comm,
                      char *text);
/*
 * Starts to make what operations run on, once it is connected. A communicator that connects without blocking starts a thread for every
 * operation later, which takes 100 us; the one that is made of it now runs operations in the caller's thread, and blocks. They share what
 * they have, and end together. Returns at once; tcd_library_state tells when it is done.
 */
int tcd_library_derive(struct tcd_library_comm *comm, uint32_t rank, char *text);
/* What the last calls have come to: 0 done, TCW_EAGAIN still at work, else a failure. */
int tcd_library_state(struct tcd_library_comm *comm, char *text);
/*
 * Ends running kernels and frees it. Takes half a second, and waits for all streams of the device, also those that wait for clients of
 * other communicators: not for a thread that others depend on.
 */
void tcd_library_abort(struct tcd_library_comm *comm);

/* Memory that windows may be made of. */
int tcd_library_memory(uint64_t bytes, void **base, char *text);
void tcd_library_memory_free(void *base);
/* Collective; lasts as long as the communicator. *window must stay where it is until that is done: NULL then if it cannot be made. */
int tcd_library_window(struct tcd_library_comm *comm, void *base, uint64_t bytes, struct tcd_library_window **window, char *text);

/* Operations are enqueued on `stream`; 0 or TCW_EDEVICE with `text`. Between group_begin and group_end they become one launch. */
int tcd_library_group_begin(char *text);
int tcd_library_group_end(char *text);
int tcd_library_all_reduce(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                           CUstream stream, char *text);
int tcd_library_reduce(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                       uint32_t root, CUstream stream, char *text);
int tcd_library_reduce_scatter(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                               CUstream stream, char *text);
int tcd_library_all_gather(struct tcd_library_comm *comm, const void *in, void *out, uint64_t bytes, CUstream stream, char *text);
int tcd_library_broadcast(struct tcd_library_comm *comm, const void *in, void *out, uint64_t bytes, uint32_t root, CUstream stream,
                          char *text);
int tcd_library_send(struct tcd_library_comm *comm, const void *in, uint64_t bytes, uint32_t peer, CUstream stream, char *text);
int tcd_library_receive(struct tcd_library_comm *comm, void *out, uint64_t bytes, uint32_t peer, CUstream stream, char *text);

#endif
