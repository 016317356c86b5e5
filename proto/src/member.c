#include <tcw/member.h>

#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t tcw_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t tcw_member_page_bytes(void)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    return (sizeof(struct tcw_member_page) + page - 1) / page * page;
}

void tcw_member_page_format(struct tcw_member_page *page, uint64_t group_id, uint64_t epoch, uint32_t rank, uint32_t nranks,
                            uint64_t deadline_ns)
{
    memset(page, 0, sizeof(*page));
    page->magic = TCW_MEMBER_MAGIC;
    page->abi = TCW_ABI_MAX;
    page->group_id = group_id;
    page->epoch = epoch;
    page->rank = rank;
    page->nranks = nranks;
    atomic_store_explicit(&page->deadline_ns, deadline_ns, memory_order_relaxed);
}

int tcw_member_page_check(const struct tcw_member_page *page, uint64_t bytes, uint64_t group_id, uint32_t rank, uint32_t nranks)
{
    if (bytes < sizeof(*page) || page->magic != TCW_MEMBER_MAGIC || page->abi != TCW_ABI_MAX || page->group_id != group_id ||
        page->rank != rank || page->nranks != nranks)
        return TCW_EPROTO;
    return 0;
}

int tcw_member_abort(struct tcw_member_page *page, const struct tcw_abort_info *info)
{
    /* The control process is the only writer of both, so a look is enough; a client that wrote here deceives only itself. */
    if (atomic_load_explicit(&page->abort_word, memory_order_relaxed))
        return 0;
    page->abort_info = *info;
    page->abort_info.text[sizeof(page->abort_info.text) - 1] = 0;
    atomic_store_explicit(&page->abort_word, tcw_abort_pack(info->code, info->rank), memory_order_release);
    return 1;
}

static const uint64_t size_limits[TCW_SIZE_CLASSES] = {
    64, 512, 4096, 32768, 262144, 2097152, 16777216, 134217728, 1073741824, UINT64_MAX,
};

unsigned tcw_size_class(uint64_t bytes)
{
    unsigned i = 0;

    while (bytes > size_limits[i])
        i++;
    return i;
}

uint64_t tcw_size_class_limit(unsigned size_class)
{
    return size_class < TCW_SIZE_CLASSES ? size_limits[size_class] : UINT64_MAX;
}

/* Even buckets end at 250 ns x 2^k, odd ones at that times sqrt(2) (181/128 to within 0.02 %). */
uint64_t tcw_latency_bucket_limit(unsigned bucket)
{
    uint64_t limit;

    if (bucket >= TCW_LATENCY_BUCKETS - 1)
        return UINT64_MAX;
    limit = 250ull << (bucket / 2);
    return bucket % 2 ? limit * 181 / 128 : limit;
}

unsigned tcw_latency_bucket(uint64_t ns)
{
    unsigned octave, bucket;

    if (ns <= 250)
        return 0;
    octave = 63u - (unsigned)__builtin_clzll((ns - 1) / 250); /* 250 * 2^octave < ns <= 250 * 2^(octave+1) */
    bucket = 2 * octave + 1;
    if (bucket >= TCW_LATENCY_BUCKETS - 1)
        return TCW_LATENCY_BUCKETS - 1;
    return ns <= tcw_latency_bucket_limit(bucket) ? bucket : bucket + 1;
}

/* Counters have one writer, so a load and a store are enough: no locked instruction on the run path. */
static void add64(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + value, memory_order_relaxed);
}

static void add32(_Atomic uint32_t *word)
{
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + 1, memory_order_relaxed);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash ^= value;
    hash *= 0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 32;
}

uint64_t tcw_member_run_begin(struct tcw_member_page *page, const struct tcw_run_note *note, uint64_t start_ns)
{
    uint64_t index = atomic_load_explicit(&page->record_head, memory_order_relaxed);
    uint64_t step = atomic_load_explicit(&page->runs_started, memory_order_relaxed) + 1;
    uint64_t hash = atomic_load_explicit(&page->plan_hash, memory_order_relaxed);
    struct tcw_record *record = &page->records[index % TCW_RECORDS];

    atomic_store_explicit(&record->sequence, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* a reader that sees new fields sees the zero first: tools copy, then re-read sequence */
    record->bytes = note->bytes;
    record->submit_ns = note->submit_ns;
    record->start_ns = start_ns;
    record->end_ns = 0;
    record->plan_id = note->plan_id;
    record->op = note->op;
    record->lane = note->lane;
    record->strategy = note->strategy;
    record->dtype_fusion = note->dtype_fusion;
    record->result = 0;
    record->step = step;
    atomic_store_explicit(&record->sequence, index + 1, memory_order_release);

    atomic_store_explicit(&page->record_head, index + 1, memory_order_relaxed);
    /* Release: whoever sees this hash sees that a record was begun, though the run is not counted as started yet. */
    atomic_store_explicit(&page->plan_hash, mix(mix(hash, note->plan_id), note->tokens), memory_order_release);
    atomic_store_explicit(&page->plan_id, note->plan_id, memory_order_relaxed);
    atomic_store_explicit(&page->state_since_ns, start_ns, memory_order_relaxed);
    atomic_store_explicit(&page->state, TCW_MEMBER_RUNNING, memory_order_relaxed);
    atomic_store_explicit(&page->runs_started, step, memory_order_release);
    return index;
}

void tcw_member_run_count(struct tcw_member_page *page, struct tcw_run_note *note)
{
    note->counted = true;
    atomic_store_explicit(&page->runs_finished, atomic_load_explicit(&page->runs_finished, memory_order_relaxed) + 1, memory_order_release);
}

void tcw_member_run_end(struct tcw_member_page *page, uint64_t index, const struct tcw_run_note *note, uint64_t end_ns, int result)
{
    struct tcw_record *record = &page->records[index % TCW_RECORDS];
    unsigned op = note->op % TCW_MEMBER_MAX_OPS;
    uint64_t ns = end_ns > note->submit_ns ? end_ns - note->submit_ns : 0;

    record->result = result;
    record->end_ns = end_ns;
    add64(&page->op_count[op], 1);
    add64(&page->op_ns[op], ns);
    if (result) {
        add64(&page->op_errors[op], 1);
    } else {
        add64(&page->op_bytes[op], note->bytes);
        add32(&page->latency[op][tcw_size_class(note->bytes)][tcw_latency_bucket(ns)]);
    }
    atomic_store_explicit(&page->missing_ranks, 0, memory_order_relaxed);
    atomic_store_explicit(&page->state_since_ns, end_ns, memory_order_release); /* behind the record, also when it failed */
    atomic_store_explicit(&page->state, result ? TCW_MEMBER_FAILED : TCW_MEMBER_IDLE, memory_order_release);
    if (!result && !note->counted)
        atomic_store_explicit(&page->runs_finished, atomic_load_explicit(&page->runs_finished, memory_order_relaxed) + 1,
                              memory_order_release);
}
