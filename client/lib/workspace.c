#include "workspace.h"

#include "cuda/gpu.h"
#include "error.h"
#include "member.h"

#include <string.h>
#include <unistd.h>

static void destroy(struct tcc_member *member, struct tcc_workspace *workspace)
{
    uint32_t i;

    if (workspace->comm)
        tck_comm_destroy(workspace->comm);
    tcc_lane_disconnect(member, workspace);
    for (i = 0; i < workspace->count; i++)
        tck_memory_release(&workspace->memory[i]);
    tcc_free(member->ctx, workspace);
}

static int map(struct tcc_member *member, struct tcc_workspace *workspace, struct tcw_packet *reply)
{
    struct tck_device *device = member->lane ? tcc_gpu_device(atomic_load(&member->ctx->gpu)) : NULL;
    uint32_t fds = reply->payload.PLAN_READY.workspace_fds, i;
    int code = fds > member->ready.size ? tcc_lane_multicast_check() : 0;

    if (code)
        return code;
    for (i = 0; i < fds; i++) {
        code = tck_memory_import(device, reply->fds[i], workspace->bytes, &workspace->memory[i]);
        if (code && i == member->ready.size)
            return tcc_fail(code, "the multicast object of group %s could not be mapped: %s", member->name, trtcoll_error_text(code));
        if (code)
            return tcc_fail(code, "rank %u's workspace of group %s could not be mapped: %s", i, member->name, trtcoll_error_text(code));
        reply->fds[i] = -1;
        workspace->count = i + 1;
        /* The mapping keeps the memory alive; many descriptors would press on the process' limit. */
        close(workspace->memory[i].fd);
        workspace->memory[i].fd = -1;
    }
    return 0;
}

static int connect_ranks(struct tcc_member *member, struct tcc_workspace *workspace)
{
    void *bases[TCW_MAX_RANKS];
    struct tck_comm_params params = {
        .rank = member->ready.rank,
        .nranks = member->ready.size,
        .workspaces = bases,
        .workspace_bytes = workspace->bytes,
        .abort_word = &member->page->abort_word,
        .deadline_ns = &member->page->deadline_ns,
        .missing_ranks = &member->page->missing_ranks,
        .spin_us = member->ready.spin_us,
        .poll = tcc_member_poll,
        .poll_arg = member,
    };
    uint32_t i;
    int code;

    for (i = 0; i < workspace->count; i++)
        bases[i] = workspace->memory[i].base;
    code = tck_comm_create(&params, &workspace->comm);
    return code ? tcc_fail_code(code, "communicator of the direct lane") : 0;
}

/* Whether the descriptors of a reply are those of workspaces of this group. */
static bool counts(const struct tcc_member *member, const struct tcw_packet *reply)
{
    const struct tcw_plan_ready *ready = &reply->payload.PLAN_READY;
    uint32_t more = ready->workspace_fds - member->ready.size; /* one is the multicast object over all, on GPUs */

    return reply->fd_count >= ready->workspace_fds && ready->workspace_bytes && (more == 0 || (more == 1 && member->lane));
}

/* NULL with the last error set. */
static struct tcc_workspace *create(struct tcc_member *member, struct tcw_packet *reply)
{
    const struct tcw_plan_ready *ready = &reply->payload.PLAN_READY;
    /* On a GPU a group of one exchanges nothing: there is a communicator, and no memory. */
    bool alone = member->lane && member->ready.size == 1 && !ready->workspace_bytes && !ready->workspace_fds;
    struct tcc_workspace *workspace;
    int code;

    if (!alone && !counts(member, reply)) {
        tcc_fail(TRTCOLL_EPROTO, "trtcolld sent %u workspaces of %llu bytes with %u descriptors to a group of %u", ready->workspace_fds,
                 (unsigned long long)ready->workspace_bytes, reply->fd_count, member->ready.size);
        return NULL;
    }
    workspace = tcc_alloc(member->ctx, sizeof(*workspace));
    if (!workspace) {
        tcc_fail_code(TRTCOLL_ENOMEM, "workspaces");
        return NULL;
    }
    workspace->generation = ready->workspace_generation;
    workspace->bytes = ready->workspace_bytes;
    code = alone ? 0 : map(member, workspace, reply);
    if (!code)
        code = member->lane ? tcc_lane_connect(member, workspace) : connect_ranks(member, workspace);
    if (!code)
        return workspace;
    destroy(member, workspace);
    tcc_error()->code = code;
    return NULL;
}

/* Those that no plan uses any more, but for the newest, which waits for plans to come: the daemon sends each generation once. */
static struct tcc_workspace *take_unused(struct tcc_member *member)
{
    struct tcc_workspace **link, *workspace, *unused = NULL;

    pthread_mutex_lock(&member->lock);
    link = member->workspaces ? &member->workspaces->next : &member->workspaces;
    while ((workspace = *link)) {
        if (workspace->plans) {
            link = &workspace->next;
            continue;
        }
        *link = workspace->next;
        workspace->next = unused;
        unused = workspace;
    }
    pthread_mutex_unlock(&member->lock);
    return unused;
}

/* Behind the newest, which is always there. */
static void put_back(struct tcc_member *member, struct tcc_workspace *workspace)
{
    pthread_mutex_lock(&member->lock);
    workspace->next = member->workspaces->next;
    member->workspaces->next = workspace;
    pthread_mutex_unlock(&member->lock);
}

/* Retired generations go when streams and graphs have done with them too. */
static void sweep(struct tcc_member *member)
{
    struct tcc_workspace *workspace, *next;

    for (workspace = take_unused(member); workspace; workspace = next) {
        next = workspace->next;
        if (member->lane && tcc_lane_in_use(member, workspace) != TCC_LANE_IDLE)
            put_back(member, workspace);
        else
            destroy(member, workspace);
    }
}

/* Enters a new generation with its first plan. */
static void add(struct tcc_member *member, struct tcc_workspace *workspace)
{
    workspace->plans = 1;
    pthread_mutex_lock(&member->lock);
    workspace->next = member->workspaces;
    member->workspaces = workspace;
    pthread_mutex_unlock(&member->lock);
    sweep(member);
}

int tcc_workspace_get(struct tcc_member *member, struct tcw_packet *reply, struct tcc_workspace **result)
{
    const struct tcw_plan_ready *ready = &reply->payload.PLAN_READY;
    struct tcc_workspace *workspace;

    pthread_mutex_lock(&member->lock);
    for (workspace = member->workspaces; workspace; workspace = workspace->next)
        if (workspace->generation == ready->workspace_generation) {
            workspace->plans++;
            break;
        }
    pthread_mutex_unlock(&member->lock);
    if (!workspace) {
        workspace = create(member, reply);
        if (!workspace)
            return tcc_error()->code;
        add(member, workspace);
    }
    *result = workspace;
    return 0;
}

void tcc_workspace_put(struct tcc_member *member, struct tcc_workspace *workspace)
{
    pthread_mutex_lock(&member->lock);
    workspace->plans--;
    pthread_mutex_unlock(&member->lock);
    sweep(member);
}

void tcc_workspaces_destroy(struct tcc_member *member)
{
    struct tcc_workspace *workspace, *next;

    for (workspace = member->workspaces; workspace; workspace = next) {
        next = workspace->next;
        destroy(member, workspace);
    }
    member->workspaces = NULL;
}
