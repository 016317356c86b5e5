#include "member.h"

#include "clock.h"
#include "cuda/gpu.h"
#include "error.h"
#include "served.h"
#include "workspace.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static int refuse(const char *name, const char *why)
{
    return tcc_fail(TRTCOLL_EPROTO, "trtcolld made %s ready with %s", name, why);
}

/* The answer must be what this side can work with; the mapping must not be able to fault. */
static int map_page(struct tcc_member *member, const char *name, struct tcw_packet *reply)
{
    const struct tcw_group_ready *ready = &member->ready;
    const char *why = "";
    void *page;

    if (reply->fd_count != 1)
        return refuse(name, "no member page");
    if (ready->page_bytes != tcw_member_page_bytes())
        return refuse(name, "a member page of another size");
    if (tcw_memfd_check(reply->fds[0], ready->page_bytes, &why))
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld made %s ready with a member page that is %s", name, why);
    page = mmap(NULL, ready->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, reply->fds[0], 0);
    if (page == MAP_FAILED)
        return tcc_fail(TRTCOLL_ENOMEM, "the member page of %s could not be mapped", name);
    if (tcw_member_page_check(page, ready->page_bytes, ready->group_id, ready->rank, ready->size)) {
        munmap(page, ready->page_bytes);
        return refuse(name, "a member page of another group or ABI");
    }
    member->page = page;
    return 0;
}

static int open_device(struct tcc_member *member, const char *name)
{
    int code;

    if (member->ready.device_kind == TCW_DEVICE_HOST)
        return 0;
    if (member->ready.device_kind != TCW_DEVICE_CUDA)
        return refuse(name, "devices of a kind that this library does not know");
    code = tcc_gpu_open(member->ctx, member->ready.device_uuid);
    return code ? code : tcc_lane_create(member);
}

static int make_locks(struct tcc_member *member)
{
    if (pthread_mutex_init(&member->run_lock, NULL))
        return tcc_fail_code(TRTCOLL_ENOMEM, "group");
    if (!pthread_mutex_init(&member->lock, NULL))
        return 0;
    pthread_mutex_destroy(&member->run_lock);
    return tcc_fail_code(TRTCOLL_ENOMEM, "group");
}

int tcc_member_create(struct trtcoll_ctx *ctx, const char *name, struct tcw_packet *reply, struct tcc_member **result)
{
    struct tcc_member *member = tcc_alloc(ctx, sizeof(*member));
    int code;

    if (!member)
        return tcc_fail_code(TRTCOLL_ENOMEM, "group");
    member->ctx = ctx;
    member->ready = reply->payload.GROUP_READY;
    atomic_init(&member->holders, 1);
    tcw_text_set(member->name, sizeof(member->name), name);
    code = map_page(member, name, reply);
    if (!code)
        code = open_device(member, name);
    if (!code)
        code = make_locks(member);
    if (code) {
        tcc_lane_destroy(member);
        if (member->page)
            munmap(member->page, member->ready.page_bytes);
        tcc_free(ctx, member);
        return code;
    }
    tcw_packet_close_fds(reply); /* the mapping is enough */
    *result = member;
    return 0;
}

void tcc_member_hold(struct tcc_member *member)
{
    atomic_fetch_add_explicit(&member->holders, 1, memory_order_relaxed);
}

void tcc_member_drop(struct tcc_member *member)
{
    if (atomic_fetch_sub_explicit(&member->holders, 1, memory_order_acq_rel) != 1)
        return;
    if (!member->lane)
        tcc_member_destroy(member);
    else if (!tcc_forked(member->ctx)) /* in a child it is not ours, and CUDA is not there to let go of it */
        tcc_gpu_park(member);
}

void tcc_member_destroy(struct tcc_member *member)
{
    struct tcc_served *served = atomic_load_explicit(&member->served, memory_order_acquire);

    if (served)
        tcc_served_destroy(served);
    tcc_workspaces_destroy(member);
    tcc_lane_destroy(member);
    munmap(member->page, member->ready.page_bytes);
    pthread_mutex_destroy(&member->run_lock);
    pthread_mutex_destroy(&member->lock);
    tcc_free(member->ctx, member);
}

bool tcc_member_break(struct tcc_member *member, const struct tcw_error *error, tcc_failure_source source)
{
    bool news;

    pthread_mutex_lock(&member->lock);
    news = source > member->source;
    /* What this rank has compared itself says more about a difference than the story that all ranks are told. */
    if (news && !(member->source == TCC_FAILURE_LOCAL && error->code == TRTCOLL_EMISMATCH && member->failure.code == error->code))
        member->failure = *error;
    if (news)
        member->source = source;
    atomic_store_explicit(&member->failed, member->failure.code, memory_order_release);
    pthread_mutex_unlock(&member->lock);
    if (news)
        tcc_log(member->ctx, TCC_LOG_WARNING, "group %s, epoch %llu is broken: %s: %s", member->name,
                (unsigned long long)member->ready.epoch, trtcoll_error_name(error->code), error->text);
    return news;
}

void tcc_member_report(struct tcc_member *member, const struct tcw_error *error)
{
    struct tcw_group_report report = {.group_id = member->ready.group_id, .code = error->code, .rank = error->rank, .step = error->step};

    if (!tcc_member_break(member, error, TCC_FAILURE_LOCAL))
        return; /* told already, or known from the daemon */
    tcw_text_set(report.text, sizeof(report.text), error->text);
    tcc_rpc_notify(&member->ctx->rpc, TCW_MSG_GROUP_REPORT, &report);
}

/* Reads what the daemon wrote before it raised the word. */
static void look_at_page(struct tcc_member *member)
{
    uint64_t word = atomic_load_explicit(&member->page->abort_word, memory_order_acquire);
    struct tcw_abort_info info;
    struct tcw_error error = {.code = tcw_abort_code(word), .rank = tcw_abort_culprit(word)};

    if (!word)
        return;
    memcpy(&info, &member->page->abort_info, sizeof(info));
    info.text[sizeof(info.text) - 1] = 0;
    if (error.code >= 0)
        error.code = TRTCOLL_EPROTO;
    error.pid = info.pid;
    error.signal = info.signal;
    error.step = info.step;
    if (info.text[0])
        tcw_text_set(error.text, sizeof(error.text), info.text);
    else
        snprintf(error.text, sizeof(error.text), "group %s is broken: %s", member->name, trtcoll_error_text(error.code));
    tcc_member_break(member, &error, TCC_FAILURE_PAGE);
}

/* What a kernel of this rank has met: the daemon may not know it yet. */
static void look_at_fault(struct tcc_member *member)
{
    const struct tcw_device_progress *device = &member->page->device;
    uint64_t word = atomic_load_explicit(&device->fault, memory_order_acquire);
    struct tcw_error error = {.code = tcw_abort_code(word), .rank = tcw_abort_culprit(word)};
    unsigned long long step, theirs;
    int length;

    if (!word)
        return;
    look_at_page(member); /* again: if the kernel has it from there, the story is there by now, and it is the better one */
    if (atomic_load_explicit(&member->failed, memory_order_acquire))
        return;
    if (error.code >= 0)
        error.code = TRTCOLL_EDEVICE;
    step = atomic_load_explicit(&device->fault_step, memory_order_relaxed);
    theirs = atomic_load_explicit(&device->their_step, memory_order_relaxed);
    error.step = theirs;
    if (error.rank < member->ready.size)
        error.pid = member->ready.peers[error.rank].pid;
    length = snprintf(error.text, sizeof(error.text), "step %llu of group %s: ", step, member->name);
    if (length < 0 || (size_t)length >= sizeof(error.text))
        length = 0;
    if (error.code == TRTCOLL_ETIMEOUT)
        snprintf(error.text + length, sizeof(error.text) - (size_t)length,
                 "rank %u (pid %d) has not arrived within %llu ms; its last step was %llu", error.rank, error.pid,
                 (unsigned long long)(tcc_member_deadline_ns(member) / TCC_MS), theirs);
    else if (error.code == TRTCOLL_EBUSY)
        snprintf(error.text + length, sizeof(error.text) - (size_t)length,
                 "two runs of this rank overlapped: order the streams that runs and graphs of one group are launched on");
    else
        snprintf(error.text + length, sizeof(error.text) - (size_t)length, "%s", trtcoll_error_text(error.code));
    /* The first to see it tells. */
    tcc_member_report(member, &error);
}

int tcc_member_fault(struct tcc_member *member, uint64_t step, uint32_t *rank)
{
    const struct tcw_device_progress *device = &member->page->device;
    uint64_t word = atomic_load_explicit(&device->fault, memory_order_acquire);
    struct tcw_error error;

    *rank = TRTCOLL_RANK_NONE;
    if (!word || (step && step < atomic_load_explicit(&device->fault_step, memory_order_relaxed)))
        return 0;
    if (!tcc_member_failure(member, &error))
        return TRTCOLL_EDEVICE;
    *rank = error.rank;
    return error.code;
}

bool tcc_member_failure(struct tcc_member *member, struct tcw_error *error)
{
    tcc_failure_source source;

    if (!tcc_member_failed(member))
        return false;
    tcc_rpc_pump(&member->ctx->rpc);
    look_at_page(member);
    look_at_fault(member);
    pthread_mutex_lock(&member->lock);
    source = member->source;
    *error = member->failure;
    pthread_mutex_unlock(&member->lock);
    return source != TCC_FAILURE_NONE;
}

bool tcc_member_breaks_with(int code)
{
    switch (code) {
    case TRTCOLL_ETIMEOUT:
    case TRTCOLL_EPEERDEAD:
    case TRTCOLL_EMISMATCH:
    case TRTCOLL_EEXECUTOR:
    case TRTCOLL_EABORTED:
    case TRTCOLL_EDEVICE:
    case TRTCOLL_ENODE:
        return true;
    default:
        return false;
    }
}

bool tcc_member_await_failure(struct tcc_member *member, uint32_t ms)
{
    struct tcc_rpc *rpc = &member->ctx->rpc;
    uint64_t deadline_ns = tcc_deadline_after(tcw_now_ns(), ms);
    struct pollfd readable = {.fd = rpc->socket, .events = POLLIN};
    struct tcw_error failure;
    bool known = tcc_member_failure(member, &failure);

    while (!known && !tcc_rpc_gone(rpc) && tcc_deadline_left_ms(deadline_ns, 1)) {
        poll(&readable, 1, tcc_deadline_left_ms(deadline_ns, 2));
        tcc_rpc_pump(rpc);
        known = tcc_member_failure(member, &failure);
    }
    return known;
}

int tcc_member_fail(struct tcc_member *member)
{
    struct tcw_error error;

    return tcc_member_failure(member, &error) ? tcc_fail_wire(&error, member->name) : 0;
}

int tcc_member_poll(void *arg)
{
    struct tcc_member *member = arg;

    tcc_rpc_pump(&member->ctx->rpc);
    return atomic_load_explicit(&member->failed, memory_order_acquire);
}
