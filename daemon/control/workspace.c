#include "workspace.h"

#include "daemon.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void tcd_workspace_close_fds(struct tcd_workspace *workspace)
{
    uint32_t i;

    for (i = 0; i < TCW_MAX_RANKS; i++) {
        if (workspace->fds[i] >= 0)
            close(workspace->fds[i]);
        workspace->fds[i] = -1;
    }
}

bool tcd_workspace_has_fds(const struct tcd_workspace *workspace)
{
    return workspace->fds[0] >= 0;
}

static void uncharge(struct tcd_workspace *workspace, uint32_t rank)
{
    struct tcd_member *member = &workspace->instance->members[rank];

    if (!(workspace->charged >> rank & 1))
        return;
    workspace->charged &= ~(1ull << rank);
    tcd_quota_give(&member->client->usage, member->client->account, TCD_BYTES, workspace->bytes);
    member->device->memory_bytes -= workspace->bytes;
}

static void workspace_free(struct tcd_workspace *workspace)
{
    uint32_t i;

    for (i = 0; i < workspace->instance->size; i++)
        uncharge(workspace, i);
    tcd_workspace_close_fds(workspace);
    tcd_list_remove(&workspace->link);
    free(workspace);
}

static int charge_all(struct tcd_workspace *workspace, struct tcw_error *error)
{
    struct tcd_instance *instance = workspace->instance;
    struct tcw_error why;
    char who[64];
    uint32_t i;

    for (i = 0; i < instance->size; i++) {
        struct tcd_member *member = &instance->members[i];

        if (tcd_quota_take(&member->client->usage, member->client->account, &instance->daemon->config->options, TCD_BYTES, workspace->bytes,
                           &why)) {
            tcd_error_set(error, why.code, "workspace of %s: %.190s", tcd_member_text(member, who, sizeof(who)), why.text);
            error->rank = i;
            return error->code;
        }
        workspace->charged |= 1ull << i;
        member->device->memory_bytes += workspace->bytes;
    }
    return 0;
}

struct tcd_workspace *tcd_workspace_create(struct tcd_instance *instance, tcw_lane lane, uint64_t bytes, tcd_executor_done done,
                                           void *(*make_arg)(void *arg, uint32_t rank), void *arg, struct tcw_error *error)
{
    struct tcd_workspace *workspace = calloc(1, sizeof(*workspace));
    uint32_t i;

    if (!workspace) {
        tcd_error_set(error, TCW_ENOMEM, "no memory for a workspace");
        return NULL;
    }
    workspace->instance = instance;
    workspace->lane = lane;
    workspace->bytes = bytes;
    for (i = 0; i < TCW_MAX_RANKS; i++)
        workspace->fds[i] = -1;
    tcd_list_append(&instance->workspaces, &workspace->link);
    if (charge_all(workspace, error)) {
        workspace_free(workspace);
        return NULL;
    }
    workspace->generation = ++instance->generations;
    for (i = 0; i < instance->size; i++) {
        struct tcd_ex_message message = {.opcode = TCD_EX_ALLOC,
                                         .client = instance->members[i].client->id,
                                         .value = bytes,
                                         .rank = i,
                                         .nranks = instance->size,
                                         .workspace_generation = workspace->generation,
                                         .workspace_bytes = bytes};
        void *rank_arg = make_arg(arg, i);

        if (!rank_arg)
            tcd_error_set(error, TCW_ENOMEM, "no memory for a workspace");
        if (!rank_arg || tcd_device_request(instance->members[i].device, &message, NULL, 0, done, rank_arg, error)) {
            free(rank_arg);
            /* Answers that still come find no workspace and close what they bring. */
            workspace_free(workspace);
            return NULL;
        }
        workspace->outstanding++;
    }
    return workspace;
}

bool tcd_workspace_arrived(struct tcd_workspace *workspace, uint32_t rank, int fd)
{
    struct tcd_instance *instance = workspace->instance;
    struct tcd_workspace *older;

    workspace->fds[rank] = fd;
    if (--workspace->outstanding)
        return false;
    older = instance->newest[workspace->lane];
    instance->newest[workspace->lane] = workspace;
    if (older && !older->plans)
        workspace_free(older);
    return true;
}

void tcd_workspace_use(struct tcd_workspace *workspace)
{
    workspace->plans++;
}

void tcd_workspace_drop(struct tcd_workspace *workspace)
{
    if (--workspace->plans || workspace->instance->newest[workspace->lane] == workspace)
        return;
    workspace_free(workspace);
}

void tcd_workspace_retire(struct tcd_workspace *workspace)
{
    if (workspace->instance->newest[workspace->lane] == workspace)
        workspace->instance->newest[workspace->lane] = NULL;
}

void tcd_workspaces_forget_member(struct tcd_member *member)
{
    struct tcd_link *at;

    TCD_EACH (at, &member->instance->workspaces)
        uncharge(TCD_ENTRY(at, struct tcd_workspace, link), member->rank);
}

void tcd_workspaces_free(struct tcd_instance *instance)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &instance->workspaces)
        workspace_free(TCD_ENTRY(at, struct tcd_workspace, link));
}

uint64_t tcd_workspaces_bytes(const struct tcd_instance *instance)
{
    uint64_t bytes = 0;
    struct tcd_link *at;

    TCD_EACH (at, &instance->workspaces)
        bytes += TCD_ENTRY(at, struct tcd_workspace, link)->bytes * instance->size;
    return bytes;
}
