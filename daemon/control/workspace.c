#include "workspace.h"

#include "daemon.h"
#include "reclaim.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LAST_READ_MS = 200 }; /* runs of a broken group may still read, for less than this */

/* Memory of one rank being made. Outlives the workspace if that does not wait for it, and then keeps the charge until it is answered. */
struct tcd_workspace_order {
    struct tcd_workspace *workspace; /* NULL: it is gone */
    uint32_t rank;
    struct tcd_device *device;
    struct tcd_account *account;
    uint64_t bytes;
    tcd_executor_done done;
    void *arg;
};

static void close_fds(struct tcd_workspace *workspace)
{
    uint32_t i;

    for (i = 0; i < TCW_MAX_RANKS; i++) {
        if (workspace->fds[i] >= 0)
            close(workspace->fds[i]);
        workspace->fds[i] = -1;
    }
    if (workspace->multicast >= 0)
        close(workspace->multicast);
    workspace->multicast = -1;
}

void tcd_workspace_given(struct tcd_workspace *workspace)
{
    workspace->given = true;
    if (workspace->lane == TCW_LANE_SERVED)
        close_fds(workspace);
}

bool tcd_workspace_has_fds(const struct tcd_workspace *workspace)
{
    return workspace->fds[0] >= 0 && !workspace->given;
}

/* The client pays no more, its account does: the memory is still there. */
static void keep_charge(struct tcd_workspace *workspace, uint32_t rank)
{
    struct tcd_client *client = workspace->instance->members[rank].client;

    if (!(workspace->charged >> rank & 1))
        return;
    workspace->charged &= ~(1ull << rank);
    workspace->kept |= 1ull << rank;
    workspace->accounts[rank] = client->account;
    tcd_charge_keep(&client->usage, client->account, workspace->bytes);
}

/* The memory of one rank and its charge come to their end, at the latest when it has been made and taken back. */
static void release_rank(struct tcd_workspace *workspace, uint32_t rank)
{
    struct tcd_workspace_order *order = workspace->orders[rank];
    struct tcd_device *device = workspace->instance->members[rank].device;

    if (order)
        order->workspace = NULL;
    workspace->orders[rank] = NULL;
    keep_charge(workspace, rank);
    if (!(workspace->kept >> rank & 1))
        return;
    workspace->kept &= ~(1ull << rank);
    if (order) {
        order->account = workspace->accounts[rank];
    } else if (workspace->fds[rank] >= 0 && workspace->given) {
        tcd_reclaim(device, workspace->accounts[rank], workspace->fds[rank], workspace->bytes, LAST_READ_MS, NULL, NULL);
        workspace->fds[rank] = -1;
    } else {
        device->memory_bytes -= workspace->bytes;
        tcd_charge_end(workspace->accounts[rank], workspace->bytes);
    }
}

static void workspace_free(struct tcd_workspace *workspace)
{
    uint32_t i;

    for (i = 0; i < workspace->instance->size; i++)
        release_rank(workspace, i);
    close_fds(workspace);
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

static void on_answer(void *arg, const struct tcd_ex_message *answer, int fd)
{
    struct tcd_workspace_order *order = arg;

    if (order->workspace) {
        order->workspace->orders[order->rank] = NULL;
    } else if (order->account) {
        order->device->memory_bytes -= order->bytes;
        tcd_charge_end(order->account, order->bytes);
    }
    order->done(order->arg, answer, fd);
    free(order);
}

/* Asks the executor of a rank. Takes `arg` on success. */
static int order_rank(struct tcd_workspace *workspace, uint32_t rank, tcd_executor_done done, void *arg, struct tcw_error *error)
{
    struct tcd_instance *instance = workspace->instance;
    struct tcd_member *member = &instance->members[rank];
    struct tcd_workspace_order *order = malloc(sizeof(*order));
    struct tcd_ex_message message = {.opcode = TCD_EX_ALLOC,
                                     .client = member->client->id,
                                     .value = workspace->bytes,
                                     .rank = rank,
                                     .nranks = instance->size,
                                     .workspace_generation = workspace->generation,
                                     .workspace_bytes = workspace->bytes};

    if (!order)
        return tcd_error_set(error, TCW_ENOMEM, "no memory for a workspace");
    *order = (struct tcd_workspace_order){
        .workspace = workspace, .rank = rank, .device = member->device, .bytes = workspace->bytes, .done = done, .arg = arg};
    if (tcd_device_request(member->device, &message, NULL, 0, on_answer, order, error)) {
        free(order);
        return error->code;
    }
    workspace->orders[rank] = order;
    workspace->outstanding++;
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
    workspace->multicast = -1;
    tcd_list_append(&instance->workspaces, &workspace->link);
    if (charge_all(workspace, error)) {
        workspace_free(workspace);
        return NULL;
    }
    workspace->generation = ++instance->generations;
    for (i = 0; i < instance->size; i++) {
        void *rank_arg = make_arg(arg, i);

        if (!rank_arg)
            tcd_error_set(error, TCW_ENOMEM, "no memory for a workspace");
        if (!rank_arg || order_rank(workspace, i, done, rank_arg, error)) {
            free(rank_arg);
            /* Answers that still come find no workspace and close what they bring. */
            workspace_free(workspace);
            return NULL;
        }
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
    if (older && !older->plans && !older->captured)
        workspace_free(older);
    return true;
}

void tcd_workspace_use(struct tcd_workspace *workspace)
{
    workspace->plans++;
}

void tcd_workspace_drop(struct tcd_workspace *workspace)
{
    if (--workspace->plans || workspace->captured || workspace->instance->newest[workspace->lane] == workspace)
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
        keep_charge(TCD_ENTRY(at, struct tcd_workspace, link), member->rank);
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
