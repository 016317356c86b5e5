#include "ahead.h"

#include "captured.h"
#include "lane.h"

#include <tck/device.h>

enum {
    AWAIT_SPINS = 20,      /* so many times as long as else one waits without sleeping for a stream: it wakes nobody */
    LONG_BYTES = 16 << 20, /* an operation on so much takes tens of microseconds and more */
};

/*
 * Whether what is enqueued ahead of a client's stream could come before something that this stream has to pass first: a graph's request, or
 * one of another group. Workers do not know in which order a client has posted to different rings, and even if nothing depends on anything,
 * one engine's kernels would hold up those of another one for as long as it computes. So only who is alone enqueues ahead.
 */
static bool has_company(const struct tcd_cuda_communicator *communicator)
{
    return atomic_load_explicit(&communicator->captured, memory_order_acquire) ||
           atomic_load_explicit(&communicator->lanes, memory_order_acquire) > 1;
}

/*
 * Whether it would wait in the stream while a long operation is running. Where processes share the GPU by turns, without MPS, a work queue
 * that has come to such a wait seems to count as idle, and others to get the GPU in the midst of the operation: messages of 64 and 256 MB
 * have taken twice to five times as long (H200).
 */
static bool is_behind_long(const struct tcd_cuda_lane *lane)
{
    const struct tcd_cuda_flight *latest = tcd_cuda_lane_latest(lane);
    return latest && latest->note.bytes >= LONG_BYTES && !tck_device_facts(lane->attachment->engine->device)->mps;
}

static bool is_ready(const struct tcd_cuda_lane *lane)
{
    const struct tcd_ex_attachment *attachment = lane->attachment;
    return tcd_cuda_words_is_ready(&lane->words, attachment->job.request.head.pair, attachment->requests);
}

void tcd_cuda_ahead_await(struct tcd_ex_attachment *attachment)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    const unsigned patience = attachment->crowded ? 1 : AWAIT_SPINS;
    for (unsigned turn = 0; has_company(lane->communicator) || is_behind_long(lane); ++turn) {
        if (is_ready(lane) || tcd_cuda_lane_is_lost(lane) || tcd_ex_attachment_stopping(attachment) || lane->ending_ns ||
            atomic_load_explicit(&lane->communicator->cancelled, memory_order_acquire))
            return;
        if (tcd_cuda_captured_poll(attachment))
            turn = 0;
        else
            tcd_cuda_lane_pause(lane, turn / patience);
    }
}
