#include "workspace.h"

#include "error.h"
#include "member.h"

#include <string.h>
#include <unistd.h>

static void destroy(struct tcc_member *member, struct tcc_workspace *workspace)
{
    uint32_t i;

    if (workspace->comm)
        tck_comm_destroy(workspace->comm);
    for (i = 0; i < workspace->count; i++)
        tck_memory_release(&workspace->memory[i]);
    tcc_free(member->ctx, workspace);
}

static int map(struct tcc_member *member, struct tcc_workspace *workspace, struct tcw_packet *reply)
{
    uint32_t i;
    int code;

    for (i = 0; i < member->ready.size; i++) {
        code = tck_memory_import(NULL, reply->fds[i], workspace->bytes, &workspace->memory[i]);
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

static int create(struct tcc_member *member, struct tcw_packet *reply, struct tcc_workspace **result)
{
    const struct tcw_plan_ready *ready = &reply->payload.PLAN_READY;
    struct tcc_workspace *workspace;
    int code;

    if (ready->workspace_fds != member->ready.size || reply->fd_count < ready->workspace_fds || !ready->workspace_bytes)
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld sent %u workspaces of %llu bytes with %u descriptors to a group of %u",
                        ready->workspace_fds, (unsigned long long)ready->workspace_bytes, reply->fd_count, member->ready.size);
    workspace = tcc_alloc(member->ctx, sizeof(*workspace));
    if (!workspace)
        return tcc_fail_code(TRTCOLL_ENOMEM, "workspaces");
    workspace->generation = ready->workspace_generation;
    workspace->bytes = ready->workspace_bytes;
    code = map(member, workspace, reply);
    if (!code)
        code = connect_ranks(member, workspace);
    if (code) {
        destroy(member, workspace);
        return code;
    }
    *result = workspace;
    return 0;
}

/* Enters a new generation with its first plan. The one before it has waited for plans only as long as it was the newest. */
static void add(struct tcc_member *member, struct tcc_workspace *workspace)
{
    struct tcc_workspace *previous;

    workspace->plans = 1;
    pthread_mutex_lock(&member->lock);
    previous = member->workspaces;
    if (previous && !previous->plans)
        member->workspaces = previous->next;
    else
        previous = NULL;
    workspace->next = member->workspaces;
    member->workspaces = workspace;
    pthread_mutex_unlock(&member->lock);
    if (previous)
        destroy(member, previous);
}

int tcc_workspace_get(struct tcc_member *member, struct tcw_packet *reply, struct tcc_workspace **result)
{
    const struct tcw_plan_ready *ready = &reply->payload.PLAN_READY;
    struct tcc_workspace *workspace;
    int code;

    pthread_mutex_lock(&member->lock);
    for (workspace = member->workspaces; workspace; workspace = workspace->next)
        if (workspace->generation == ready->workspace_generation) {
            workspace->plans++;
            break;
        }
    pthread_mutex_unlock(&member->lock);
    if (!workspace) {
        code = create(member, reply, &workspace);
        if (code)
            return code;
        add(member, workspace);
    }
    *result = workspace;
    return 0;
}

void tcc_workspace_put(struct tcc_member *member, struct tcc_workspace *workspace)
{
    struct tcc_workspace **link;
    bool last;

    pthread_mutex_lock(&member->lock);
    /* The newest stays for plans to come: the daemon sends each generation once. */
    last = !--workspace->plans && workspace != member->workspaces;
    if (last) {
        for (link = &member->workspaces; *link != workspace; link = &(*link)->next)
            ;
        *link = workspace->next;
    }
    pthread_mutex_unlock(&member->lock);
    if (last)
        destroy(member, workspace);
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
