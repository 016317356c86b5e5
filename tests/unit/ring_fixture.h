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

/* Makes an entry say that it holds what stands at `position`, whatever that is: what a client writes that uses no function of ours. */
static inline void ring_entry_publish(const struct tcw_ring *ring, uint32_t position)
{
    _Atomic uint32_t *mark = &ring->sq[position % ring->sq_entries].mark;
    uint32_t phase = (uint32_t)TCW_RING_PHASE << 16;

    atomic_store(mark, (atomic_load(mark) & ~phase) | (position & ring->sq_entries ? 0 : phase));
}

/* As if both rings had been in use up to `position`. */
static inline void ring_fixture_start(struct ring_fixture *fixture, uint32_t position)
{
    const struct tcw_ring *ring = &fixture->client;
    uint32_t phase = (uint32_t)TCW_RING_PHASE << 16, i;

    for (i = 1; i <= ring->sq_entries; i++)
        ring_entry_publish(ring, position - i);
    for (i = 1; i <= ring->cq_entries; i++)
        atomic_store(&ring->cq[(position - i) % ring->cq_entries].mark, (position - i) & ring->cq_entries ? 0 : phase);
    atomic_store(&ring->indices->sq_tail, position);
    atomic_store(&ring->indices->sq_head, position);
    atomic_store(&ring->indices->cq_head, position);
    fixture->client.sq_local = fixture->executor.sq_local = position;
    fixture->client.cq_local = fixture->executor.cq_local = position;
    fixture->client.sq_head_seen = fixture->executor.cq_head_seen = position;
}

static inline void ring_fixture_free(struct ring_fixture *fixture)
{
    free(fixture->memory);
}

#endif
