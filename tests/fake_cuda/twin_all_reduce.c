/*
 * The all-reduce kernels' twin. Towards the host it keeps their protocol: abort word, deadline, progress block, steps, faults that end all
 * later launches, overlapping launches. Inside the workspaces it has its own: a rank writes its part of a round into its own buffer and
 * publishes a sequence number beside it, in the part of the header that the kernels do not use; the others read it there. Three buffers
 * take turns: who publishes round k has seen everybody publish k - 1, so nobody reads what stood in that buffer.
 *
 * Blocks are not played, but their numbers are compared: ranks that launch a kernel in different shapes end with a mismatch, where real
 * ones would wait for blocks that never come, sometimes. So do those that launch other plans or tokens, which real kernels never notice.
 *
 * With TRTCOLL_FAKE_UNCHECKED=1 nothing is compared, as on a GPU: a rank takes what came in a round, whatever it was meant as, and where
 * a peer has published fewer bytes than it wants, it waits for the rest, which never comes. Nobody overwrites what he waits beside: to
 * publish round k + 2 a peer needs round k + 1 of everybody.
 */
#include "context.h"
#include "multicast.h"
#include "twin_row.h"

#include <tcw/member.h>

#include <stdlib.h>
#include <string.h>

enum { TWIN_OFFSET = 4096 };

/* In the header of a workspace, behind the kernels' own; zero when it is made. */
struct twin_state {
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t sequence; /* rounds published */
    /* What the launch that published a round was; like the buffers: who reads it may be a round behind. */
    struct twin_round {
        _Atomic uint64_t plan_id, tokens, first_token, shape, bytes;
    } rounds[TCK_CUDA_BUFFERS];
    _Atomic uint64_t began_ns;                        /* the run of the last launch */
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t running; /* launches at this moment */
};
_Static_assert(sizeof(struct tck_cuda_state) <= TWIN_OFFSET, "behind the kernels' own");
_Static_assert(TWIN_OFFSET + sizeof(struct twin_state) <= TCK_CUDA_HEADER_BYTES, "fits");
_Static_assert(sizeof(struct tck_cuda_progress) == sizeof(struct tcw_device_progress), "the same memory");
_Static_assert(offsetof(struct tck_cuda_progress, records) == offsetof(struct tcw_device_progress, records), "the same memory");

struct turn {
    const struct tck_cuda_link *link;
    const struct tck_cuda_operation *run;
    struct tck_cuda_state *state;
    struct tcw_device_progress *progress;
    uint64_t step; /* this run's, from 1 */
    uint64_t waited_since_ns;
    const struct fake_launch *launch;
    uint64_t shape;
    bool finalizes;
};

static struct twin_state *twin_of(const struct turn *turn, uint32_t rank)
{
    return (struct twin_state *)((unsigned char *)turn->link->workspaces[rank] + TWIN_OFFSET);
}

static unsigned char *buffer_of(const struct turn *turn, uint32_t rank, uint64_t sequence)
{
    uint64_t bytes = turn->link->buffer_packs * TCK_CUDA_PACK;
    return (unsigned char *)turn->link->workspaces[rank] + TCK_CUDA_HEADER_BYTES + sequence % TCK_CUDA_BUFFERS * bytes;
}

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Always false. */
static bool fail(struct turn *turn, int code, uint32_t rank)
{
    uint64_t none = 0, word = tcw_abort_pack(code, rank);
    if (!__atomic_compare_exchange_n(&turn->state->fault, &none, word, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return false;
    atomic_store_explicit(&turn->progress->fault_step, turn->step, memory_order_relaxed);
    atomic_store_explicit(&turn->progress->their_step,
                          rank < turn->link->nranks ? load(&((struct tck_cuda_state *)turn->link->workspaces[rank])->step) : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&turn->progress->fault, word, memory_order_release);
    return false;
}

/* Whether to go on waiting for `rank`. */
static bool patient(struct turn *turn, uint32_t rank)
{
    uint64_t word = load(turn->link->abort_word), deadline = load(turn->link->deadline_ns), now = tcw_now_ns();
    if (load(&turn->state->fault))
        return false;
    if (word)
        return fail(turn, tcw_abort_code(word), tcw_abort_culprit(word));
    if (!turn->waited_since_ns)
        turn->waited_since_ns = now;
    if (deadline && now - turn->waited_since_ns > deadline)
        return fail(turn, TCW_ETIMEOUT, rank);
    return true;
}

/* Whether they agree; else the end of this rank. */
static bool compare(struct turn *turn, const struct twin_round *round, uint32_t rank)
{
    if (round->plan_id != turn->run->plan_id || round->tokens != turn->run->run_tokens || round->first_token != turn->run->first_token)
        return fail(turn, TCW_EMISMATCH, rank);
    if (round->shape != turn->shape) {
        fake_complain("%s: rank %u has launched %u blocks of %u threads in clusters of %u, rank %u another shape", turn->launch->name,
                      turn->link->rank, turn->launch->grid[0], turn->launch->block[0], turn->launch->cluster, rank);
        return fail(turn, TCW_EMISMATCH, rank);
    }
    return true;
}

/* Has rank `rank` published all that this one wants of the round? */
static bool has_come(struct turn *turn, uint32_t rank, uint64_t sequence, uint64_t bytes)
{
    struct twin_state *twin = twin_of(turn, rank);
    return atomic_load_explicit(&twin->sequence, memory_order_acquire) >= sequence &&
           (!fake_launches_unchecked() || twin->rounds[sequence % TCK_CUDA_BUFFERS].bytes >= bytes);
}

static bool wait_for(struct turn *turn, uint32_t rank, uint64_t sequence, uint64_t bytes)
{
    unsigned naps = 0;
    while (!has_come(turn, rank, sequence, bytes)) {
        if (!patient(turn, rank))
            return false;
        fake_nap(&naps);
    }
    turn->waited_since_ns = 0;
    return fake_launches_unchecked() || compare(turn, &twin_of(turn, rank)->rounds[sequence % TCK_CUDA_BUFFERS], rank);
}

/* ub-finalize: each token as its owner has it, src[i] being what rank i has from byte `at` on. */
static void take_shards(const struct turn *turn, const struct fake_twin_row *row, const void *const *src, uint64_t at, uint64_t bytes)
{
    const struct tck_cuda_operation *run = turn->run;
    for (uint64_t done = 0; done < bytes;) {
        uint64_t token = (at + done) / row->row_bytes, left = (token + 1) * row->row_bytes - at - done, length = bytes - done;
        uint32_t owner = 0;
        length = left < length ? left : length;
        while (tcw_shard_first(run->run_tokens, turn->link->nranks, owner + 1) <= run->first_token + token)
            owner++;
        memmove((unsigned char *)run->out + at + done, (const unsigned char *)src[owner] + done, length);
        done += length;
    }
}

/* One round: `bytes` from byte `at` of the message on. */
static bool exchange(struct turn *turn, struct fake_twin_row *row, uint64_t at, uint64_t bytes)
{
    struct twin_state *mine = twin_of(turn, turn->link->rank);
    uint64_t sequence = mine->sequence + 1;
    struct twin_round *round = &mine->rounds[sequence % TCK_CUDA_BUFFERS];
    const void *src[TCK_CUDA_RANKS];
    for (uint32_t i = 0; i < turn->link->nranks; i++)
        src[i] = buffer_of(turn, i, sequence);
    memcpy(buffer_of(turn, turn->link->rank, sequence), (const unsigned char *)turn->run->in + at, bytes);
    atomic_store_explicit(&round->plan_id, turn->run->plan_id, memory_order_relaxed);
    atomic_store_explicit(&round->tokens, turn->run->run_tokens, memory_order_relaxed);
    atomic_store_explicit(&round->first_token, turn->run->first_token, memory_order_relaxed);
    atomic_store_explicit(&round->shape, turn->shape, memory_order_relaxed);
    atomic_store_explicit(&round->bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&mine->sequence, sequence, memory_order_release);
    for (uint32_t i = 0; i < turn->link->nranks; i++)
        if (i != turn->link->rank && !wait_for(turn, i, sequence, bytes))
            return false;
    if (turn->finalizes)
        take_shards(turn, row, src, at, bytes);
    else
        fake_twin_row_finish(row, src, turn->link->nranks, at, bytes);
    return true;
}

static CUresult touch_link(const struct fake_launch *launch, const struct tck_cuda_link *link)
{
    uint64_t bytes = TCK_CUDA_HEADER_BYTES + TCK_CUDA_BUFFERS * link->buffer_packs * TCK_CUDA_PACK;
    CUresult result = CUDA_SUCCESS;
    for (uint32_t i = 0; i < link->nranks && !result; i++)
        result = fake_memory_touch(launch->context, launch->name, link->workspaces[i], bytes, true, false);
    if (!result)
        result = fake_memory_touch(launch->context, launch->name, link->abort_word, sizeof(uint64_t), false, false);
    if (!result)
        result = fake_memory_touch(launch->context, launch->name, link->deadline_ns, sizeof(uint64_t), false, false);
    if (!result)
        result = fake_memory_touch(launch->context, launch->name, link->progress, sizeof(*link->progress), true, false);
    return result;
}

/* Message bytes of a round: whole tokens where the epilogue wants them. */
static uint64_t round_bytes(const struct tck_cuda_link *link, const struct fake_twin_row *row)
{
    uint64_t unit = row->rows ? row->row_bytes : TCK_CUDA_PACK;
    return link->buffer_packs * TCK_CUDA_PACK / unit * unit;
}

static void note_end(const struct turn *turn)
{
    struct tcw_device_record *record = &turn->progress->records[turn->step % TCW_DEVICE_RECORDS];
    record->start_ns = twin_of(turn, turn->link->rank)->began_ns;
    record->end_ns = tcw_now_ns();
    record->plan_id = turn->run->plan_id;
    record->tokens = (uint32_t)turn->run->run_tokens;
    atomic_store_explicit(&record->step, turn->step, memory_order_release);
    __atomic_store_n(&turn->state->step, turn->step, __ATOMIC_RELEASE);
    atomic_store_explicit(&turn->progress->steps, turn->step, memory_order_release);
}

static CUresult run_alone(struct turn *turn, const struct fake_launch *launch, struct fake_twin_row *row)
{
    CUresult result = fake_twin_row_prepare(row, launch, turn->run);
    uint64_t chunk;
    if (result)
        return result;
    chunk = round_bytes(turn->link, row);
    if (!chunk) {
        fake_complain("%s: a row does not fit a buffer", launch->name);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (turn->run->flags & TCK_CUDA_LOCAL)
        memmove(turn->run->out, turn->run->in, row->total);
    for (uint64_t at = 0; at < row->total && !(turn->run->flags & TCK_CUDA_LOCAL); at += chunk)
        if (!exchange(turn, row, at, row->total - at < chunk ? row->total - at : chunk))
            return CUDA_SUCCESS;
    if (turn->run->flags & TCK_CUDA_LAST)
        note_end(turn);
    return CUDA_SUCCESS;
}

static CUresult run_launch(const struct fake_launch *launch)
{
    const struct tck_cuda_args *args = launch->params;
    const struct tck_cuda_link *link = &args->link;
    struct turn turn = {.link = link,
                        .run = &args->run,
                        .launch = launch,
                        .shape = (uint64_t)launch->grid[0] << 32 | launch->block[0] << 16 | launch->cluster,
                        .finalizes = !strcmp(launch->name, "tck_finalize")};
    struct fake_twin_row *row;
    CUresult result;
    if (!link->nranks || link->nranks > TCK_CUDA_RANKS || link->rank >= link->nranks)
        return CUDA_ERROR_INVALID_VALUE;
    result = touch_link(launch, link);
    if (!result && !strncmp(launch->name, "tck_nvls_", 9))
        result = fake_multicast_check(launch, link->multicast);
    if (result)
        return result;
    turn.state = link->workspaces[link->rank];
    turn.progress = (struct tcw_device_progress *)link->progress;
    turn.step = turn.state->step + 1;
    if (load(&turn.state->fault))
        return CUDA_SUCCESS;
    if (atomic_exchange(&twin_of(&turn, link->rank)->running, 1)) {
        fail(&turn, TCW_EBUSY, TCW_NOBODY);
        return CUDA_SUCCESS;
    }
    if (!args->run.first_token)
        atomic_store(&twin_of(&turn, link->rank)->began_ns, tcw_now_ns());
    row = malloc(sizeof(*row));
    result = row ? run_alone(&turn, launch, row) : CUDA_ERROR_OUT_OF_MEMORY;
    free(row);
    atomic_store(&twin_of(&turn, link->rank)->running, 0);
    return result;
}

CUresult fake_twin_all_reduce(const struct fake_launch *launch)
{
    const struct tck_cuda_args *args = launch->params;
    CUresult result = run_launch(launch);
    return result || !(args->run.flags & TCK_CUDA_LAST) ? result : fake_twin_signal(launch, &args->signal);
}
