/*
 * The operations of host devices. Each runs comm->run to its end: 0, or the code that comm->fault holds (EINVAL and ENOTSUP: nothing
 * was exchanged). All are collective and run the same steps on every rank, computed from the descriptor and the token count alone.
 */
#ifndef TCK_HOST_OPERATIONS_H
#define TCK_HOST_OPERATIONS_H

#include "host/comm_private.h"

int tck_host_all_reduce(struct tck_comm *comm);
int tck_host_all_gather(struct tck_comm *comm);
int tck_host_reduce_scatter(struct tck_comm *comm);
int tck_host_all_to_all(struct tck_comm *comm);
int tck_host_broadcast(struct tck_comm *comm);
int tck_host_finalize(struct tck_comm *comm);
int tck_host_barrier(struct tck_comm *comm);

/* Data bytes that one rank moves per step, tuned for caches; never more than the buffer holds. */
enum { TCK_CHUNK_BYTES = 256 << 10 };

#endif
