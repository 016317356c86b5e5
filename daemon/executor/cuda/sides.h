/*
 * Sides: the two streams of a communicator, and the choice between them.
 *
 * A GPU feeds its work queues from two sides, and the driver deals them out to streams in turn, as they are made. Where the stream of a
 * client and the stream that serves it wait for each other from different sides, every request costs more than from the same one (H200,
 * MPS): 1 to 3 us, and 6 to 8 when streams still told their end themselves, without a kernel. Which side a client's stream has, nobody
 * says, and a client may use several. So a communicator has a stream on each side, and measures: now and then a few short series of
 * requests run on either, and from then on all on the better one.
 *
 * What is measured is the time between the end of a kernel of ours and the beginning of the next, from the records that kernels write: it
 * is this rank's alone, while kernels themselves last until the slowest rank has come. NCCL writes no records; where it runs everything,
 * nothing is measured.
 *
 * Requests follow each other as on one stream: whoever changes sides lets the new stream wait for the old one.
 *
 * Lives in an executor process, part of a communicator; used by workers under the communicator's lock, but for `streams`, which are
 * constant.
 */
#ifndef TCD_CUDA_SIDES_H
#define TCD_CUDA_SIDES_H

#include <tck/cuda_driver.h>
#include <tcw/member.h>

#include <stdbool.h>
#include <stdint.h>

enum { TCD_CUDA_SIDES = 2, TCD_CUDA_SERIES = 6 };

struct tcd_cuda_sides {
    CUstream streams[TCD_CUDA_SIDES]; /* NULL: not made */
    CUevent order;                    /* of a change */
    unsigned side;                    /* where requests go */
    unsigned home;                    /* the better one, as far as is known */
    uint64_t rest;                    /* requests until the next trial; 0: one is under way */
    uint64_t pause;                   /* after it; grows */
    /* The trial under way: */
    unsigned series;                            /* at hand; TCD_CUDA_SERIES: all have been enqueued, the last records are awaited */
    unsigned count;                             /* requests of it */
    unsigned age;                               /* requests of the trial */
    const struct tcw_device_progress *progress; /* where they are recorded; looked at only for a caller who has it */
    uint64_t step;                              /* the latest */
    uint64_t last[TCD_CUDA_SERIES];             /* the last step of each series */
    uint64_t trials;                            /* with a result, so far */
};

/* What has been made is there to be closed in any case. */
CUresult tcd_cuda_sides_open(struct tcd_cuda_sides *sides);
void tcd_cuda_sides_close(struct tcd_cuda_sides *sides);

/* Where the next request goes, whose lane has this progress block. */
CUresult tcd_cuda_sides_turn(struct tcd_cuda_sides *sides, const struct tcw_device_progress *progress, CUstream *stream);
/* It has been enqueued there, and will be recorded as this step; 0: not at all. */
void tcd_cuda_sides_enqueued(struct tcd_cuda_sides *sides, const struct tcw_device_progress *progress, uint64_t step);

/* CUDA_SUCCESS: nothing runs; CUDA_ERROR_NOT_READY, or what is wrong with them. Needs no lock. */
CUresult tcd_cuda_sides_query(const struct tcd_cuda_sides *sides);

#endif
