#include "cases.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TENSORS = 5, MOST_DIMENSIONS = 4 };

/* A list of tensors of random shapes, all with `dim` dimensions at least, some absent. */
struct list {
    unsigned count;
    int dim;
    bool has_sizes;
    uint64_t sizes[TRTCOLL_MAX_RANKS];
    uint64_t extent;     /* without sizes: of the plan */
    uint64_t run_extent; /* and of the run */
    struct trtcoll_tensor tensors[MOST_TENSORS];
};

static uint64_t between(uint64_t *random, uint64_t low, uint64_t high)
{
    return low + ref_random(random) % (high - low + 1);
}

static struct list list_random(uint64_t *random, unsigned nranks, bool reduces)
{
    struct list list = {.count = (unsigned)between(random, 1, MOST_TENSORS)};
    list.dim = (int)between(random, 0, 2);
    list.has_sizes = ref_random(random) % 2;
    list.extent = between(random, 1, 40);
    for (unsigned i = 0; i < nranks; i++)
        list.sizes[i] = ref_random(random) % 4 ? between(random, 0, 30) : 0;
    list.run_extent = list.has_sizes || ref_random(random) % 2 ? 0 : between(random, 1, list.extent);
    for (unsigned t = 0; t < list.count; t++) {
        struct trtcoll_tensor *tensor = &list.tensors[t];
        if (t && ref_random(random) % 4 == 0)
            continue; /* absent */
        tensor->present = 1;
        tensor->dtype = (uint32_t)(ref_random(random) % (reduces ? 10 : 12));
        tensor->ndim = (uint32_t)between(random, (uint64_t)list.dim + 1, MOST_DIMENSIONS);
        for (unsigned d = 0; d < tensor->ndim; d++)
            tensor->shape[d] = between(random, 1, 9);
    }
    return list;
}

static uint64_t own_extent(const struct list *list, unsigned rank, bool of_run)
{
    if (list->has_sizes)
        return list->sizes[rank];
    return of_run && list->run_extent ? list->run_extent : list->extent;
}

static uint64_t sum_extents(const struct list *list, unsigned ranks, bool of_run)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < ranks; i++)
        sum += own_extent(list, i, of_run);
    return sum;
}

static uint64_t outer_of(const struct list *list, const struct trtcoll_tensor *tensor)
{
    uint64_t outer = 1;
    for (int d = 0; d < list->dim; d++)
        outer *= tensor->shape[d];
    return outer;
}

static uint64_t inner_of(const struct list *list, const struct trtcoll_tensor *tensor)
{
    uint64_t inner = 1;
    for (unsigned d = (unsigned)list->dim + 1; d < tensor->ndim; d++)
        inner *= tensor->shape[d];
    return inner;
}

/* The descriptor's shapes are those of this rank's input; the same list without a name for `dim` if all have as many dimensions. */
static void list_describe(struct list *list, const struct trtcoll_group_info *info, bool scatter, unsigned lane,
                          struct trtcoll_gather_desc *desc)
{
    uint32_t ndim = 0;
    bool same = true;
    *desc = (struct trtcoll_gather_desc)TRTCOLL_GATHER_DESC_INIT;
    for (unsigned t = 0; t < list->count; t++) {
        struct trtcoll_tensor *tensor = &list->tensors[t];
        if (!tensor->present)
            continue;
        tensor->shape[list->dim] = scatter ? sum_extents(list, info->nranks, false) : own_extent(list, info->rank, false);
        same &= !ndim || ndim == tensor->ndim;
        ndim = tensor->ndim;
    }
    desc->dim = same && list->extent % 2 ? list->dim - (int)ndim : list->dim;
    desc->lane = lane;
    desc->tensor_count = list->count;
    desc->tensors = list->tensors;
    desc->sizes = list->has_sizes ? list->sizes : NULL;
}

static void execute_list(struct trtcoll_plan *plan, const struct list *list, void *const *in, void *const *out, bool with_event)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = list->run_extent;
    if (list->count == 1) {
        args.in = in[0];
        args.out = out[0];
    } else {
        args.in_list = (const void *const *)in;
        args.out_list = out;
    }
    unsigned entries = list->count == 1 ? 0 : list->count;
    case_execute_lists(plan, &args, entries, entries, with_event);
}

void case_all_gather(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane)
{
    struct trtcoll_group_info info = case_group_info(group);
    struct list list = list_random(random, info.nranks, false);
    struct trtcoll_gather_desc desc;
    struct trtcoll_plan *plan = NULL;
    void *in[MOST_TENSORS] = {0}, *out[MOST_TENSORS] = {0};
    uint64_t seed = ref_random(random);
    (void)me;
    list_describe(&list, &info, false, lane, &desc);
    CHECK_OK(trtcoll_plan_create_all_gather(group, &desc, &plan));
    uint64_t own = own_extent(&list, info.rank, true), all = sum_extents(&list, info.nranks, true);
    for (unsigned t = 0; t < list.count; t++) {
        const struct trtcoll_tensor *tensor = &list.tensors[t];
        if (!tensor->present)
            continue;
        uint64_t outer = outer_of(&list, tensor), inner = inner_of(&list, tensor);
        in[t] = case_buffer(outer * own * inner * ref_bytes(tensor->dtype));
        out[t] = case_buffer(outer * all * inner * ref_bytes(tensor->dtype));
        ref_fill(tensor->dtype, REF_SPECIAL, seed + t * 100 + info.rank, in[t], outer * own * inner);
    }
    execute_list(plan, &list, in, out, seed % 2);
    for (unsigned t = 0; t < list.count; t++) {
        const struct trtcoll_tensor *tensor = &list.tensors[t];
        if (!tensor->present)
            continue;
        uint64_t outer = outer_of(&list, tensor), line = inner_of(&list, tensor) * ref_bytes(tensor->dtype);
        for (unsigned rank = 0; rank < info.nranks; rank++) {
            uint64_t extent = own_extent(&list, rank, true), at = sum_extents(&list, rank, true);
            unsigned char *piece = case_buffer(outer * extent * line);
            ref_fill(tensor->dtype, REF_SPECIAL, seed + t * 100 + rank, piece, outer * extent * inner_of(&list, tensor));
            for (uint64_t o = 0; o < outer; o++)
                CHECK_MSG(memcmp(piece + o * extent * line, (unsigned char *)out[t] + (o * all + at) * line, extent * line) == 0,
                          "all-gather: tensor %u, piece of rank %u, outer %llu differs (dim %d, extent %llu, sizes %d, lane %u)", t, rank,
                          (unsigned long long)o, desc.dim, (unsigned long long)extent, list.has_sizes, lane);
            free(piece);
        }
    }
    for (unsigned t = 0; t < list.count; t++) {
        free(in[t]);
        free(out[t]);
    }
    CHECK_OK(trtcoll_plan_release(plan));
}

void case_reduce_scatter(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane)
{
    struct trtcoll_group_info info = case_group_info(group);
    struct list list = list_random(random, info.nranks, true);
    struct trtcoll_gather_desc desc;
    struct trtcoll_plan *plan = NULL;
    void *in[MOST_TENSORS] = {0}, *out[MOST_TENSORS] = {0};
    uint64_t seed = ref_random(random);
    (void)me;
    list_describe(&list, &info, true, lane, &desc);
    desc.redop = (uint32_t[]){TRTCOLL_SUM, TRTCOLL_SUM, TRTCOLL_MIN, TRTCOLL_MAX}[seed % 4];
    ref_data kind = desc.redop == TRTCOLL_SUM ? REF_WIDE : REF_SMALL;
    CHECK_OK(trtcoll_plan_create_reduce_scatter(group, &desc, &plan));
    uint64_t own = own_extent(&list, info.rank, true), all = sum_extents(&list, info.nranks, true),
             at = sum_extents(&list, info.rank, true);
    for (unsigned t = 0; t < list.count; t++) {
        const struct trtcoll_tensor *tensor = &list.tensors[t];
        if (!tensor->present)
            continue;
        uint64_t outer = outer_of(&list, tensor), inner = inner_of(&list, tensor);
        in[t] = case_buffer(outer * all * inner * ref_bytes(tensor->dtype));
        out[t] = case_buffer(outer * own * inner * ref_bytes(tensor->dtype));
        ref_fill(tensor->dtype, kind, seed + t * 100 + info.rank, in[t], outer * all * inner);
    }
    execute_list(plan, &list, in, out, seed % 2);
    for (unsigned t = 0; t < list.count; t++) {
        const struct trtcoll_tensor *tensor = &list.tensors[t];
        if (!tensor->present)
            continue;
        uint64_t outer = outer_of(&list, tensor), inner = inner_of(&list, tensor);
        void *inputs[TRTCOLL_MAX_RANKS];
        for (unsigned rank = 0; rank < info.nranks; rank++) {
            inputs[rank] = case_buffer(outer * all * inner * ref_bytes(tensor->dtype));
            ref_fill(tensor->dtype, kind, seed + t * 100 + rank, inputs[rank], outer * all * inner);
        }
        for (uint64_t o = 0; o < outer; o++) {
            const char *fault = ref_check_reduction(tensor->dtype, desc.redop, info.nranks, (const void *const *)inputs,
                                                    (o * all + at) * inner, out[t], o * own * inner, own * inner);
            CHECK_MSG(!fault, "reduce-scatter: tensor %u, outer %llu: %s", t, (unsigned long long)o, fault);
        }
        for (unsigned rank = 0; rank < info.nranks; rank++)
            free(inputs[rank]);
    }
    for (unsigned t = 0; t < list.count; t++) {
        free(in[t]);
        free(out[t]);
    }
    CHECK_OK(trtcoll_plan_release(plan));
}

void case_all_to_all(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane)
{
    struct trtcoll_group_info info = case_group_info(group);
    struct trtcoll_all_to_all_desc desc = TRTCOLL_ALL_TO_ALL_DESC_INIT;
    struct trtcoll_tensor tensors[3] = {{0}};
    struct trtcoll_plan *plan = NULL;
    uint64_t elements[3];
    unsigned lists = (unsigned)between(random, 1, 3), n = info.nranks;
    uint64_t seed = ref_random(random);
    (void)me;
    for (unsigned g = 0; g < lists; g++) {
        tensors[g] = (struct trtcoll_tensor){.present = 1, .dtype = (uint32_t)(ref_random(random) % 12), .ndim = 2};
        tensors[g].shape[0] = between(random, 1, 20);
        tensors[g].shape[1] = between(random, 1, 300);
        elements[g] = tensors[g].shape[0] * tensors[g].shape[1];
    }
    desc.lane = lane;
    desc.list_count = lists;
    desc.tensors = tensors;
    CHECK_OK(trtcoll_plan_create_all_to_all(group, &desc, &plan));
    void *in[3 * TRTCOLL_MAX_RANKS], *out[3];
    for (unsigned g = 0; g < lists; g++) {
        size_t bytes = elements[g] * ref_bytes(tensors[g].dtype);
        out[g] = case_buffer(bytes * n);
        for (unsigned j = 0; j < n; j++) {
            in[g * n + j] = case_buffer(bytes);
            ref_fill(tensors[g].dtype, REF_SPECIAL, seed + g * 10000 + info.rank * 100 + j, in[g * n + j], elements[g]);
        }
    }
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.in_list = (const void *const *)in;
    args.out_list = out;
    case_execute_lists(plan, &args, lists * n, lists, seed % 2);
    for (unsigned g = 0; g < lists; g++) {
        size_t bytes = elements[g] * ref_bytes(tensors[g].dtype);
        unsigned char *expected = case_buffer(bytes);
        for (unsigned j = 0; j < n; j++) {
            ref_fill(tensors[g].dtype, REF_SPECIAL, seed + g * 10000 + j * 100 + info.rank, expected, elements[g]);
            CHECK_MSG(memcmp(expected, (unsigned char *)out[g] + j * bytes, bytes) == 0, "all-to-all: list %u, piece of rank %u differs", g,
                      j);
            free(in[g * n + j]);
        }
        free(expected);
        free(out[g]);
    }
    CHECK_OK(trtcoll_plan_release(plan));
}

void case_broadcast(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane)
{
    struct trtcoll_group_info info = case_group_info(group);
    struct trtcoll_broadcast_desc desc = TRTCOLL_BROADCAST_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    uint64_t seed = ref_random(random);
    (void)me;
    desc.lane = lane;
    desc.dtype = (uint32_t)(ref_random(random) % 12);
    desc.root = (uint32_t)(ref_random(random) % info.nranks);
    desc.count = between(random, 1, 50000);
    CHECK_OK(trtcoll_plan_create_broadcast(group, &desc, &plan));
    size_t bytes = desc.count * ref_bytes(desc.dtype);
    void *expected = case_buffer(bytes), *out = case_buffer(bytes), *in = NULL;
    ref_fill(desc.dtype, REF_SPECIAL, seed, expected, desc.count);
    if (info.rank == desc.root) {
        in = seed % 3 ? case_buffer(bytes) : out; /* in place is allowed */
        memcpy(in, expected, bytes);
    }
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.in = in;
    args.out = out;
    case_execute(plan, &args, seed % 2);
    CHECK_MSG(memcmp(expected, out, bytes) == 0, "broadcast of rank %u differs here", desc.root);
    if (in != out)
        free(in);
    free(out);
    free(expected);
    CHECK_OK(trtcoll_plan_release(plan));
}

void case_barrier(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane)
{
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    desc.lane = lane;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    for (unsigned round = 0; round < 5; round++) {
        _Atomic uint64_t *mine = &me->slot->values[PROC_VALUES - 2];
        uint64_t arrived = atomic_load(mine) + 1;
        if (ref_random(random) % (unsigned)me->nranks == (unsigned)me->rank)
            proc_nap(); /* somebody is late */
        atomic_store(mine, arrived);
        case_execute(plan, &args, round % 2);
        for (int rank = 0; rank < me->nranks; rank++)
            CHECK_MSG(atomic_load(&me->shared->ranks[rank].values[PROC_VALUES - 2]) >= arrived, "rank %d had not arrived at the barrier",
                      rank);
    }
    CHECK_OK(trtcoll_plan_release(plan));
}

void case_any(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane)
{
    switch (ref_random(random) % 9) {
    case 0:
        case_all_gather(me, group, random, lane);
        break;
    case 1:
        case_reduce_scatter(me, group, random, lane);
        break;
    case 2:
        case_all_to_all(me, group, random, lane);
        break;
    case 3:
        case_broadcast(me, group, random, lane);
        break;
    case 4:
        case_barrier(me, group, random, lane);
        break;
    case 5: {
        struct case_finalize job = case_finalize_random(random, lane);
        case_finalize_run(me, group, &job, 1 + ref_random(random) % 3);
        break;
    }
    default: {
        struct case_all_reduce job = case_all_reduce_random(random, lane, 20000);
        case_all_reduce_run(me, group, &job, 1 + ref_random(random) % 3);
        break;
    }
    }
}
