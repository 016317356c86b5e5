#include "cuda/words.h"

#include "error.h"
#include "run.h"
#include "served.h"

#include <stddef.h>

static struct tcc_gpu *gpu_of(const struct tcc_served *served)
{
    return atomic_load_explicit(&served->member->ctx->gpu, memory_order_acquire);
}

int tcc_words_create(struct tcc_served *served)
{
    struct trtcoll_ctx *ctx = served->member->ctx;
    struct tcc_gpu *gpu = gpu_of(served);
    uint64_t bytes = (uint64_t)((unsigned char *)served->base + served->bytes - (unsigned char *)served->ring.words);
    struct tcc_words *words;
    struct tcc_visit visit;
    int code;

    if (!served->ring.words)
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld sent a ring without words for group %s", served->member->name);
    words = tcc_alloc(ctx, sizeof(*words) + served->ring.cq_entries * sizeof(struct tcc_pair));
    if (!words)
        return tcc_fail_code(TRTCOLL_ENOMEM, "ring");
    words->host = served->ring.words;
    code = tcc_visit_begin(&visit, gpu);
    if (!code) {
        code = tck_cuda_register_host(gpu->device, words->host, bytes, &words->device);
        if (code)
            code = tcc_fail(code, "the ring of group %s could not be registered with %s: %s", served->member->name, tcc_gpu_name(gpu),
                            trtcoll_error_text(code));
        tcc_visit_end(&visit);
    }
    if (code) {
        tcc_free(ctx, words);
        return code;
    }
    served->words = words;
    return 0;
}

void tcc_words_destroy(struct tcc_served *served)
{
    struct tcc_gpu *gpu = gpu_of(served);
    struct tcc_visit visit;
    uint32_t i;

    if (!served->words)
        return;
    if (!tcc_visit_begin(&visit, gpu)) {
        tck_cuda_unregister_host(gpu->device, served->words->host);
        for (i = 0; i < served->ring.cq_entries; i++)
            if (served->flights[i].mark)
                gpu->driver->cuEventDestroy(served->flights[i].mark);
        tcc_visit_end(&visit);
    }
    tcc_free(served->member->ctx, served->words);
    served->words = NULL;
}

/* One call of the driver: the stream says that the inputs are there, and goes no further until the outputs are. */
static CUresult exchange(const struct tcc_gpu *gpu, const struct tcc_words *words, uint32_t pair, uint64_t number, CUstream stream)
{
    CUdeviceptr at = words->device + pair * sizeof(struct tcw_words);
    CUstreamBatchMemOpParams steps[2] = {0};

    steps[0].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_64;
    steps[0].writeValue.address = at + offsetof(struct tcw_words, ready);
    steps[0].writeValue.value64 = number;
    steps[0].writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT;
    steps[1].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_64;
    steps[1].waitValue.address = at + offsetof(struct tcw_words, done);
    steps[1].waitValue.value64 = number;
    steps[1].waitValue.flags = CU_STREAM_WAIT_VALUE_GEQ;
    return gpu->driver->cuStreamBatchMemOp(stream, 2, steps, 0);
}

static CUdeviceptr address(const void *pointer)
{
    return (CUdeviceptr)(uintptr_t)pointer;
}

static CUresult copies(const struct tcc_gpu *gpu, const struct tcc_flight *flight, CUstream stream, bool out)
{
    CUresult result = CUDA_SUCCESS;
    uint32_t i;

    for (i = 0; i < flight->count && result == CUDA_SUCCESS; i++) {
        const struct tcc_use *use = &flight->uses[i];

        if (!use->block)
            continue;
        if (out && use->out)
            result = gpu->driver->cuMemcpyAsync(address(use->user), address(use->block->base), use->bytes, stream);
        else if (!out && use->in)
            result = gpu->driver->cuMemcpyAsync(address(use->block->base), address(use->user), use->bytes, stream);
    }
    return result;
}

static int staging_check(struct tcc_gpu *gpu, const struct tcc_flight *flight)
{
    uint32_t i;
    int code = 0;

    for (i = 0; i < flight->count && !code; i++)
        if (flight->uses[i].block)
            code = tcc_share_check(gpu, flight->uses[i].user);
    return code;
}

/* Behind the words: what is left of the run on this stream. */
static int follow_up(struct tcc_gpu *gpu, struct tcc_flight *flight, CUstream stream, bool wants_event)
{
    CUresult result = CUDA_SUCCESS;

    if (flight->staged) {
        result = copies(gpu, flight, stream, true);
        if (result == CUDA_SUCCESS && !flight->mark)
            result = gpu->driver->cuEventCreate(&flight->mark, CU_EVENT_DISABLE_TIMING);
        if (result == CUDA_SUCCESS)
            result = gpu->driver->cuEventRecord(flight->mark, stream);
    }
    if (result != CUDA_SUCCESS)
        return tcc_driver_fail(result, "outputs");
    return wants_event ? tcc_mark_record(gpu, flight->event, stream) : 0;
}

static int enqueue(struct tcc_served *served, struct tcc_flight *flight, const struct tcc_run *run, uint64_t number, bool wants_event,
                   int *late)
{
    struct tcc_words *words = served->words;
    struct tcc_gpu *gpu = gpu_of(served);
    bool capturing = false;
    CUresult result;
    int code = tcc_stream_look(gpu, run->stream, words->known && words->stream == run->stream, &capturing);

    if (!code && capturing)
        code = tcc_fail_plainly(TRTCOLL_ECAPTURE, "the stream is being captured: make the plan with TRTCOLL_GRAPH for that");
    if (!code && flight->staged)
        code = staging_check(gpu, flight);
    if (code)
        return code;
    words->known = true;
    words->stream = run->stream;
    result = flight->staged ? copies(gpu, flight, run->stream, false) : CUDA_SUCCESS;
    if (result == CUDA_SUCCESS)
        result = exchange(gpu, words, flight->index, number, run->stream);
    if (result != CUDA_SUCCESS)
        return tcc_driver_fail(result, "inputs");
    flight->number = number;
    words->pairs[flight->index] = (struct tcc_pair){.number = number};
    *late = follow_up(gpu, flight, run->stream, wants_event);
    return 0;
}

int tcc_words_enqueue(struct tcc_served *served, struct tcc_flight *flight, const struct tcc_run *run, uint64_t number, bool wants_event,
                      int *late)
{
    struct tcc_visit visit;
    int code = tcc_visit_begin(&visit, gpu_of(served));

    if (code)
        return code;
    code = enqueue(served, flight, run, number, wants_event, late);
    tcc_visit_end(&visit);
    return code;
}

static void raise(_Atomic uint64_t *word, uint64_t number)
{
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);

    while (now < number && !atomic_compare_exchange_weak_explicit(word, &now, number, memory_order_release, memory_order_relaxed))
        ;
}

void tcc_words_failed(struct tcc_served *served, const struct tcc_flight *flight)
{
    raise(&served->words->host[flight->index].done, flight->number);
    served->words->pairs[flight->index].failed = true;
}

/*
 * `ready` and `done` go through the stream in one piece: where the stream has raised the one and the other is raised, it has passed. After
 * a failure an executor may have raised `ready` in its place; such a ring stays until its context closes.
 */
bool tcc_words_in_use(struct tcc_served *served)
{
    const struct tcc_words *words = served->words;
    bool closing = gpu_of(served)->closing;
    uint32_t i;

    for (i = 0; i < served->ring.cq_entries; i++) {
        const struct tcc_pair *pair = &words->pairs[i];

        if ((pair->failed && !closing) || atomic_load_explicit(&words->host[i].ready, memory_order_acquire) < pair->number ||
            atomic_load_explicit(&words->host[i].done, memory_order_acquire) < pair->number)
            return true;
        if (served->flights[i].draining && tcc_words_drained(served, &served->flights[i]))
            return true;
    }
    return false;
}

int tcc_words_drained(struct tcc_served *served, const struct tcc_flight *flight)
{
    struct tcc_gpu *gpu = gpu_of(served);
    struct tcc_visit visit;
    CUresult result;
    int code = tcc_visit_begin(&visit, gpu);

    if (code)
        return 0; /* a device that has failed copies nothing any more */
    result = gpu->driver->cuEventQuery(flight->mark);
    tcc_visit_end(&visit);
    return result == CUDA_ERROR_NOT_READY ? TRTCOLL_EAGAIN : 0;
}
