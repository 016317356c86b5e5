#include <tcw/ring.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool entries_allowed(uint32_t entries)
{
    return entries >= TCW_RING_MIN_ENTRIES && entries <= TCW_RING_MAX_ENTRIES && !(entries & (entries - 1));
}

static uint64_t sq_offset(void)
{
    return TCW_RING_HEADER_BYTES + sizeof(struct tcw_ring_indices);
}
static uint64_t cq_offset(uint32_t sq_entries)
{
    return sq_offset() + (uint64_t)sq_entries * sizeof(union tcw_sq_entry);
}

static uint64_t whole_pages(uint64_t bytes)
{
    return (bytes + TCW_RING_HEADER_BYTES - 1) / TCW_RING_HEADER_BYTES * TCW_RING_HEADER_BYTES;
}
/* Where the words begin, or the ring ends that has none. */
static uint64_t words_offset(uint32_t sq_entries, uint32_t cq_entries)
{
    return whole_pages(cq_offset(sq_entries) + (uint64_t)cq_entries * sizeof(union tcw_cq_entry));
}

static uint64_t captured_offset(uint32_t sq_entries, uint32_t cq_entries)
{
    return words_offset(sq_entries, cq_entries) + whole_pages((uint64_t)cq_entries * sizeof(struct tcw_words));
}

uint64_t tcw_ring_bytes(uint32_t sq_entries, uint32_t cq_entries, bool words)
{
    if (!entries_allowed(sq_entries) || !entries_allowed(cq_entries))
        return 0;
    if (!words)
        return words_offset(sq_entries, cq_entries);
    return captured_offset(sq_entries, cq_entries) + whole_pages(TCW_CAPTURED * sizeof(struct tcw_captured));
}

static void header_fill(struct tcw_ring_header *header, uint32_t sq_entries, uint32_t cq_entries, bool words)
{
    memset(header, 0, sizeof(*header));
    header->magic = TCW_RING_MAGIC;
    header->abi = TCW_ABI_MAX;
    header->header_bytes = TCW_RING_HEADER_BYTES;
    header->sq_entry_bytes = sizeof(union tcw_sq_entry);
    header->cq_entry_bytes = sizeof(union tcw_cq_entry);
    header->sq_entries = sq_entries;
    header->cq_entries = cq_entries;
    header->indices_offset = TCW_RING_HEADER_BYTES;
    header->sq_offset = sq_offset();
    header->cq_offset = cq_offset(sq_entries);
    header->words_offset = words ? words_offset(sq_entries, cq_entries) : 0;
    header->captured_offset = words ? captured_offset(sq_entries, cq_entries) : 0;
    header->total_bytes = tcw_ring_bytes(sq_entries, cq_entries, words);
}

int tcw_ring_format(void *base, uint64_t bytes, uint32_t sq_entries, uint32_t cq_entries, bool words, uint64_t client_id,
                    uint64_t generation)
{
    struct tcw_ring_header header;
    uint64_t needed = tcw_ring_bytes(sq_entries, cq_entries, words);

    if (!needed || bytes < needed)
        return TCW_EINVAL;
    header_fill(&header, sq_entries, cq_entries, words);
    header.client_id = client_id;
    header.generation = generation;
    memcpy(base, &header, sizeof(header));
    return 0;
}

int tcw_ring_open(struct tcw_ring *ring, void *base, uint64_t bytes, int sq_event, int cq_event)
{
    struct tcw_ring_header header, expected;

    if (bytes < TCW_RING_HEADER_BYTES)
        return TCW_EPROTO;
    memcpy(&header, base, sizeof(header));
    if (header.magic != TCW_RING_MAGIC || !entries_allowed(header.sq_entries) || !entries_allowed(header.cq_entries))
        return TCW_EPROTO;
    /* This ABI has exactly one layout for given entry counts, so anything else in the header is not ours. */
    header_fill(&expected, header.sq_entries, header.cq_entries, header.words_offset != 0);
    expected.client_id = header.client_id;
    expected.generation = header.generation;
    if (memcmp(&header, &expected, sizeof(header)) || bytes < header.total_bytes)
        return TCW_EPROTO;

    memset(ring, 0, sizeof(*ring));
    ring->base = base;
    ring->bytes = bytes;
    ring->indices = (struct tcw_ring_indices *)(ring->base + header.indices_offset);
    ring->sq = (union tcw_sq_entry *)(ring->base + header.sq_offset);
    ring->cq = (union tcw_cq_entry *)(ring->base + header.cq_offset);
    ring->words = header.words_offset ? (struct tcw_words *)(ring->base + header.words_offset) : NULL;
    ring->captured = header.captured_offset ? (struct tcw_captured *)(ring->base + header.captured_offset) : NULL;
    ring->sq_entries = header.sq_entries;
    ring->cq_entries = header.cq_entries;
    ring->sq_event = sq_event;
    ring->cq_event = cq_event;
    ring->client_id = header.client_id;
    ring->generation = header.generation;
    return 0;
}

/* Room for `needed` more? A consumer that claims more than was produced breaks the protocol: then there is none. */
static bool has_room(uint32_t *seen, const _Atomic uint32_t *head, uint32_t local, uint32_t needed, uint32_t entries)
{
    uint32_t used = local - *seen;

    if (used <= entries && needed <= entries - used)
        return true;
    *seen = atomic_load_explicit(head, memory_order_acquire);
    used = local - *seen;
    return used <= entries && needed <= entries - used;
}

/*
 * Asks for an entry that will be written next, while nobody waits for it. The other side has read it one turn of the ring ago, so without
 * this the stores would wait for its processor to let go.
 */
static void claim(const void *entry)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const unsigned char *)entry));
#else
    __builtin_prefetch(entry, 1);
#endif
}

/* The first word of an entry for this position. Storing it, with release, says that the whole entry is there. */
static uint32_t mark(uint16_t low, uint16_t flags, uint32_t position, uint32_t entries)
{
    return (uint32_t)low | (uint32_t)flags << 16 | (position & entries ? 0 : (uint32_t)TCW_RING_PHASE << 16);
}

/*
 * All but the first word. The line that the executor polls comes last and in one go: it takes that line away with its next look, and the
 * first word would wait until it is back.
 */
static void write_head(struct tcw_sqe *to, const struct tcw_sqe *head, const struct tcw_ref *refs)
{
    uint32_t i = TCW_SQE_HEAD_REFS;

    while (i-- > 0)
        to->refs[i] = i < head->ref_count ? refs[i] : (struct tcw_ref){0};
    to->pair = head->pair;
    to->ref_count = head->ref_count;
    to->tokens = head->tokens;
    to->user_data = head->user_data;
    to->plan = head->plan;
    to->sequence = head->sequence;
}

/* The references behind the head's. */
static void write_continuations(struct tcw_ring *ring, const struct tcw_sqe *head, const struct tcw_ref *refs)
{
    uint32_t position = ring->sq_local, done = TCW_SQE_HEAD_REFS, i;

    while (done < head->ref_count) {
        union tcw_sq_entry *entry = &ring->sq[++position & (ring->sq_entries - 1)];

        entry->continuation.sequence = head->sequence;
        for (i = 0; i < TCW_SQE_CONT_REFS; i++, done++)
            entry->continuation.refs[i] = done < head->ref_count ? refs[done] : (struct tcw_ref){0};
        atomic_store_explicit(&entry->mark, mark(TCW_SQE_CONTINUATION, 0, position, ring->sq_entries), memory_order_release);
    }
}

int tcw_ring_submit(struct tcw_ring *ring, const struct tcw_sqe *head, const struct tcw_ref *refs, bool *wake)
{
    uint32_t needed = tcw_sqe_entries(head->ref_count), position = ring->sq_local;
    union tcw_sq_entry *entry = &ring->sq[position & (ring->sq_entries - 1)];

    *wake = false;
    if (!has_room(&ring->sq_head_seen, &ring->indices->sq_head, position, needed, ring->sq_entries))
        return TCW_EAGAIN;
    if (needed > 1)
        write_continuations(ring, head, refs);
    ring->sq_local += needed;
    atomic_store_explicit(&ring->indices->sq_tail, ring->sq_local, memory_order_release);
    write_head(&entry->head, head, refs);
    atomic_store_explicit(&entry->mark, mark(head->op, head->flags, position, ring->sq_entries), memory_order_release);
    /* Peer: tcw_ring_arm_executor. Either it sees our entry, or we see its flag. */
    atomic_thread_fence(memory_order_seq_cst);
    *wake = atomic_load_explicit(&ring->indices->sq_sleep, memory_order_relaxed) != 0;
    entry = &ring->sq[ring->sq_local & (ring->sq_entries - 1)];
    claim(entry);
    claim((const unsigned char *)entry + TCW_LINE);
    return 0;
}

static int violation(const char **why, const char *text)
{
    *why = text;
    return TCW_EPROTO;
}

/* How many there are to name. Without words all name the first of none. */
static uint32_t pairs(const struct tcw_ring *ring, const struct tcw_sqe *head)
{
    return !ring->words ? 1 : head->flags & TCW_SQE_CAPTURED ? TCW_CAPTURED : ring->cq_entries;
}

static bool flags_belong(const struct tcw_ring *ring, uint16_t flags)
{
    if (!ring->captured)
        return !(flags & ~(unsigned)TCW_SQE_UNTIMED);
    return !flags || (flags & TCW_SQE_CAPTURED && !(flags & TCW_SQE_UNTIMED));
}

/* The continuation entries of the request that begins at sq_local. */
static int gather(const struct tcw_ring *ring, struct tcw_request *request, uint32_t entries, const char **why)
{
    uint32_t done = TCW_SQE_HEAD_REFS, mask = ring->sq_entries - 1, i, j;

    for (i = 1; i < entries; i++) {
        uint32_t position = ring->sq_local + i;
        struct tcw_sqe_continuation next;

        if (!tcw_ring_there(&ring->sq[position & mask].mark, position, ring->sq_entries))
            return violation(why, "a request was published before all of its entries");
        next = ring->sq[position & mask].continuation; /* the only read of this entry */
        if (next.op != TCW_SQE_CONTINUATION || next.flags & ~(unsigned)TCW_RING_PHASE || next.sequence != request->head.sequence)
            return violation(why, "a continuation entry does not belong to its head");
        for (j = 0; j < TCW_SQE_CONT_REFS && done < request->head.ref_count; j++)
            request->refs[done++] = next.refs[j];
    }
    return 1;
}

int tcw_ring_take(struct tcw_ring *ring, struct tcw_request *request, const char **why)
{
    uint32_t entries;

    if (!tcw_ring_pending(ring))
        return 0;
    request->head = ring->sq[ring->sq_local & (ring->sq_entries - 1)].head; /* the only read of this entry */
    request->head.flags &= (uint16_t)~TCW_RING_PHASE;
    if (request->head.op == TCW_SQE_CONTINUATION)
        return violation(why, "a continuation entry without a head");
    if (request->head.flags & ~(unsigned)TCW_SQE_FLAGS_KNOWN)
        return violation(why, "unknown submission flags");
    if (!flags_belong(ring, request->head.flags))
        return violation(why, "submission flags that do not belong here");
    if (request->head.pair >= pairs(ring, &request->head))
        return violation(why, "a submission names words that the ring does not have");
    if (request->head.ref_count > TCW_MAX_REFS)
        return violation(why, "more buffer references than one request may have");
    entries = tcw_sqe_entries(request->head.ref_count);
    if (entries > ring->sq_entries)
        return violation(why, "a request is longer than the ring");
    memcpy(request->refs, request->head.refs, sizeof(request->head.refs));
    if (entries > 1 && gather(ring, request, entries, why) < 0)
        return TCW_EPROTO;
    ring->sq_local += entries;
    atomic_store_explicit(&ring->indices->sq_head, ring->sq_local, memory_order_release);
    claim(&ring->cq[ring->cq_local & (ring->cq_entries - 1)]);
    return 1;
}

int tcw_ring_complete(struct tcw_ring *ring, const struct tcw_cqe *cqe)
{
    uint32_t position = ring->cq_local;
    union tcw_cq_entry *entry = &ring->cq[position & (ring->cq_entries - 1)];

    if (!has_room(&ring->cq_head_seen, &ring->indices->cq_head, position, 1, ring->cq_entries))
        return TCW_EPROTO;
    entry->cqe.result = cqe->result;
    entry->cqe.user_data = cqe->user_data;
    entry->cqe.start_ns = cqe->start_ns;
    entry->cqe.end_ns = cqe->end_ns;
    ring->cq_local++;
    atomic_store_explicit(&entry->mark, mark(cqe->culprit, cqe->flags, position, ring->cq_entries), memory_order_release);
    /* Peer: tcw_ring_arm_client. Either it sees our entry, or we see its flag. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&ring->indices->cq_sleep, memory_order_relaxed))
        tcw_ring_wake(ring->cq_event);
    return 0;
}

int tcw_ring_reap(struct tcw_ring *ring, struct tcw_cqe *cqe)
{
    if (!tcw_ring_completed(ring, ring->cq_local))
        return 0;
    *cqe = ring->cq[ring->cq_local & (ring->cq_entries - 1)].cqe; /* the only read of this entry */
    cqe->flags &= (uint16_t)~TCW_RING_PHASE;
    if (cqe->flags)
        return TCW_EPROTO;
    ring->cq_local++;
    atomic_store_explicit(&ring->indices->cq_head, ring->cq_local, memory_order_release);
    return 1;
}

/* The flag stands, and what is looked at afterwards is no older than that. Peers: the fences in tcw_ring_submit and tcw_ring_complete. */
static void raise_flag(_Atomic uint32_t *flag)
{
    atomic_store_explicit(flag, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

/* True if it is safe to block: nothing has come before the flag stood. */
static bool keep_flag(_Atomic uint32_t *flag, bool news)
{
    if (news)
        atomic_store_explicit(flag, 0, memory_order_relaxed);
    return !news;
}

/* Empties the eventfd, so that the next block waits for a new wake-up. */
static void disarm(_Atomic uint32_t *flag, int event)
{
    uint64_t count;

    atomic_store_explicit(flag, 0, memory_order_relaxed);
    if (event >= 0)
        while (read(event, &count, sizeof(count)) < 0 && errno == EINTR)
            ;
}

bool tcw_ring_arm_executor(struct tcw_ring *ring)
{
    raise_flag(&ring->indices->sq_sleep);
    return keep_flag(&ring->indices->sq_sleep, tcw_ring_pending(ring));
}
void tcw_ring_disarm_executor(struct tcw_ring *ring)
{
    disarm(&ring->indices->sq_sleep, ring->sq_event);
}
bool tcw_ring_arm_client(struct tcw_ring *ring)
{
    raise_flag(&ring->indices->cq_sleep);
    return keep_flag(&ring->indices->cq_sleep, tcw_ring_completed(ring, ring->cq_local));
}
void tcw_ring_disarm_client(struct tcw_ring *ring)
{
    disarm(&ring->indices->cq_sleep, ring->cq_event);
}

void tcw_ring_captured_over(struct tcw_ring *ring)
{
    uint32_t i;

    for (i = 0; ring->captured && i < TCW_CAPTURED; i++)
        atomic_store_explicit(&ring->captured[i].over, 1, memory_order_release);
}

void tcw_ring_wake(int event)
{
    const uint64_t one = 1;

    if (event >= 0)
        while (write(event, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
}
