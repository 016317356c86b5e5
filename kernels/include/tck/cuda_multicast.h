/*
 * Multicast objects: one address for the same place in the workspaces of all ranks of a group. Made, joined and bound by executors, in
 * three steps between which all must have done the one before; mapped like other memory (tck_memory_import) by who uses it.
 *
 * Only where somebody wants it: the daemon asks for none unless its configuration says so, and nothing here works while the environment
 * says NCCL_NVLS_ENABLE=0. On shared hosts a multicast object that goes wrong can put GPUs out of service.
 *
 * Owner: descriptors belong to the caller; the object lives as long as its descriptors and mappings. Threads: any; may take long. Only for
 * code that is left out of builds without CUDA.
 */
#ifndef TCK_CUDA_MULTICAST_H
#define TCK_CUDA_MULTICAST_H

#include <tck/device.h>

/* Whether the environment leaves it to us. */
bool tck_cuda_multicast_allowed(void);

/* For `nranks` GPUs and workspaces of `bytes`. 0 with *fd, or a tcw_errno with `why`. */
int tck_cuda_multicast_create(struct tck_device *device, uint64_t bytes, uint32_t nranks, int *fd, char *why, size_t why_bytes);
/* Adds the device. When all have joined, memory can be bound. */
int tck_cuda_multicast_join(struct tck_device *device, int fd, char *why, size_t why_bytes);
/* This rank's workspace becomes a part of it. When all are, the object can be used. */
int tck_cuda_multicast_bind(struct tck_device *device, int fd, int workspace_fd, uint64_t bytes, char *why, size_t why_bytes);

#endif
