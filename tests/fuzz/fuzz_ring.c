/*
 * A ring whose shared memory a hostile client has filled: header, indices, entries. Whatever is taken must keep the promises of
 * tcw_ring_take, and nothing may be touched outside the mapping (the memory is a heap block of the exact size).
 */
#include <tcw/ring.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static uint32_t number(const uint8_t **data, size_t *size)
{
    uint32_t value = 0;
    size_t part = *size < sizeof(value) ? *size : sizeof(value);
    memcpy(&value, *data, part);
    *data += part;
    *size -= part;
    return value;
}

/* Arbitrary bytes as the whole mapping: opens only if they are a ring of exactly this layout. */
static void open_anything(const uint8_t *data, size_t size)
{
    struct tcw_ring ring;
    uint8_t *memory = aligned_alloc(4096, 8192);
    require(memory != NULL);
    memset(memory, 0, 8192);
    memcpy(memory, data, size < 8192 ? size : 8192);
    if (tcw_ring_open(&ring, memory, 8192, -1, -1) == 0)
        require(tcw_ring_bytes(ring.sq_entries, ring.cq_entries, false) <= 8192);
    free(memory);
}

static void check_request(const struct tcw_ring *ring, const struct tcw_request *request)
{
    require(request->head.op != TCW_SQE_CONTINUATION && !(request->head.flags & ~(unsigned)TCW_SQE_UNTIMED) && !request->head.pair);
    require(request->head.ref_count <= TCW_MAX_REFS && tcw_sqe_entries(request->head.ref_count) <= ring->sq_entries);
}

/* A good header; the peer's words and entries are the fuzzer's, changed again between the calls. */
static void serve(const uint8_t *data, size_t size)
{
    static struct tcw_request request;
    uint64_t bytes = tcw_ring_bytes(16, 8, false);
    uint8_t *memory = aligned_alloc(4096, bytes);
    struct tcw_ring ring;
    bool dead = false;
    require(memory != NULL);
    memset(memory, 0, bytes);
    require(tcw_ring_format(memory, bytes, 16, 8, false, 1, 2) == 0 && tcw_ring_open(&ring, memory, bytes, -1, -1) == 0);
    ring.sq_local = number(&data, &size);
    ring.cq_local = number(&data, &size);
    while (size > 0 && !dead) {
        const char *why = NULL;
        struct tcw_cqe cqe = {.user_data = 1};
        atomic_store(&ring.indices->sq_head, number(&data, &size));
        atomic_store(&ring.indices->cq_head, ring.cq_local - number(&data, &size) % 16u);
        size_t part = size < 16 * sizeof(union tcw_sq_entry) ? size : 16 * sizeof(union tcw_sq_entry);
        memcpy(ring.sq, data, part);
        data += part;
        size -= part;
        uint32_t before = ring.sq_local;
        int code;
        while ((code = tcw_ring_take(&ring, &request, &why)) == 1) {
            check_request(&ring, &request);
            require(ring.sq_local - before <= ring.sq_entries);
        }
        require(code == 0 || (code == TCW_EPROTO && why));
        dead = code != 0;
        require(tcw_ring_complete(&ring, &cqe) == 0 || ring.cq_local - atomic_load(&ring.indices->cq_head) >= ring.cq_entries);
        if (tcw_ring_arm_executor(&ring))
            tcw_ring_disarm_executor(&ring);
    }
    free(memory);
}

/* The client's side, with an executor that writes anything. */
static void reap(const uint8_t *data, size_t size)
{
    uint64_t bytes = tcw_ring_bytes(8, 16, false);
    uint8_t *memory = aligned_alloc(4096, bytes);
    struct tcw_ring ring;
    struct tcw_cqe cqe;
    int code = 0;
    require(memory != NULL);
    memset(memory, 0, bytes);
    require(tcw_ring_format(memory, bytes, 8, 16, false, 1, 2) == 0 && tcw_ring_open(&ring, memory, bytes, -1, -1) == 0);
    ring.cq_local = number(&data, &size);
    while (size > 0 && code == 0) {
        size_t part = size < 16 * sizeof(union tcw_cq_entry) ? size : 16 * sizeof(union tcw_cq_entry);
        memcpy(ring.cq, data, part);
        data += part;
        size -= part;
        uint32_t before = ring.cq_local;
        while ((code = tcw_ring_reap(&ring, &cqe)) == 1)
            require(!cqe.flags && ring.cq_local - before <= ring.cq_entries);
        require(code == 0 || code == TCW_EPROTO);
        if (tcw_ring_arm_client(&ring))
            tcw_ring_disarm_client(&ring);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_anything(data, size);
    serve(data, size);
    reap(data, size);
    return 0;
}
