/*
 * Ahead: what an executor enqueues before the client's stream has come to it, and what not. An entry of the ring is there as soon as the
 * client's host has posted it; enqueued at once, the executor's stream waits for its `ready` word, and a request costs no work of any host
 * in between. That is how it goes unless something speaks against it.
 *
 * Lives in an executor process, part of a lane; used by the attachment's worker alone.
 */
#ifndef TCD_CUDA_AHEAD_H
#define TCD_CUDA_AHEAD_H

#include "../attachment.h"

/* Before a request of the ring is enqueued: returns when nothing speaks against it any more, its inputs are there, or nothing counts. */
void tcd_cuda_ahead_await(struct tcd_ex_attachment *attachment);

#endif
