#include "observe.h"

#include <stdlib.h>

struct tcd_page_seen {
    struct tcd_observed now;
    struct tcd_gpu_runs gpu_runs;
    uint64_t op_count[TCW_MEMBER_MAX_OPS];
    uint32_t latency[TCW_MEMBER_MAX_OPS][TCW_SIZE_CLASSES][TCW_LATENCY_BUCKETS];
    uint64_t clock; /* of the host, minus the GPU's; wraps around */
    bool clock_known;
    uint64_t looked_ns;
};

static uint64_t load64(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static uint32_t load32(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* Differences since the last look; a client that writes nonsense here makes the tables wrong, nothing else. */
static void add_latency(const struct tcw_member_page *map, struct tcd_page_seen *seen, unsigned op, unsigned lane,
                        struct tcd_totals *totals)
{
    unsigned size_class, bucket;

    for (size_class = 0; size_class < TCW_SIZE_CLASSES; size_class++) {
        for (bucket = 0; bucket < TCW_LATENCY_BUCKETS; bucket++) {
            uint32_t value = load32(&map->latency[op][size_class][bucket]);
            uint32_t more = value - seen->latency[op][size_class][bucket];

            if (!more)
                continue;
            seen->latency[op][size_class][bucket] = value;
            totals->latency[op][lane - 1][size_class][bucket] += more;
            totals->changed[op][lane - 1][size_class] = true;
        }
    }
}

static void look_at_kernels(const struct tcw_device_progress *device, const struct tcd_observed *before, struct tcd_observed *now)
{
    now->device_fault = atomic_load_explicit(&device->fault, memory_order_acquire);
    now->device_fault_step = load64(&device->fault_step);
    now->device_their_step = load64(&device->their_step);
    now->device_steps = load64(&device->steps);
    now->device_since_ns = now->device_steps == before->device_steps && before->device_since_ns ? before->device_since_ns : tcw_now_ns();
}

/* Clocks drift apart, by less than this. */
static uint64_t drift(uint64_t ns)
{
    return ns / 16384;
}

/* How far the GPU's clock is behind ours: at most as far as its latest run seems to be over. */
static void look_at_clock(const struct tcw_device_progress *device, struct tcd_page_seen *seen, const struct tcd_observed *now)
{
    struct tcd_gpu_record record;
    uint64_t now_ns = tcw_now_ns();

    seen->clock += seen->looked_ns ? drift(now_ns - seen->looked_ns) : 0;
    seen->looked_ns = now_ns;
    if (now->device_steps == seen->now.device_steps || !tcd_gpu_record_read(device, now->device_steps, &record))
        return;
    if (!seen->clock_known || (int64_t)(now_ns - record.end_ns - seen->clock) < 0)
        seen->clock = now_ns - record.end_ns;
    seen->clock_known = true;
}

bool tcd_page_observe(struct tcd_page *page, unsigned lane, struct tcd_totals *totals, bool *moved)
{
    const struct tcw_member_page *map = page->map;
    struct tcd_observed now = {0};
    struct tcd_page_seen *seen;
    unsigned op;

    *moved = false;
    if (!map)
        return false;
    if (!page->seen)
        page->seen = calloc(1, sizeof(*page->seen));
    seen = page->seen;
    if (!seen)
        return false;
    now.finished = atomic_load_explicit(&map->runs_finished, memory_order_acquire);
    now.started = atomic_load_explicit(&map->runs_started, memory_order_acquire);
    now.hash = atomic_load_explicit(&map->plan_hash, memory_order_acquire); /* before records: who has the new one has the record too */
    now.state = load32(&map->state);
    now.since_ns = atomic_load_explicit(&map->state_since_ns, memory_order_acquire);
    now.missing = load64(&map->missing_ranks);
    now.records = load64(&map->record_head);
    look_at_kernels(&map->device, &seen->now, &now);
    look_at_clock(&map->device, seen, &now);
    now.replays = seen->now.replays || now.device_steps > now.started + 1; /* a launch may end before it is counted */
    if (now.started == seen->now.started && now.finished == seen->now.finished && now.hash == seen->now.hash)
        now.still = seen->now.still + 1;
    else
        *moved = true;
    if (now.device_steps != seen->now.device_steps || now.device_fault != seen->now.device_fault)
        *moved = true;
    /* A run that fails moves nothing but the state. */
    if (now.state != seen->now.state || now.since_ns != seen->now.since_ns || now.state == TCW_MEMBER_RUNNING ||
        now.state == TCW_MEMBER_WAITING)
        *moved = true;
    for (op = 0; op < TCW_MEMBER_MAX_OPS; op++) {
        uint64_t count = load64(&map->op_count[op]);

        now.bytes += load64(&map->op_bytes[op]);
        now.errors += load64(&map->op_errors[op]);
        now.busy_ns += load64(&map->op_ns[op]);
        if (count != seen->op_count[op])
            add_latency(map, seen, op, lane, totals);
        seen->op_count[op] = count;
    }
    seen->now = now;
    return true;
}

const struct tcd_observed *tcd_page_observed(const struct tcd_page *page)
{
    return page->seen ? &page->seen->now : NULL;
}

const struct tcd_gpu_runs *tcd_page_look_at_runs(struct tcd_page *page)
{
    if (!page->map || !page->seen)
        return NULL;
    tcd_gpu_runs_look(&page->seen->gpu_runs, &page->map->device);
    return &page->seen->gpu_runs;
}

bool tcd_page_record(const struct tcd_page *page, uint64_t index, struct tcw_stats_record *row)
{
    const struct tcw_record *record = &page->map->records[index % TCW_RECORDS];

    if (atomic_load_explicit(&record->sequence, memory_order_acquire) != index + 1)
        return false;
    *row = (struct tcw_stats_record){.lane = record->lane,
                                     .step = record->step,
                                     .plan_id = record->plan_id,
                                     .op = record->op,
                                     .strategy = record->strategy,
                                     .dtype = record->dtype_fusion & 0xffff,
                                     .fusion = record->dtype_fusion >> 16,
                                     .bytes = record->bytes,
                                     .submit_ns = record->submit_ns,
                                     .start_ns = record->start_ns,
                                     .end_ns = record->end_ns,
                                     .result = record->result < 0 ? (uint64_t) - (int64_t)record->result : 0};
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&record->sequence, memory_order_relaxed) == index + 1;
}

bool tcd_page_replay(const struct tcd_page *page, uint64_t step, struct tcw_stats_record *row, uint64_t *tokens)
{
    const struct tcd_page_seen *seen = page->seen;
    struct tcd_gpu_record record;

    if (!seen || !seen->clock_known || !tcd_gpu_record_read(&page->map->device, step, &record))
        return false;
    *tokens = record.run.tokens;
    *row = (struct tcw_stats_record){.step = step, .plan_id = record.run.plan_id};
    row->submit_ns = row->start_ns = record.start_ns + seen->clock;
    row->end_ns = record.end_ns + seen->clock;
    return true;
}
