#include "gpu_runs.h"

enum {
    MARGIN = 16,      /* the GPU writes the record behind the last run while we look, and perhaps some more */
    MOST_REFUSED = 8, /* runs of two workspaces in a row of comparisons: enough of asking */
};

bool tcd_gpu_record_read(const struct tcw_device_progress *device, uint64_t step, struct tcd_gpu_record *read)
{
    const struct tcw_device_record *record = &device->records[step % TCW_DEVICE_RECORDS];

    if (atomic_load_explicit(&record->step, memory_order_acquire) != step)
        return false;
    read->start_ns = __atomic_load_n(&record->start_ns, __ATOMIC_RELAXED);
    read->end_ns = __atomic_load_n(&record->end_ns, __ATOMIC_RELAXED);
    read->run.plan_id = __atomic_load_n(&record->plan_id, __ATOMIC_RELAXED);
    read->run.tokens = __atomic_load_n(&record->tokens, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&record->step, memory_order_relaxed) == step && read->end_ns >= read->start_ns;
}

static bool take(struct tcd_gpu_look *look, const struct tcw_device_progress *device, uint64_t step)
{
    struct tcd_gpu_record record;

    if (!tcd_gpu_record_read(device, step, &record))
        return false;
    look->runs[step % TCW_DEVICE_RECORDS] = record.run;
    return true;
}

void tcd_gpu_runs_look(struct tcd_gpu_runs *runs, const struct tcw_device_progress *device)
{
    struct tcd_gpu_look *now = &runs->now;
    const uint64_t last = atomic_load_explicit(&device->steps, memory_order_acquire);
    uint64_t passed;

    runs->before = *now;
    now->last = last;
    now->count = 0;
    while (now->count < TCW_DEVICE_RECORDS - MARGIN && now->count < last && take(now, device, last - now->count))
        now->count++;
    atomic_thread_fence(memory_order_acquire);
    passed = atomic_load_explicit(&device->steps, memory_order_relaxed) - last; /* backwards: very many */
    if (passed > TCW_DEVICE_RECORDS - MARGIN)
        passed = TCW_DEVICE_RECORDS - MARGIN;
    if (now->count > TCW_DEVICE_RECORDS - MARGIN - passed)
        now->count = (uint32_t)(TCW_DEVICE_RECORDS - MARGIN - passed);
}

static bool looks_differ(const struct tcd_gpu_look *one, const struct tcd_gpu_look *other, tcd_gpu_same *same, const void *context,
                         struct tcd_gpu_difference *difference)
{
    const uint64_t one_first = one->last - one->count + 1, other_first = other->last - other->count + 1;
    const uint64_t first = one_first > other_first ? one_first : other_first, last = one->last < other->last ? one->last : other->last;
    const uint64_t common = one->count && other->count && first <= last ? last - first + 1 : 0;
    unsigned refused = 0;
    uint64_t i;

    for (i = 0; i < common && refused < MOST_REFUSED; i++) { /* clients write these numbers: `last` may be the largest there is */
        const uint64_t step = first + i;
        const struct tcd_gpu_run *mine = &one->runs[step % TCW_DEVICE_RECORDS], *theirs = &other->runs[step % TCW_DEVICE_RECORDS];
        if (mine->plan_id == theirs->plan_id && mine->tokens == theirs->tokens)
            continue;
        if (!same(context, mine, theirs)) {
            refused++;
            continue;
        }
        *difference = (struct tcd_gpu_difference){.step = step, .one = *mine, .other = *theirs};
        return true;
    }
    return false;
}

bool tcd_gpu_runs_differ(const struct tcd_gpu_runs *one, const struct tcd_gpu_runs *other, tcd_gpu_same *same, const void *context,
                         struct tcd_gpu_difference *difference)
{
    return looks_differ(&one->before, &other->before, same, context, difference) &&
           looks_differ(&one->now, &other->now, same, context, difference);
}
