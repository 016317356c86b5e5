/* A ring in ordinary memory with both ends opened, as two processes would have it. Owner: the test. */
#ifndef TESTS_RING_FIXTURE_H
#define TESTS_RING_FIXTURE_H

#include <tcw/ring.h>

#include <stdlib.h>
#include <string.h>

struct ring_fixture {
    void *memory;
    uint64_t bytes;
    struct tcw_ring client, executor;
};

/* 0 on success. */
static inline int ring_fixture_make(struct ring_fixture *fixture, uint32_t sq, uint32_t cq, int sq_event, int cq_event)
{
    fixture->bytes = tcw_ring_bytes(sq, cq, false);
    fixture->memory = fixture->bytes ? aligned_alloc(4096, fixture->bytes) : NULL;
    if (!fixture->memory)
        return -1;
    memset(fixture->memory, 0, fixture->bytes);
    if (tcw_ring_format(fixture->memory, fixture->bytes, sq, cq, false, 7, 9) != 0)
        return -1;
    if (tcw_ring_open(&fixture->client, fixture->memory, fixture->bytes, sq_event, cq_event) != 0)
        return -1;
    return tcw_ring_open(&fixture->executor, fixture->memory, fixture->bytes, sq_event, cq_event);
}

static inline void ring_fixture_free(struct ring_fixture *fixture)
{
    free(fixture->memory);
}

#endif
