/*
 * All-reduce. Two data paths, chosen by the strategy, each with a plain form (a run of elements) and a row form (whole tokens, followed
 * by the epilogue):
 *
 *   one-shot   a chunk per step: publish mine, wait for all, reduce all of them (seed-spec 7)
 *   two-shot   parts of a chunk belong to ranks: publish the parts of others, reduce my part of everybody's, publish the result, collect
 *              (seed-spec 8). The second half of a chunk shares its step with the first half of the next one.
 *
 * Which rank sums a part cannot be seen in the result: every element is folded in ascending rank order wherever that happens. So plain
 * two-shots split by cache lines and row forms by tokens (seed-spec 8.1), MNNVL included, and fewer tokens than ranks simply leave
 * some ranks without a part.
 */
#include "host/epilogue.h"
#include "host/operations.h"
#include "host/step.h"

enum {
    LIBRARY_ONE_SHOT_BYTES = 32 << 10, /* up to here the library form takes one step instead of two */
    MNNVL_ONE_SHOT_BYTES = 512 << 10,  /* of all ranks together: seed-spec 15.4 */
    PART_BYTES = 128 << 10,            /* of one rank in a two-shot chunk */
    TILE_BYTES = 16 << 10,             /* stays in the first cache between two uses */
};

struct form {
    bool one_shot;
    bool wide;
    bool rows;      /* an epilogue follows */
    uint64_t total; /* bytes */
    uint64_t unit;  /* bytes that stay together: a row or an element */
    size_t element;
    struct tck_epilogue epilogue;
};

static int choose(const struct tck_comm *comm, struct form *form)
{
    const struct tck_run *run = comm->run;
    const struct tcw_plan_desc *desc = run->desc;
    bool mnnvl = run->strategy == TCW_STRATEGY_MNNVL;
    form->element = tcw_dtype_bytes(desc->dtype);
    form->rows = desc->fusion != TCW_FUSION_NONE || desc->flags & TCW_PLAN_BIAS;
    form->total = run->tokens * desc->hidden * form->element;
    form->unit = form->rows ? desc->hidden * form->element : form->element;
    form->wide = desc->flags & TCW_PLAN_ACC_FP32;
    switch (run->strategy) {
    case TCW_STRATEGY_NCCL:
        form->wide = true;
        form->one_shot = form->total <= LIBRARY_ONE_SHOT_BYTES;
        break;
    case TCW_STRATEGY_MIN_LATENCY:
        form->one_shot = run->tokens <= 128 || desc->hidden < comm->nranks;
        break;
    case TCW_STRATEGY_ONESHOT:
        form->one_shot = true;
        break;
    case TCW_STRATEGY_TWOSHOT:
        form->one_shot = false;
        break;
    case TCW_STRATEGY_MNNVL:
        form->wide = true;
        form->one_shot = form->total * comm->nranks <= MNNVL_ONE_SHOT_BYTES;
        break;
    default:
        return TCW_ENOTSUP;
    }
    if (form->rows)
        tck_epilogue_prepare(&form->epilogue, run, comm->loops, form->wide, mnnvl,
                             mnnvl && !form->one_shot ? TCK_NORM_GAMMA_FIRST : TCK_NORM_SCALE_FIRST);
    return 0;
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static inline uint64_t whole_lines(uint64_t bytes)
{
    return (bytes + TCW_LINE - 1) & ~(uint64_t)(TCW_LINE - 1);
}

/* Reduces `bytes` of all sources into dst. */
static void reduce(const struct tck_comm *comm, const struct form *form, void *dst, const void *const *src, uint64_t bytes)
{
    struct tck_reduction reduction = {
        .dst = dst,
        .src = src,
        .count = comm->nranks,
        .dtype = comm->run->desc->dtype,
        .redop = comm->run->desc->redop,
        .wide = form->wide,
        .elements = bytes / form->element,
    };
    comm->loops->reduce(&reduction);
}

/* Everybody's chunk is at src; finishes `bytes` of it, which begin at byte `at` of the message. */
static void finish_one_shot(struct tck_comm *comm, struct form *form, const void *const *src, uint64_t at, uint64_t bytes)
{
    const void *row[TCK_HOST_MAX_RANKS];
    if (!form->rows) {
        reduce(comm, form, (unsigned char *)comm->run->out[0] + at, src, bytes);
        return;
    }
    for (uint64_t done = 0; done < bytes; done += form->unit) {
        for (uint32_t i = 0; i < comm->nranks; i++)
            row[i] = (const unsigned char *)src[i] + done;
        tck_epilogue_row(&form->epilogue, (at + done) / form->unit, row, comm->nranks);
    }
}

static int one_shot(struct tck_comm *comm, struct form *form)
{
    const unsigned char *in = comm->run->in[0];
    const void *src[TCK_HOST_MAX_RANKS];
    uint64_t units = least(TCK_CHUNK_BYTES, comm->capacity) / form->unit;
    uint64_t chunk = units ? units * form->unit : form->unit;
    if (chunk > comm->capacity)
        return TCW_EINVAL; /* the caller brought a smaller workspace than tck_plan_workspace asked for */
    for (uint64_t at = 0; at < form->total; at += chunk) {
        uint64_t bytes = least(chunk, form->total - at);
        int code = tck_step_begin(comm);
        if (code)
            return code;
        memcpy(tck_step_data(comm, comm->rank, bytes), in + at, bytes);
        tck_step_publish(comm);
        tck_step_ask(comm, bytes);
        for (uint32_t i = 0; i < comm->nranks; i++)
            src[i] = tck_step_data(comm, i, bytes);
        src[comm->rank] = in + at;
        code = tck_step_wait_all(comm);
        if (code)
            return code;
        finish_one_shot(comm, form, src, at, bytes);
        tck_step_end(comm);
    }
    return 0;
}

/* A group of one has nobody to exchange with. */
static int alone(struct tck_comm *comm, struct form *form)
{
    const void *src[1] = {comm->run->in[0]};
    finish_one_shot(comm, form, src, 0, form->total);
    return 0;
}

/* The part of rank `rank` in a chunk of `bytes`. */
struct part {
    uint64_t at, bytes;
};

static struct part part_of(const struct form *form, uint32_t nranks, uint32_t rank, uint64_t bytes)
{
    if (form->rows) {
        uint64_t rows = bytes / form->unit, each = rows / nranks, rest = rows % nranks;
        return (struct part){(rank * each + least(rank, rest)) * form->unit, (each + (rank < rest)) * form->unit};
    }
    uint64_t each = whole_lines((bytes + nranks - 1) / nranks);
    uint64_t at = least(rank * each, bytes);
    return (struct part){at, least(each, bytes - at)};
}

struct two_shot {
    uint64_t chunk;   /* bytes of the message per step */
    uint64_t results; /* where in a buffer's data the results stand, behind the parts for others */
};

static int plan_two_shot(const struct tck_comm *comm, const struct form *form, struct two_shot *shape)
{
    uint64_t n = comm->nranks;
    uint64_t room = comm->capacity - TCW_LINE;                  /* one line is lost where the results begin */
    uint64_t chunk = least(PART_BYTES * n, room / (n + 1) * n); /* parts and one result: (N + 1) / N chunks */
    uint64_t units = chunk / form->unit;
    if (!form->rows) {
        units = chunk / (TCW_LINE * n) * (TCW_LINE * n) / form->unit; /* parts are whole lines */
    } else if (units >= n) {
        units = units / n * n;
    } else { /* long rows: some ranks have a part of one, others none */
        units = room / form->unit < 2 ? 1 : least(units ? units : 1, room / form->unit - 1);
    }
    shape->chunk = units * form->unit;
    shape->results = whole_lines(shape->chunk);
    return shape->results + part_of(form, comm->nranks, 0, shape->chunk).bytes > comm->capacity ? TCW_EINVAL : 0;
}

/* Sums this rank's part of the chunk at byte `at` of the message into the next buffer, whence everybody collects it. */
static void reduce_part(struct tck_comm *comm, const struct form *form, const struct two_shot *shape, uint64_t at, uint64_t bytes)
{
    struct part part = part_of(form, comm->nranks, comm->rank, bytes);
    unsigned char *result = tck_step_next_data(comm) + shape->results;
    const unsigned char *src[TCK_HOST_MAX_RANKS];
    const void *tile_src[TCK_HOST_MAX_RANKS];
    for (uint32_t i = 0; i < comm->nranks; i++)
        src[i] = (unsigned char *)tck_step_flag(comm, i) + TCK_FLAG_BYTES + part.at;
    src[comm->rank] = (const unsigned char *)comm->run->in[0] + at + part.at;
    for (uint64_t done = 0; done < part.bytes; done += TILE_BYTES) {
        uint64_t tile = least(TILE_BYTES, part.bytes - done);
        for (uint32_t i = 0; i < comm->nranks; i++)
            tile_src[i] = src[i] + done;
        reduce(comm, form, result + done, tile_src, tile);
        if (!form->rows)
            memcpy((unsigned char *)comm->run->out[0] + at + part.at + done, result + done, tile);
    }
}

/* Everybody's results of the chunk at byte `at` of the message are there. */
static void collect(struct tck_comm *comm, struct form *form, const struct two_shot *shape, uint64_t at, uint64_t bytes)
{
    for (uint32_t n = 0; n < comm->nranks; n++) {
        uint32_t i = (comm->rank + n) % comm->nranks; /* not all from the same rank at the same time */
        struct part part = part_of(form, comm->nranks, i, bytes);
        const unsigned char *result = (unsigned char *)tck_step_flag(comm, i) + TCK_FLAG_BYTES + shape->results;
        if (form->rows) {
            for (uint64_t done = 0; done < part.bytes; done += form->unit) {
                const void *src[1] = {result + done};
                tck_epilogue_row(&form->epilogue, (at + part.at + done) / form->unit, src, 1);
            }
        } else if (i != comm->rank) {
            memcpy((unsigned char *)comm->run->out[0] + at + part.at, result, part.bytes);
        }
    }
}

static void offer_parts(struct tck_comm *comm, const struct form *form, uint64_t at, uint64_t bytes)
{
    const unsigned char *in = (const unsigned char *)comm->run->in[0] + at;
    unsigned char *data = (unsigned char *)tck_step_flag(comm, comm->rank) + TCK_FLAG_BYTES;
    struct part mine = part_of(form, comm->nranks, comm->rank, bytes);
    memcpy(data, in, mine.at);
    memcpy(data + mine.at + mine.bytes, in + mine.at + mine.bytes, bytes - mine.at - mine.bytes);
}

static int two_shot(struct tck_comm *comm, struct form *form)
{
    struct two_shot shape;
    int code = plan_two_shot(comm, form, &shape);
    for (uint64_t at = 0; !code && at < form->total + shape.chunk; at += shape.chunk) {
        uint64_t bytes = at < form->total ? least(shape.chunk, form->total - at) : 0;
        code = tck_step_begin(comm);
        if (code)
            break;
        if (bytes)
            offer_parts(comm, form, at, bytes);
        tck_step_publish(comm);
        code = tck_step_wait_all(comm);
        if (code)
            break;
        if (bytes)
            reduce_part(comm, form, &shape, at, bytes);
        if (at)
            collect(comm, form, &shape, at - shape.chunk, least(shape.chunk, form->total - (at - shape.chunk)));
        tck_step_end(comm);
    }
    return code;
}

int tck_host_all_reduce(struct tck_comm *comm)
{
    struct form form;
    int code = choose(comm, &form);
    if (code)
        return code;
    return comm->nranks == 1 ? alone(comm, &form) : form.one_shot ? one_shot(comm, &form) : two_shot(comm, &form);
}
